// The patterns that cut text into pre-tokens. Those of the well-known models are recognised and matched by hand-written
// loops; any other goes through the general matcher.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "regex.h"

namespace winnow::io {

class SplitPattern {
 public:
  enum class Known { none, gpt2, contraction_digits3, contraction_digits1 };  // GPT-2; Llama 3 and cl100k; Qwen 2

  // `use_known` false: the general matcher in any case. Errors as Regex.
  explicit SplitPattern(const std::string& pattern, bool use_known = true, const RegexOptions& options = {});

  // The leftmost match that begins at or after `from`.
  [[nodiscard]] std::optional<Regex::Match> find(std::string_view text, size_t from) const;
  [[nodiscard]] Known known() const { return known_; }

 private:
  Known known_ = Known::none;
  std::optional<Regex> regex_{};
};

// The pattern of GPT-2, which ByteLevel uses.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace winnow::io
