#include "jinja_lexer.h"

#include <algorithm>
#include <array>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

constexpr std::array<std::string_view, 28> kMarks = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/",
                                                     "%",  "~",  "|",  ".",  ",",  ":",  "(", ")", "[", "]",
                                                     "{",  "}",  "<",  ">",  "=",  ";",  "&", "!"};

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name(char c) {
  return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) >= 0x80;
}

// \r\n and \r are line ends, too; one line end at the end of the template is no part of it.
std::string plain_lines(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      result += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      result += text[i];
    }
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

class Lexer {
 public:
  Lexer(std::string text, const std::string& name) : text_(std::move(text)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) {
      const auto open = next_open();
      add_data(open);
      if (open == std::string::npos) break;
      tag(open);
    }
    add(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(const std::string& what) const {
    fail(ErrorKind::file, "{}: line {}: {}", name_, line_, what);
  }

  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({.kind = kind, .text = std::move(text), .line = line_});
  }

  // Moves to `place`, counting lines.
  void advance(std::size_t place) {
    line_ += std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                        text_.begin() + static_cast<std::ptrdiff_t>(place), '\n');
    at_ = place;
  }

  [[nodiscard]] std::size_t next_open() const {
    for (auto i = text_.find('{', at_); i != std::string::npos; i = text_.find('{', i + 1)) {
      if (i + 1 < text_.size() && (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#')) return i;
    }
    return std::string::npos;
  }

  // The text in front of a tag, less the blanks that its sign or lstrip_blocks takes.
  void add_data(std::size_t open) {
    const auto end = std::min(open, text_.size());
    auto data = std::string_view(text_).substr(at_, end - at_);
    if (open != std::string::npos) {
      const char sign = open + 2 < text_.size() ? text_[open + 2] : '\0';
      if (sign == '-') {
        while (!data.empty() && is_blank(data.back())) data.remove_suffix(1);
      } else if (text_[open + 1] != '{' && sign != '+') {
        const auto line = data.rfind('\n');
        const bool starts_line = line != std::string_view::npos || at_ == 0 || text_[at_ - 1] == '\n';
        const auto tail = data.substr(line == std::string_view::npos ? 0 : line + 1);
        if (starts_line && std::all_of(tail.begin(), tail.end(), is_blank)) data.remove_suffix(tail.size());
      }
    }
    if (!data.empty()) add(Token::Kind::data, std::string(data));
    advance(end);
  }

  void tag(std::size_t open) {
    const char kind = text_[open + 1];
    auto start = open + 2;
    if (start < text_.size() && (text_[start] == '-' || (text_[start] == '+' && kind != '{'))) ++start;
    advance(start);
    if (kind == '#') return comment();
    const bool output = kind == '{';
    if (!output && is_raw()) return raw();
    add(output ? Token::Kind::begin_output : Token::Kind::begin_block, "");
    const std::string_view close = output ? "}}" : "%}";
    for (int depth = 0;;) {
      while (at_ < text_.size() && is_blank(text_[at_])) advance(at_ + 1);
      if (at_ >= text_.size()) fail_here(fmt::format("a {} tag has no end {}", output ? "{{" : "{%", close));
      if (depth == 0 && closes(close)) break;
      word(depth);
    }
    add(output ? Token::Kind::end_output : Token::Kind::end_block, "");
    end_tag(close, /*trim_line=*/!output);
  }

  // Whether the tag ends here, with a sign or without.
  [[nodiscard]] bool closes(std::string_view close) const {
    const auto rest = std::string_view(text_).substr(at_);
    const bool sign = rest.starts_with('-') || (rest.starts_with('+') && close != "}}");
    return rest.starts_with(close) || (sign && rest.substr(1).starts_with(close));
  }

  // Moves behind the end of a tag and the blanks that it takes.
  void end_tag(std::string_view close, bool trim_line) {
    const char sign = text_[at_];
    advance(at_ + close.size() + (sign == '-' || sign == '+' ? 1 : 0));
    if (sign == '-') {
      while (at_ < text_.size() && is_blank(text_[at_])) advance(at_ + 1);
    } else if (trim_line && sign != '+' && at_ < text_.size() && text_[at_] == '\n') {
      advance(at_ + 1);
    }
  }

  void comment() {
    const auto end = text_.find("#}", at_);
    if (end == std::string::npos) fail_here("a comment has no end #}");
    const bool sign = end > at_ && (text_[end - 1] == '-' || text_[end - 1] == '+');
    advance(sign ? end - 1 : end);
    end_tag("#}", /*trim_line=*/true);
  }

  [[nodiscard]] std::string_view block_word(std::size_t place) const {
    while (place < text_.size() && is_blank(text_[place])) ++place;
    auto end = place;
    while (end < text_.size() && is_name(text_[end])) ++end;
    return std::string_view(text_).substr(place, end - place);
  }
  [[nodiscard]] bool is_raw() const { return block_word(at_) == "raw"; }

  void raw() {
    const auto close = text_.find("%}", at_);
    if (close == std::string::npos) fail_here("a {% tag has no end %}");
    advance(text_[close - 1] == '-' || text_[close - 1] == '+' ? close - 1 : close);
    end_tag("%}", /*trim_line=*/true);
    for (auto open = text_.find("{%", at_); open != std::string::npos; open = text_.find("{%", open + 1)) {
      auto inside = open + 2;
      if (inside < text_.size() && (text_[inside] == '-' || text_[inside] == '+')) ++inside;
      if (block_word(inside) != "endraw") continue;
      add_data(open);
      const auto end = text_.find("%}", inside);
      if (end == std::string::npos) break;
      advance(text_[end - 1] == '-' || text_[end - 1] == '+' ? end - 1 : end);
      return end_tag("%}", /*trim_line=*/true);
    }
    fail_here("raw has no endraw");
  }

  // One word inside a tag.
  void word(int& depth) {
    const char c = text_[at_];
    if (c == '"' || c == '\'') return string(c);
    if (is_digit(c)) return number();
    if (is_name(c)) {
      auto end = at_;
      while (end < text_.size() && is_name(text_[end])) ++end;
      add(Token::Kind::name, text_.substr(at_, end - at_));
      return advance(end);
    }
    const auto rest = std::string_view(text_).substr(at_);
    const auto* const mark = std::find_if(kMarks.begin(), kMarks.end(), [&](auto m) { return rest.starts_with(m); });
    if (mark == kMarks.end()) fail_here(fmt::format("unexpected character {}", json_quote(printable(rest, 8))));
    if (*mark == "(" || *mark == "[" || *mark == "{") ++depth;
    if (*mark == ")" || *mark == "]" || *mark == "}") --depth;
    if (depth < 0) fail_here(fmt::format("unexpected {}", *mark));
    add(Token::Kind::mark, std::string(*mark));
    advance(at_ + mark->size());
  }

  void number() {
    auto end = at_;
    const auto digits = [&] {
      while (end < text_.size() && (is_digit(text_[end]) || text_[end] == '_')) ++end;
    };
    digits();
    bool real = false;
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
      real = true;
      ++end;
      digits();
    }
    if (end + 1 < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      const auto sign = end + 1 + (text_[end + 1] == '-' || text_[end + 1] == '+' ? 1U : 0U);
      if (sign < text_.size() && is_digit(text_[sign])) {
        real = true;
        end = sign;
        digits();
      }
    }
    auto text = text_.substr(at_, end - at_);
    std::erase(text, '_');
    add(real ? Token::Kind::number : Token::Kind::integer, text);
    advance(end);
  }

  void string(char quote) {
    std::string value;
    auto i = at_ + 1;
    for (; i < text_.size() && text_[i] != quote; ++i) {
      if (text_[i] != '\\' || i + 1 >= text_.size()) {
        value += text_[i];
        continue;
      }
      i = escape(i + 1, value);
    }
    if (i >= text_.size()) fail_here("a string has no end");
    add(Token::Kind::string, value);
    advance(i + 1);
  }

  // The escape whose character behind the backslash is at i; returns its last place.
  std::size_t escape(std::size_t i, std::string& value) {
    constexpr std::string_view kFrom = "ntrbfva0\\'\"", kTo("\n\t\r\b\f\v\a\0\\'\"", 11);
    const char c = text_[i];
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      uint32_t code = 0;
      for (std::size_t k = 1; k <= digits; ++k) {
        const auto digit = std::string_view("0123456789abcdef").find(i + k < text_.size() ? lower(text_[i + k]) : ' ');
        if (digit == std::string_view::npos) fail_here("a damaged escape in a string");
        code = code * 16 + static_cast<uint32_t>(digit);
      }
      add_code(code, value);
      return i + digits;
    }
    if (const auto found = kFrom.find(c); found != std::string_view::npos) {
      value += kTo[found];
    } else if (c != '\n') {
      value += '\\';
      value += c;
    }
    return i;
  }
  static char lower(char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; }

  void add_code(uint32_t code, std::string& out) const {
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) fail_here("a string holds an escape of no character");
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | (code >> 6));
      out += tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xe0 | (code >> 12));
      (out += tail(6)) += tail(0);
    } else {
      out += static_cast<char>(0xf0 | (code >> 18));
      ((out += tail(12)) += tail(6)) += tail(0);
    }
  }

  std::string text_;
  const std::string& name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text, const std::string& name) {
  return Lexer(plain_lines(text), name).run();
}

}  // namespace winnow::io::jinja
