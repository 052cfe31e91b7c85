#include "split_pattern.h"

#include <array>

namespace winnow::io {
namespace {

enum class Class : uint8_t { letter, number, space, line_end, other };

Class class_of(uint32_t code) {
  if (code == '\n' || code == '\r') return Class::line_end;
  if (unicode::is_space(code)) return Class::space;
  const auto category = unicode::category_bit(code);
  return (category & unicode::kLetter) != 0   ? Class::letter
         : (category & unicode::kNumber) != 0 ? Class::number
                                              : Class::other;
}

constexpr std::array<Class, 128> kAscii = [] {
  std::array<Class, 128> table{};
  for (size_t c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    table[c] = letter                           ? Class::letter
               : c >= '0' && c <= '9'           ? Class::number
               : c == '\n' || c == '\r'         ? Class::line_end
               : c == ' ' || (c >= 9 && c < 14) ? Class::space
                                                : Class::other;
  }
  return table;
}();

struct Seen {
  Class kind;
  uint32_t length;
};
inline Seen see(std::string_view text, size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {kAscii[byte], 1};
  const auto c = unicode::decode(text, at);
  return {class_of(c.code), c.length};
}

inline size_t run_of(Class kind, std::string_view text, size_t at) {
  while (at < text.size()) {
    const auto c = see(text, at);
    if (c.kind != kind) break;
    at += c.length;
  }
  return at;
}

inline bool is_blank(Class kind) {
  return kind == Class::space || kind == Class::line_end;
}

// The end of 's 't 're 've 'm 'll 'd at an apostrophe, or `at`.
size_t contraction(std::string_view text, size_t at, bool any_case) {
  const auto letter = [&](size_t i) {
    const char c = at + i < text.size() ? text[at + i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return at + 3;
  if (any_case && text.substr(at + 1).starts_with("\xC5\xBF")) return at + 3;  // long s
  return at;
}

// The end of a run of blanks from `at`, less its last one where something follows and it is not alone; where the run
// goes up to the last line end in it, if that is wanted.
size_t blanks(std::string_view text, size_t at, bool up_to_line_end) {
  size_t end = at, last = at, line_end = 0;
  while (end < text.size()) {
    const auto c = see(text, end);
    if (!is_blank(c.kind)) break;
    last = end;
    end += c.length;
    if (c.kind == Class::line_end) line_end = end;
  }
  if (up_to_line_end && line_end != 0) return line_end;
  return end == text.size() || last == at ? end : last;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t gpt2_end(std::string_view text, size_t at) {
  if (text[at] == '\'') {
    const auto end = contraction(text, at, false);
    if (end != at) return end;
  }
  auto c = see(text, at);
  if (text[at] == ' ' && at + 1 < text.size()) {
    const auto next = see(text, at + 1);
    if (!is_blank(next.kind)) return run_of(next.kind, text, at + 1 + next.length);
  }
  return is_blank(c.kind) ? blanks(text, at, false) : run_of(c.kind, text, at + c.length);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,D}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
template <int kDigits>
size_t contraction_end(std::string_view text, size_t at) {
  if (text[at] == '\'') {
    const auto end = contraction(text, at, true);
    if (end != at) return end;
  }
  const auto c = see(text, at);
  const auto behind = at + c.length;
  if (c.kind == Class::letter) return run_of(Class::letter, text, behind);
  if (c.kind == Class::number) {
    auto end = behind;
    for (int i = 1; i < kDigits && end < text.size(); ++i) {
      const auto digit = see(text, end);
      if (digit.kind != Class::number) break;
      end += digit.length;
    }
    return end;
  }
  if (c.kind != Class::line_end && behind < text.size()) {
    const auto next = see(text, behind);
    if (next.kind == Class::letter) return run_of(Class::letter, text, behind + next.length);
    if (text[at] == ' ' && next.kind == Class::other)
      return run_of(Class::line_end, text, run_of(Class::other, text, behind + next.length));
  }
  if (c.kind == Class::other) return run_of(Class::line_end, text, run_of(Class::other, text, behind));
  return blanks(text, at, true);
}

struct KnownPattern {
  SplitPattern::Known known;
  std::string_view pattern;
};
constexpr auto kPatterns = std::to_array<KnownPattern>({
    {SplitPattern::Known::gpt2, kGpt2Pattern},
    {SplitPattern::Known::contraction_digits3,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitPattern::Known::contraction_digits1,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
});

}  // namespace

SplitPattern::SplitPattern(const std::string& pattern, bool use_known, const RegexOptions& options) {
  for (const auto& [known, text] : kPatterns) {
    if (use_known && text == pattern) known_ = known;
  }
  if (known_ == Known::none) regex_.emplace(pattern, options);
}

std::optional<Regex::Match> SplitPattern::find(std::string_view text, size_t from) const {
  if (known_ == Known::none) return regex_->find(text, from);
  if (from >= text.size()) return std::nullopt;
  switch (known_) {
    case Known::gpt2: return Regex::Match{from, gpt2_end(text, from)};
    case Known::contraction_digits3: return Regex::Match{from, contraction_end<3>(text, from)};
    default: return Regex::Match{from, contraction_end<1>(text, from)};
  }
}

}  // namespace winnow::io
