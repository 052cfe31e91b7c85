#include "char_set.h"

#include <algorithm>
#include <utility>

namespace winnow::io {

std::vector<uint32_t> case_variants(uint32_t code) {
  std::vector<uint32_t> found;
  const auto add = [&](uint32_t c) {
    if (c != code && std::find(found.begin(), found.end(), c) == found.end()) found.push_back(c);
  };
  constexpr uint32_t kLongS = 0x17F, kKelvin = 0x212A, kAngstrom = 0x212B, kDottedI = 0x130;
  if (code == kDottedI) return found;  // folds to two characters
  add(unicode::lower(code));
  add(unicode::upper(code));
  add(unicode::upper(unicode::lower(code)));
  add(unicode::lower(unicode::upper(code)));
  if (code == 's' || code == 'S') add(kLongS);
  if (code == 'k' || code == 'K') add(kKelvin);
  if (code == 0xE5 || code == 0xC5) add(kAngstrom);
  return found;
}

void CharSet::add(CharSet set) {
  parts_.push_back({Kind::set, false, static_cast<uint32_t>(sets_.size()), 0});
  sets_.push_back(std::move(set));
}

void CharSet::finish() {
  for (auto& set : sets_) set.finish();
  for (auto& set : others_) set.finish();
  for (uint32_t c = 0; c < ascii_.size(); ++c) ascii_[c] = slow_contains(c);
}

bool CharSet::any_part(uint32_t code) const {
  return std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) {
    bool inside = false;
    switch (part.kind) {
      case Kind::range: inside = code >= part.a && code <= part.b; break;
      case Kind::categories: inside = (unicode::category_bit(code) & part.a) != 0; break;
      case Kind::trait: inside = unicode::has(code, static_cast<unicode::Trait>(part.a)); break;
      case Kind::set: inside = sets_[part.a].slow_contains(code); break;
    }
    return inside != part.negated;
  });
}

bool CharSet::slow_contains(uint32_t code) const {
  bool inside = any_part(code);
  if (!inside && fold_) {
    const auto variants = case_variants(code);
    inside = std::any_of(variants.begin(), variants.end(), [&](uint32_t c) { return any_part(c); });
  }
  inside =
      inside && std::all_of(others_.begin(), others_.end(), [&](const CharSet& s) { return s.slow_contains(code); });
  return inside != negated_;
}

}  // namespace winnow::io
