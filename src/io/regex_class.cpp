#include <array>

#include "regex_parser.h"

namespace winnow::io {

using Kind = RegexNode::Kind;
using unicode::Category;
using unicode::Trait;

namespace {

constexpr uint32_t kLast = 0x10FFFF;
constexpr int kMaxDepth = 60;

struct Property {
  std::string_view name;
  uint32_t categories;
};
constexpr auto kProperties = std::to_array<Property>({
    {"l", unicode::kLetter},      {"letter", unicode::kLetter},
    {"m", unicode::kMark},        {"mark", unicode::kMark},
    {"n", unicode::kNumber},      {"number", unicode::kNumber},
    {"p", unicode::kPunctuation}, {"punctuation", unicode::kPunctuation},
    {"s", unicode::kSymbol},      {"symbol", unicode::kSymbol},
    {"z", unicode::kSeparator},   {"separator", unicode::kSeparator},
    {"c", unicode::kOther},       {"other", unicode::kOther},
    {"lc", 0b111u << 1},          {"uppercaseletter", 1u << 1},
    {"lowercaseletter", 1u << 2}, {"titlecaseletter", 1u << 3},
    {"modifierletter", 1u << 4},  {"otherletter", 1u << 5},
    {"nonspacingmark", 1u << 6},  {"decimalnumber", 1u << 9},
});
// In the order of unicode::Category.
constexpr std::string_view kCategoryNames =
    "cn"
    "lu"
    "ll"
    "lt"
    "lm"
    "lo"
    "mn"
    "mc"
    "me"
    "nd"
    "nl"
    "no"
    "pc"
    "pd"
    "ps"
    "pe"
    "pi"
    "pf"
    "po"
    "sm"
    "sc"
    "sk"
    "so"
    "zs"
    "zl"
    "zp"
    "cc"
    "cf"
    "cs"
    "co";

}  // namespace

RegexNode RegexParser::literal(uint32_t code) const {
  const auto variants = ignore_case_ ? case_variants(code) : std::vector<uint32_t>();
  if (variants.empty()) return {.kind = Kind::code, .code = code};
  CharSet set;
  set.add(code, code);
  for (const auto c : variants) set.add(c, c);
  set.finish();
  RegexNode node{.kind = Kind::set};
  node.set = std::move(set);
  return node;
}

RegexNode RegexParser::escape() {
  using Op = RegexStep::Op;
  const auto letter = next("an escape");
  const auto assertion = [](Op op) { return RegexNode{.kind = Kind::assertion, .assertion = op}; };
  switch (letter) {
    case 'A': return assertion(Op::text_begin);
    case 'z': return assertion(Op::text_end);
    case 'Z': return assertion(Op::last_line_end);
    case 'b': return assertion(Op::word_edge);
    case 'B': return assertion(Op::no_word_edge);
    default: break;
  }
  CharSet set;
  if (class_escape(letter, set)) return of_set(std::move(set));
  return literal(code_escape(letter));
}

bool RegexParser::class_escape(uint32_t letter, CharSet& set) {
  const bool upper = letter >= 'A' && letter <= 'Z';
  switch (unicode::lower(letter)) {
    case 's': set.add_trait(Trait::space, upper); return true;
    case 'w': set.add_trait(Trait::word, upper); return true;
    case 'd': set.add_categories(unicode::bit(Category::nd), upper); return true;
    case 'h': {
      CharSet digits;
      digits.add('0', '9');
      digits.add('a', 'f');
      digits.add('A', 'F');
      if (upper) digits.negate();
      set.add(std::move(digits));
      return true;
    }
    case 'p': property(upper, set); return true;
    default: return false;
  }
}

uint32_t RegexParser::hexadecimal(int least, int most, const char* inside) {
  uint32_t value = 0;
  int digits = 0;
  for (; digits < most && more(); ++digits, ++at_) {
    const auto c = unicode::lower(peek());
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) break;
    value = value * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
  }
  if (digits < least) bad(std::string("has too few digits in ") + inside);
  if (value > kLast || (value >= 0xD800 && value <= 0xDFFF)) bad(std::string("has no character in ") + inside);
  return value;
}

