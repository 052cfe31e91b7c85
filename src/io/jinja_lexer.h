// Text of a template to tokens: data, and the words inside {{ }} and {% %}.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace winnow::io::jinja {

struct Token {
  enum class Kind { data, begin_block, end_block, begin_output, end_output, name, string, integer, number, mark, end };
  Kind kind = Kind::end;
  std::string text{};  // data; the name; the string without quotes and escapes; digits; the mark: "==", "|", ...
  int64_t line = 1;
};

// With trim_blocks and lstrip_blocks, as chat templates are read. Throws Error(file) naming `name` and the line.
std::vector<Token> tokenize(std::string_view text, const std::string& name);

}  // namespace winnow::io::jinja
