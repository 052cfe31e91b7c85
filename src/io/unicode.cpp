#include "unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "winnow/core/text.h"

namespace winnow::io::unicode {
namespace {

struct Range {
  uint32_t first, last;
};
struct CategoryRange {
  uint32_t first, last;
  Category category;
};
struct LowerRange {
  uint32_t first, last;
  int32_t distance;
};

#include "unicode_tables.inc"

constexpr uint32_t kCodes = 0x110000;
using Table = std::unique_ptr<uint16_t[]>;

template <typename Ranges>
void set(uint16_t* table, const Ranges& ranges, Trait trait) {
  for (const auto& range : ranges) {
    for (auto c = range.first; c <= range.last; ++c) table[c] |= static_cast<uint16_t>(trait);
  }
}
template <typename Ranges>
void clear(uint16_t* table, const Ranges& ranges, Trait trait) {
  for (const auto& range : ranges) {
    for (auto c = range.first; c <= range.last; ++c) table[c] &= static_cast<uint16_t>(~static_cast<uint16_t>(trait));
  }
}

// Categories of Unicode 14, and the traits that follow from them.
void fill_categories(uint16_t* table) {
  for (uint32_t c = 0; c < kCodes; ++c) table[c] = static_cast<uint16_t>(utf8proc_category(static_cast<int32_t>(c)));
  const bool newer = std::string(utf8proc_unicode_version()) != "14.0.0";
  for (const auto& range : kLater) {
    for (auto c = range.first; c <= range.last && newer; ++c) table[c] = 0;
  }
  for (uint32_t c = 0; c < kCodes; ++c) {
    const auto category = 1u << table[c];
    uint32_t traits = 0;
    const auto add = [&](uint32_t wanted, Trait trait) {
      if ((category & wanted) != 0) traits |= static_cast<uint32_t>(trait);
    };
    add(kPunctuation, Trait::bert_punctuation);
    add(bit(Category::mn), Trait::bert_mark);
    add(kMark, Trait::accent);
    add(bit(Category::cc) | bit(Category::cf) | bit(Category::co), Trait::bert_control);
    table[c] = static_cast<uint16_t>(table[c] | traits);
  }
}

Table make_table() {
  Table made(new uint16_t[kCodes]);
  auto* table = made.get();
  fill_categories(table);
  for (const auto& range : kLater) {
    for (auto c = range.first; c <= range.last; ++c)
      table[c] = static_cast<uint16_t>((table[c] & ~31u) | static_cast<uint32_t>(range.category));
  }
  constexpr auto kWordCategories = kLetter | kMark | bit(Category::nd) | bit(Category::nl) | bit(Category::pc);
  for (uint32_t c = 0; c < kCodes; ++c) {
    const auto category = 1u << (table[c] & 31u);
    if ((category & kWordCategories) != 0) table[c] |= static_cast<uint16_t>(Trait::word);
    if ((category & kNumber) != 0) table[c] |= static_cast<uint16_t>(Trait::numeric);
    if ((category & kSeparator) != 0) table[c] |= static_cast<uint16_t>(Trait::space);
  }
  set(table, std::array<Range, 2>{{{0x9, 0xD}, {0x85, 0x85}}}, Trait::space);
  set(table, kWord, Trait::word);
  set(table, kNumeric, Trait::numeric);
  set(table, kHan, Trait::han);
  set(table, kInert, Trait::inert);
  constexpr std::array<Range, 4> kAsciiMarks = {{{0x21, 0x2F}, {0x3A, 0x40}, {0x5B, 0x60}, {0x7B, 0x7E}}};
  clear(table, kNoBertPunctuation, Trait::bert_punctuation);
  set(table, kBertPunctuation, Trait::bert_punctuation);
  set(table, kAsciiMarks, Trait::bert_punctuation);
  clear(table, kNoBertMark, Trait::bert_mark);
  set(table, kBertMark, Trait::bert_mark);
  clear(table, kNoAccent, Trait::accent);
  set(table, kAccent, Trait::accent);
  clear(table, kNoBertControl, Trait::bert_control);
  clear(table, std::array<Range, 2>{{{0x9, 0xA}, {0xD, 0xD}}}, Trait::bert_control);
  set(table, kBertControl, Trait::bert_control);
  return made;
}

}  // namespace

const uint16_t* table() {
  static const Table made = make_table();
  static const uint16_t* const plain = made.get();
  return plain;
}

void append(std::string& text, uint32_t code) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::vector<uint32_t> to_codes(std::string_view text) {
  std::vector<uint32_t> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto c = decode(text, at);
    codes.push_back(c.code);
    at += c.length;
  }
  return codes;
}

