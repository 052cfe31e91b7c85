// Unicode normal forms that keep track of where each character came from.
#include <algorithm>

#include "normalizer.h"
#include "unicode.h"

namespace winnow::io {
namespace {

struct Part {
  CharChange change;
  uint8_t ccc;
};

// Marks between two starters come in the order of their classes; equal classes keep their order.
void order_marks(std::vector<Part>& parts) {
  for (size_t begin = 0; begin < parts.size();) {
    if (parts[begin].ccc == 0) {
      ++begin;
      continue;
    }
    auto end = begin;
    while (end < parts.size() && parts[end].ccc != 0) ++end;
    std::stable_sort(parts.begin() + static_cast<int64_t>(begin), parts.begin() + static_cast<int64_t>(end),
                     [](const Part& a, const Part& b) { return a.ccc < b.ccc; });
    begin = end;
  }
}

// Each mark (or vowel) that combines with the last starter, and is not blocked, is taken into it.
void compose(std::vector<Part>& parts) {
  size_t kept = 0;
  size_t starter = parts.size();
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto part = parts[i];
    const bool have = starter < kept;
    const bool adjacent = have && kept == starter + 1;
    const bool blocked = have && !adjacent && parts[kept - 1].ccc >= part.ccc;
    const auto joined = have && !blocked ? unicode::compose(parts[starter].change.code, part.change.code) : 0;
    if (joined != 0) {
      parts[starter].change.code = joined;
      parts[starter].change.change += part.change.change - 1;
      continue;
    }
    parts[kept] = part;
    if (part.ccc == 0) starter = kept;
    ++kept;
  }
  parts.resize(kept);
}

}  // namespace

void normal_form(AlignedText& text, bool compatibility, bool composed) {
  if (unicode::is_ascii(text.text)) return;
  std::vector<Part> parts;
  std::vector<uint32_t> decomposed;
  for (const auto code : unicode::to_codes(text.text)) {
    decomposed.clear();
    unicode::decompose(code, compatibility, decomposed);
    for (size_t i = 0; i < decomposed.size(); ++i)
      parts.push_back({{decomposed[i], i == 0 ? 0 : 1}, unicode::combining_class(decomposed[i])});
  }
  order_marks(parts);
  if (composed) compose(parts);
  std::vector<CharChange> changes;
  changes.reserve(parts.size());
  for (const auto& part : parts) changes.push_back(part.change);
  text.transform(changes);
}

}  // namespace winnow::io