uint32_t RegexParser::code_escape(uint32_t letter) {
  switch (letter) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    case 'a': return 7;
    case 'e': return 27;
    case 'u': return hexadecimal(4, 4, "\\u");
    case 'x': {
      if (!take("{")) return hexadecimal(1, 2, "\\x");
      const auto code = hexadecimal(1, 8, "\\x{}");
      if (!take("}")) bad("has \\x{ without a }");
      return code;
    }
    default: break;
  }
  if ((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9'))
    unsupported(std::string("\\") + static_cast<char>(letter));
  return letter;
}

void RegexParser::property(bool negated, CharSet& set) {
  std::string name;
  if (take("{")) {
    if (take("^")) negated = !negated;
    for (auto c = next("\\p{"); c != '}'; c = next("\\p{")) {
      if (c != ' ' && c != '_' && c != '-') unicode::append(name, unicode::lower(c));
    }
  } else {
    unicode::append(name, unicode::lower(next("\\p")));
  }
  for (const auto prefix : {"script=", "sc=", "generalcategory=", "gc="}) {
    if (name.starts_with(prefix)) name = name.substr(std::string_view(prefix).size());
  }
  if (name == "han") return set.add_trait(Trait::han, negated);
  if (name == "space" || name == "whitespace") return set.add_trait(Trait::space, negated);
  if (name == "word") return set.add_trait(Trait::word, negated);
  for (const auto& [known, categories] : kProperties) {
    if (name == known) return set.add_categories(categories, negated);
  }
  for (size_t i = 0; name.size() == 2 && i < kCategoryNames.size(); i += 2) {
    if (kCategoryNames.substr(i, 2) == name) return set.add_categories(1u << (i / 2), negated);
  }
  unsupported("\\p{" + name + "}");
}

void RegexParser::posix_class(CharSet& set) {
  const bool negated = take("^");
  std::string name;
  for (auto c = next("[: :]"); c != ':'; c = next("[: :]")) unicode::append(name, c);
  if (!take("]")) bad("has [: without :]");
  if (name == "space") return set.add_trait(Trait::space, negated);
  if (name == "word") return set.add_trait(Trait::word, negated);
  if (name == "digit") return set.add_categories(unicode::bit(Category::nd), negated);
  unsupported("[:" + name + ":]");
}

// One member: a character, a range of characters, an escape that stands for many, or a class.
void RegexParser::class_member(CharSet& set, int depth) {
  const auto one = [&](uint32_t c) { return c == '\\' ? code_escape(next("an escape")) : c; };
  auto c = next("a class");
  if (c == '[') {
    if (take(":")) return posix_class(set);
    return set.add(char_class(depth + 1));
  }
  if (c == '\\' && more()) {
    const auto letter = codes_[at_++];
    if (class_escape(letter, set)) return;
    --at_;
  }
  const auto first = one(c);
  if (peek() != '-' || !more(1) || peek(1) == ']' || peek(1) == '[') return set.add(first, first);
  ++at_;
  c = next("a class");
  if (c == '\\' && (peek() == 's' || peek() == 'w' || peek() == 'd' || peek() == 'p'))
    unsupported("a range up to a class");
  const auto last = one(c);
  if (last < first) bad("has a range whose end is below its beginning");
  set.add(first, last);
}

CharSet RegexParser::char_class(int depth) {
  if (depth > kMaxDepth) unsupported("classes inside each other more than 60 deep");
  CharSet set;
  const bool negated = take("^");
  bool first = true;
  while (first || peek() != ']') {
    if (!more()) bad("has a [ without a ]");
    if (take("&&")) {
      CharSet rest;
      while (peek() != ']' && !(peek() == '&' && peek(1) == '&')) class_member(rest, depth);
      if (ignore_case_) rest.ignore_case();
      set.intersect(std::move(rest));
    } else {
      class_member(set, depth);
    }
    first = false;
  }
  ++at_;
  if (ignore_case_) set.ignore_case();
  if (negated) set.negate();
  return set;
}

}  // namespace winnow::io
