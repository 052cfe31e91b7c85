// Sets of characters as patterns write them: [^\s\p{L}\p{N}], \w, [a-z&&[^aeiou]].
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "unicode.h"

namespace winnow::io {

class CharSet {
 public:
  void add(uint32_t first, uint32_t last) { parts_.push_back({Kind::range, false, first, last}); }
  void add_categories(uint32_t mask, bool negated) { parts_.push_back({Kind::categories, negated, mask, 0}); }
  void add_trait(unicode::Trait trait, bool negated) {
    parts_.push_back({Kind::trait, negated, static_cast<uint32_t>(trait), 0});
  }
  void add(CharSet set);
  void intersect(CharSet set) { others_.push_back(std::move(set)); }
  void negate() { negated_ = !negated_; }
  void ignore_case() { fold_ = true; }
  void finish();  // after the last change: prepares contains()

  [[nodiscard]] bool contains(uint32_t code) const { return code < 0x80 ? ascii_[code] : slow_contains(code); }

 private:
  enum class Kind : uint8_t { range, categories, trait, set };
  struct Part {
    Kind kind;
    bool negated;
    uint32_t a, b;
  };
  [[nodiscard]] bool slow_contains(uint32_t code) const;
  [[nodiscard]] bool any_part(uint32_t code) const;

  std::vector<Part> parts_;
  std::vector<CharSet> sets_;    // named by parts of kind set
  std::vector<CharSet> others_;  // all of which must contain it too
  bool negated_ = false, fold_ = false;
  std::array<bool, 128> ascii_{};
};

// The other spellings of a character where case is ignored; itself is not among them.
std::vector<uint32_t> case_variants(uint32_t code);

}  // namespace winnow::io
