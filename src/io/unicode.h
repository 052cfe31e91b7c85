// Characters as published tokenizers see them: categories, blanks, normal forms. The data are those of utf8proc, put
// right where the tokenizers of published models were made with older or newer tables (unicode_tables.inc).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace winnow::io::unicode {

// The numbers are utf8proc's.
enum class Category : uint8_t {
  cn,
  lu,
  ll,
  lt,
  lm,
  lo,
  mn,
  mc,
  me,
  nd,
  nl,
  no,
  pc,
  pd,
  ps,
  pe,
  pi,
  pf,
  po,
  sm,
  sc,
  sk,
  so,
  zs,
  zl,
  zp,
  cc,
  cf,
  cs,
  co,
};

constexpr uint32_t bit(Category category) {
  return 1u << static_cast<uint32_t>(category);
}
constexpr uint32_t kLetter = 0b11111u << 1, kMark = 0b111u << 6, kNumber = 0b111u << 9, kPunctuation = 0b1111111u << 12,
                   kSymbol = 0b1111u << 19, kSeparator = 0b111u << 23, kOther = (0b1111u << 26) | 1u;

// What is known of one character beside its category. Code points past U+10FFFF have category cn and no trait.
enum class Trait : uint16_t {
  space = 1 << 5,             // \s of patterns: White_Space
  word = 1 << 6,              // \w of patterns
  bert_punctuation = 1 << 7,  // of the Bert and Punctuation pre-tokenizers
  bert_mark = 1 << 8,         // removed by BertNormalizer's strip_accents
  accent = 1 << 9,            // removed by StripAccents
  bert_control = 1 << 10,     // removed by BertNormalizer's clean_text
  numeric = 1 << 11,          // of the Digits pre-tokenizer
  inert = 1 << 12,            // normal forms leave it alone
  han = 1 << 13,
};

// One word per code point: the category in the low five bits, traits above.
const uint16_t* table();
inline uint16_t lookup(uint32_t code) {
  return code < 0x110000 ? table()[code] : 0;
}
inline bool has(uint32_t code, Trait trait) {
  return (lookup(code) & static_cast<uint16_t>(trait)) != 0;
}
inline uint32_t category_bit(uint32_t code) {
  return 1u << (lookup(code) & 31u);
}
// \w of the Whitespace pre-tokenizer and of single_word: without the superscripts and fractions of Latin-1 that
// patterns count, with the two joiners.
inline bool is_plain_word(uint32_t code) {
  if (code == 0x200C || code == 0x200D) return true;
  return has(code, Trait::word) && (code >= 0x100 || code < 0xB2 || code > 0xBE || code == 0xB5 || code == 0xBA);
}
inline bool is_space(uint32_t code) {
  return code < 0x80 ? code == ' ' || (code >= 9 && code <= 13) : has(code, Trait::space);
}

// The code point at text[at], which must be valid UTF-8, and its length in bytes.
struct Decoded {
  uint32_t code;
  uint32_t length;
};
inline Decoded decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
  const auto first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0xF) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(first & 7) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}
// The length of a character of valid UTF-8 by its first byte.
inline uint32_t length_of(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
inline bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}
// Where the character before `at` (> 0) begins.
inline size_t previous(std::string_view text, size_t at) {
  do --at;
  while (is_continuation(text[at]));
  return at;
}

void append(std::string& text, uint32_t code);  // code is a code point that UTF-8 can write
std::vector<uint32_t> to_codes(std::string_view text);
int64_t count(std::string_view text);  // code points of valid UTF-8
bool is_ascii(std::string_view text);

// The place of the first byte that is no UTF-8, or npos.
size_t find_invalid(std::string_view text);
// Each maximal part of an ill-formed sequence becomes U+FFFD, as the Unicode standard recommends.
std::string repair(std::string_view text);
// How many bytes at the end of text are the beginning of a character that further bytes may complete: 0 to 3.
size_t incomplete_tail(std::string_view text);

// Lower and upper case by character; U+0130 alone becomes two: i and U+0307 (lower() gives the first).
uint32_t lower(uint32_t code);
uint32_t upper(uint32_t code);

// Canonical or compatibility decomposition of one character, in full; combining class; the composition of two
// characters or 0. As of Unicode 9: characters that came later are left alone.
void decompose(uint32_t code, bool compatibility, std::vector<uint32_t>& out);
uint8_t combining_class(uint32_t code);
uint32_t compose(uint32_t first, uint32_t second);

// Whether an extended grapheme cluster ends between the two characters; state begins at 0.
bool grapheme_break(uint32_t first, uint32_t second, int32_t& state);

}  // namespace winnow::io::unicode
