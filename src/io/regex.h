// Regular expressions over Unicode text, as the Split and Replace components of published tokenizers write them: a
// small backtracking matcher with the meaning of the Oniguruma library (Ruby syntax) for what it supports.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "char_set.h"

namespace winnow::io {

struct RegexOptions {
  // True: a{1,3}+ never gives back (as in tiktoken's patterns). False: it is (a{1,3})+, as Oniguruma reads it.
  bool possessive_interval = false;
};

// One step of the compiled pattern.
struct RegexStep {
  enum class Op : uint8_t {
    code,    // the character a
    set,     // a character of sets[a]
    repeat,  // greedy run of sets[a], b to c of them
    fork,    // try a, then b
    jump,    // to a
    look,    // the part from a to its `match` must (not, if negated) match here, or end here if behind; then go to b
    atomic,  // match the part from a, never to come back into it; then go to b
    line_begin,
    line_end,
    text_begin,
    text_end,
    last_line_end,
    word_edge,
    no_word_edge,
    match,
  };
  Op op;
  bool negated = false, behind = false;
  uint32_t a = 0, b = 0, c = 0;  // for look behind: c = characters to step back
};

// Supported: literals, escapes (\n \r \t \f \v \e \xHH \x{H} \uHHHH and escaped marks), . \s \S \d \D \w \W \h \H
// \p{..}
// \P{..} \p{^..} with categories, Han, Alpha-free; classes with ranges, negation, nested classes and &&; groups (..),
// (?:..),
// (?i:..), (?i), (?>..); look-ahead; look-behind of fixed length; | ; greedy, lazy and possessive quantifiers; ^ $ \A
// \z \Z \b \B. Thread safe.
class Regex {
 public:
  struct Match {
    size_t begin, end;
  };
  // Throws Error(unsupported), naming what, for a construct outside the list; Error(argument) for a malformed pattern.
  explicit Regex(std::string_view pattern, const RegexOptions& options = {});

  // The leftmost match in text (valid UTF-8) that begins at or after `from`. Throws Error(unsupported) where the
  // pattern takes more than fifty million steps.
  [[nodiscard]] std::optional<Match> find(std::string_view text, size_t from) const;
  [[nodiscard]] const std::string& pattern() const { return pattern_; }

 private:
  struct Frame;
  struct Run;
  [[nodiscard]] std::optional<size_t> match_at(Run& run, uint32_t step, size_t at) const;
  bool execute(Run& run, const RegexStep& step, uint32_t& pc, size_t& at) const;
  bool look(Run& run, const RegexStep& step, size_t at) const;
  bool repeat(Run& run, const RegexStep& step, uint32_t pc, size_t& at) const;

  std::string pattern_;
  std::vector<RegexStep> steps_;
  std::vector<CharSet> sets_;
};

// A pattern that matches exactly this text.
std::string regex_quote(std::string_view text);

struct RegexProgram {
  std::vector<RegexStep> steps;
  std::vector<CharSet> sets;
};
RegexProgram compile_regex(std::string_view pattern, const RegexOptions& options);  // regex_compile.cpp

}  // namespace winnow::io