int64_t count(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); });
}

bool is_ascii(std::string_view text) {
  uint8_t any = 0;
  for (const char byte : text) any = static_cast<uint8_t>(any | static_cast<unsigned char>(byte));
  return any < 0x80;
}

size_t find_invalid(std::string_view text) {
  constexpr size_t kBlock = 64;
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      at += at + kBlock <= text.size() && is_ascii(text.substr(at, kBlock)) ? kBlock : 1;
      continue;
    }
    const auto length = utf8_length(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

namespace {

// How many bytes at the beginning of text can begin a character: the maximal part of an ill-formed sequence, at least
// 1. `complete` tells whether they are one.
size_t maximal_part(std::string_view text, bool& complete) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto first = byte(0);
  complete = first < 0x80;
  const size_t length = first < 0x80 ? 1 : first < 0xC2 || first > 0xF4 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (length <= 1) return 1;
  const auto low = first == 0xE0 ? 0xA0u : first == 0xF0 ? 0x90u : 0x80u;
  const auto high = first == 0xED ? 0x9Fu : first == 0xF4 ? 0x8Fu : 0xBFu;
  size_t used = 1;
  while (used < length && byte(used) >= (used == 1 ? low : 0x80u) && byte(used) <= (used == 1 ? high : 0xBFu)) ++used;
  complete = used == length;
  return used;
}

}  // namespace

std::string repair(std::string_view text) {
  std::string out;
  for (auto bad = find_invalid(text); bad != std::string_view::npos; bad = find_invalid(text)) {
    bool complete = false;
    out.append(text.substr(0, bad)).append("\xEF\xBF\xBD");
    text.remove_prefix(bad + maximal_part(text.substr(bad), complete));
  }
  return out.append(text);
}

size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto tail = text.substr(text.size() - back);
    if (is_continuation(tail[0])) continue;
    bool complete = false;
    const auto used = maximal_part(tail, complete);
    const auto first = static_cast<unsigned char>(tail[0]);
    return !complete && used == back && first >= 0xC2 && first <= 0xF4 ? back : 0;
  }
  return 0;
}

uint32_t lower(uint32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  if (code == 0x130) return 'i';
  for (const auto& range : kLaterLower) {
    if (code >= range.first && code <= range.last)
      return static_cast<uint32_t>(static_cast<int32_t>(code) + range.distance);
  }
  return static_cast<uint32_t>(utf8proc_tolower(static_cast<int32_t>(code)));
}

uint32_t upper(uint32_t code) {
  return static_cast<uint32_t>(utf8proc_toupper(static_cast<int32_t>(code)));
}

void decompose(uint32_t code, bool compatibility, std::vector<uint32_t>& out) {
  if (code < 0xA0 || has(code, Trait::inert)) {
    out.push_back(code);
    return;
  }
  std::array<int32_t, 32> buffer{};  // the longest decomposition has 18 characters
  int last_class = 0;
  const int options = UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
  const auto length = utf8proc_decompose_char(static_cast<int32_t>(code), buffer.data(), buffer.size(),
                                              static_cast<utf8proc_option_t>(options), &last_class);
  if (length <= 0 || length > static_cast<int64_t>(buffer.size())) {
    out.push_back(code);
    return;
  }
  for (int64_t i = 0; i < length; ++i) out.push_back(static_cast<uint32_t>(buffer[static_cast<size_t>(i)]));
}

uint8_t combining_class(uint32_t code) {
  if (code < 0x300 || has(code, Trait::inert)) return 0;
  return static_cast<uint8_t>(utf8proc_get_property(static_cast<int32_t>(code))->combining_class);
}

uint32_t compose(uint32_t first, uint32_t second) {
  if (second < 0x300 || has(first, Trait::inert) || has(second, Trait::inert)) return 0;
  std::array<int32_t, 2> pair = {static_cast<int32_t>(first), static_cast<int32_t>(second)};
  const auto length =
      utf8proc_normalize_utf32(pair.data(), 2, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  return length == 1 && !has(static_cast<uint32_t>(pair[0]), Trait::inert) ? static_cast<uint32_t>(pair[0]) : 0;
}

bool grapheme_break(uint32_t first, uint32_t second, int32_t& state) {
  return utf8proc_grapheme_break_stateful(static_cast<int32_t>(first), static_cast<int32_t>(second), &state);
}

}  // namespace winnow::io::unicode
