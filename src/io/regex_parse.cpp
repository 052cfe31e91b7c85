#include "regex_parser.h"

namespace winnow::io {

using Kind = RegexNode::Kind;

namespace {
constexpr int kMaxDepth = 60;
constexpr uint32_t kMaxCount = 1000, kLast = 0x10FFFF;
}  // namespace

RegexNode RegexParser::choice(int depth) {
  if (depth > kMaxDepth) unsupported("groups inside each other more than 60 deep");
  const bool ignore_case = ignore_case_, dot_all = dot_all_;
  RegexNode result{.kind = Kind::choice};
  do result.children.push_back(sequence(depth));
  while (take("|"));
  ignore_case_ = ignore_case;
  dot_all_ = dot_all;
  if (result.children.size() > 1) return result;
  auto only = std::move(result.children.front());
  return only;
}

RegexNode RegexParser::sequence(int depth) {
  RegexNode result{.kind = Kind::sequence};
  while (more() && peek() != '|' && peek() != ')') {
    if (auto node = atom(depth)) result.children.push_back(quantified(std::move(*node)));
  }
  return result;
}

std::optional<RegexNode> RegexParser::atom(int depth) {
  const auto c = next("an expression");
  using Op = RegexStep::Op;
  switch (c) {
    case '(': return group(depth + 1);
    case '[': return of_set(char_class(depth + 1));
    case '.': {
      CharSet set;
      set.add(0, dot_all_ ? kLast : '\n' - 1);
      set.add('\n' + 1, kLast);
      set.finish();
      RegexNode node{.kind = Kind::set};
      node.set = std::move(set);
      return node;
    }
    case '\\': return escape();
    case '^': return RegexNode{.kind = Kind::assertion, .assertion = Op::line_begin};
    case '$': return RegexNode{.kind = Kind::assertion, .assertion = Op::line_end};
    case '*':
    case '+':
    case '?': bad("repeats nothing");
    default: return literal(c);
  }
}

std::optional<RegexNode> RegexParser::group(int depth) {
  const auto look = [&](bool behind, bool negated) {
    RegexNode node{.kind = Kind::look, .negated = negated, .behind = behind};
    node.children.push_back(closed(choice(depth)));
    return node;
  };
  if (take("?:")) return closed(choice(depth));
  if (take("?=")) return look(false, false);
  if (take("?!")) return look(false, true);
  if (take("?<=")) return look(true, false);
  if (take("?<!")) return look(true, true);
  if (take("?>")) {
    RegexNode node{.kind = Kind::atomic};
    node.children.push_back(closed(choice(depth)));
    return node;
  }
  if (take("?#")) {
    while (next("a comment") != ')') continue;
    return std::nullopt;
  }
  if (peek() == '?' && (peek(1) == '<' || peek(1) == 'P')) {  // a name, which nothing here refers to
    while (next("a group's name") != '>') continue;
    return closed(choice(depth));
  }
  if (peek() == '?') return flags(depth);
  return closed(choice(depth));
}

// (?i), (?i:..), (?-i), (?m): Ruby's m lets the dot match a line end.
std::optional<RegexNode> RegexParser::flags(int depth) {
  ++at_;
  const bool ignore_case = ignore_case_, dot_all = dot_all_;
  bool on = true;
  while (true) {
    const auto c = next("a group");
    if (c == '-') {
      on = false;
    } else if (c == 'i') {
      ignore_case_ = on;
    } else if (c == 'm') {
      dot_all_ = on;
    } else if (c == ')') {
      return std::nullopt;  // until the end of the group around it
    } else if (c == ':') {
      auto inside = closed(choice(depth));
      ignore_case_ = ignore_case;
      dot_all_ = dot_all;
      return inside;
    } else {
      std::string name;
      unicode::append(name, c);
      unsupported("the group (?" + name);
    }
  }
}

std::optional<uint32_t> RegexParser::number() {
  if (peek() < '0' || peek() > '9') return std::nullopt;
  uint32_t value = 0;
  while (peek() >= '0' && peek() <= '9') {
    value = value * 10 + (codes_[at_++] - '0');
    if (value > kMaxCount) unsupported("a count above 1000");
  }
  return value;
}

// {2}, {2,}, {,3}, {2,3}; another brace is an ordinary character.
bool RegexParser::interval(uint32_t& least, uint32_t& most) {
  const auto start = at_;
  if (!take("{")) return false;
  const auto low = number();
  const bool comma = take(",");
  const auto high = comma ? number() : low;
  if (!take("}") || (!low && !high)) {
    at_ = start;
    return false;
  }
  least = low.value_or(0);
  most = high.value_or(RegexNode::kUnlimited);
  if (most < least) bad("has a count whose end is below its beginning");
  return true;
}

RegexNode RegexParser::quantified(RegexNode node) {
  for (int depth = 0;; ++depth) {
    RegexNode loop{.kind = Kind::loop, .least = 0, .most = RegexNode::kUnlimited};
    bool counted = false;
    if (take("+")) {
      loop.least = 1;
    } else if (take("?")) {
      loop.most = 1;
    } else if (!take("*")) {
      counted = interval(loop.least, loop.most);
      if (!counted) return node;
    }
    if (depth > 8) unsupported("more than eight quantifiers in a row");
    if (take("?")) {
      loop.greed = RegexNode::Greed::lazy;
    } else if ((!counted || options_.possessive_interval) && take("+")) {
      loop.greed = RegexNode::Greed::possessive;
    }
    if (node.kind == Kind::look || node.kind == Kind::assertion) unsupported("a repeated assertion");
    loop.children.push_back(std::move(node));
    node = std::move(loop);
  }
}

RegexNode parse_regex(std::string_view pattern, const RegexOptions& options) {
  return RegexParser(pattern, options).parse();
}

}  // namespace winnow::io
