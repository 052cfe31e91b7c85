#include "winnow/io/charsmap.h"

#include <cstring>

#include "unicode.h"
#include "winnow/core/error.h"

namespace winnow::io {
namespace {

// The fields of a unit of the double array, as the Darts-clone library packs them.
bool has_leaf(uint32_t unit) {
  return ((unit >> 8) & 1) == 1;
}
uint32_t value_of(uint32_t unit) {
  return unit & 0x7fffffff;
}
uint32_t label_of(uint32_t unit) {
  return unit & 0x800000ff;
}
uint32_t offset_of(uint32_t unit) {
  return (unit >> 10) << ((unit & (1U << 9)) >> 6);
}

}  // namespace

Charsmap::Charsmap(Bytes blob, const std::string& name) {
  uint32_t size = 0;
  WINNOW_CHECK_KIND(blob.size() >= 4, ErrorKind::file, "{}: a character map of {} bytes is too short", name,
                    blob.size());
  std::memcpy(&size, blob.data(), 4);
  WINNOW_CHECK_KIND(size >= 4 && size % 4 == 0 && size <= blob.size() - 4, ErrorKind::file,
                    "{}: the character map is damaged: a trie of {} bytes in {}", name, size, blob.size());
  units_.resize(size / 4);
  std::memcpy(units_.data(), blob.data() + 4, size);
  replacements_ = as_text(blob.subspan(4 + std::size_t{size}));
  WINNOW_CHECK_KIND(replacements_.empty() || replacements_.back() == '\0', ErrorKind::file,
                    "{}: the character map is damaged: its last replacement has no end", name);
}

template <typename Visit>
void Charsmap::visit_prefixes(std::string_view text, Visit visit) const {
  std::size_t node = offset_of(units_.front());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) return;
    const auto unit = units_[node];
    node ^= offset_of(unit);
    if (has_leaf(unit) && node < units_.size()) visit(i + 1, value_of(units_[node]));
  }
}

CharsmapRule Charsmap::rule(std::size_t length, uint32_t value) const {
  if (value >= replacements_.size()) return {.length = length, .replacement = {}};
  return {.length = length, .replacement = replacements_.c_str() + value};
}

std::optional<CharsmapRule> Charsmap::longest(std::string_view text) const {
  std::optional<CharsmapRule> found;
  visit_prefixes(text, [&](std::size_t length, uint32_t value) { found = rule(length, value); });
  return found;
}

std::optional<CharsmapRule> Charsmap::shortest(std::string_view text) const {
  std::optional<CharsmapRule> found;
  visit_prefixes(text, [&](std::size_t length, uint32_t value) {
    if (!found) found = rule(length, value);
  });
  return found;
}

std::vector<CharsmapPiece> apply_precompiled(const Charsmap& map, std::string_view text) {
  constexpr std::size_t kShortCluster = 6;  // bytes; a cluster below is looked up as a whole
  std::vector<CharsmapPiece> pieces;
  const auto take = [&](std::size_t begin, std::size_t end) {
    const auto found = map.shortest(text.substr(begin, end - begin));
    if (found) pieces.push_back({.begin = begin, .end = end, .replacement = std::string(found->replacement)});
    return found.has_value();
  };
  for (std::size_t begin = 0; begin < text.size();) {
    auto [code, length] = unicode::decode(text, begin);
    auto end = begin + length;
    for (int32_t state = 0; end < text.size();) {
      const auto next = unicode::decode(text, end);
      if (unicode::grapheme_break(code, next.code, state)) break;
      code = next.code;
      end += next.length;
    }
    if (end - begin >= kShortCluster || !take(begin, end)) {
      for (auto at = begin; at < end;) {
        const auto next = at + unicode::length_of(text[at]);
        if (!take(at, next)) {
          pieces.push_back({.begin = at, .end = next, .replacement = std::string(text.substr(at, next - at))});
        }
        at = next;
      }
    }
    begin = end;
  }
  return pieces;
}

}  // namespace winnow::io
