// The syntax tree of a pattern.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "regex.h"

namespace winnow::io {

struct RegexNode {
  enum class Kind : uint8_t { code, set, sequence, choice, loop, look, atomic, assertion };
  enum class Greed : uint8_t { greedy, lazy, possessive };
  static constexpr uint32_t kUnlimited = std::numeric_limits<uint32_t>::max();

  Kind kind = Kind::sequence;
  Greed greed = Greed::greedy;
  bool negated = false, behind = false;            // look
  RegexStep::Op assertion = RegexStep::Op::match;  // assertion
  uint32_t code = 0;                               // code
  uint32_t least = 0, most = 0;                    // loop
  CharSet set{};                                   // set
  std::vector<RegexNode> children{};
};

RegexNode parse_regex(std::string_view pattern, const RegexOptions& options);

}  // namespace winnow::io
