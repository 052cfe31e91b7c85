#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "jinja_parser.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

constexpr int kMaxDepth = 200;  // of expressions inside each other
constexpr int kMaxLinks = 500;  // operators of one expression, which may make its tree deep

// Binary operators from the loosest to the tightest; negation and comparison stand between "and" and "+".
struct Level {
  std::array<std::string_view, 4> operators;
  bool words;
};
constexpr std::array<Level, 6> kLevels = {{{{"or"}, true},
                                           {{"and"}, true},
                                           {{"+", "-"}, false},
                                           {{"~"}, false},
                                           {{"*", "/", "//", "%"}, false},
                                           {{"**"}, false}}};
constexpr int kAnd = 1;

class Deeper {
 public:
  explicit Deeper(int& depth) : depth_(depth) { ++depth_; }
  ~Deeper() { --depth_; }

 private:
  int& depth_;
};

}  // namespace

void ExpressionParser::fail_here(const std::string& what) const {
  fail(ErrorKind::file, "{}: line {}: {}", name_, peek().line, what);
}

const Token& ExpressionParser::peek(std::size_t ahead) const {
  return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
}

Token ExpressionParser::take() {
  auto token = peek();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool ExpressionParser::at_mark(std::string_view mark) const {
  return peek().kind == Token::Kind::mark && peek().text == mark;
}
bool ExpressionParser::at_word(std::string_view word) const {
  return peek().kind == Token::Kind::name && peek().text == word;
}
bool ExpressionParser::skip_mark(std::string_view mark) {
  if (!at_mark(mark)) return false;
  take();
  return true;
}
bool ExpressionParser::skip_word(std::string_view word) {
  if (!at_word(word)) return false;
  take();
  return true;
}
void ExpressionParser::want_mark(std::string_view mark) {
  if (!skip_mark(mark)) fail_here(fmt::format("wanted {}, got {}", mark, json_quote(printable(peek().text, 40))));
}
void ExpressionParser::want_word(std::string_view word) {
  if (!skip_word(word)) fail_here(fmt::format("wanted {}, got {}", word, json_quote(printable(peek().text, 40))));
}
std::string ExpressionParser::want_name() {
  if (peek().kind != Token::Kind::name) {
    fail_here(fmt::format("wanted a name, got {}", json_quote(printable(peek().text, 40))));
  }
  return take().text;
}

NodePtr ExpressionParser::make(Node::Kind kind, std::string text) const {
  auto node = std::make_unique<Node>();
  node->kind = kind;
  node->line = peek().line;
  node->text = std::move(text);
  return node;
}

NodePtr ExpressionParser::expression(bool with_choice) {
  const Deeper deeper(depth_);
  if (depth_ > kMaxDepth) fail_here(fmt::format("expressions nested deeper than {}", kMaxDepth));
  if (depth_ == 1) links_ = 0;
  auto node = binary(0);
  while (with_choice && skip_word("if")) {
    link();
    auto choice = make(Node::Kind::choice);
    choice->items.push_back(binary(0));
    choice->items.push_back(std::move(node));
    choice->items.push_back(skip_word("else") ? expression() : nullptr);
    node = std::move(choice);
  }
  return node;
}

void ExpressionParser::link() {
  if (++links_ > kMaxLinks) fail_here(fmt::format("an expression of more than {} operators", kMaxLinks));
}

NodePtr ExpressionParser::tuple(bool with_choice) {
  auto first = expression(with_choice);
  if (!at_mark(",")) return first;
  auto list = make(Node::Kind::list);
  list->items.push_back(std::move(first));
  while (skip_mark(",")) {
    const bool ends = peek().kind == Token::Kind::end_block || peek().kind == Token::Kind::end_output || at_mark(")");
    if (ends) break;
    list->items.push_back(expression(with_choice));
  }
  return list;
}

NodePtr ExpressionParser::binary(int level) {
  if (level == static_cast<int>(kLevels.size())) return unary(/*with_filters=*/true);
  const auto below = [&] { return level == kAnd ? negation() : binary(level + 1); };
  const auto& [operators, words] = kLevels[static_cast<std::size_t>(level)];
  auto left = below();
  for (;;) {
    const auto* const found = std::find_if(operators.begin(), operators.end(), [&](auto text) {
      return !text.empty() && (words ? at_word(text) : at_mark(text));
    });
    if (found == operators.end()) return left;
    link();
    auto node = make(Node::Kind::binary, take().text);
    node->items.push_back(std::move(left));
    node->items.push_back(below());
    left = std::move(node);
  }
}

NodePtr ExpressionParser::negation() {
  const Deeper deeper(depth_);
  if (depth_ > kMaxDepth) fail_here(fmt::format("expressions nested deeper than {}", kMaxDepth));
  if (!at_word("not")) return comparison();
  auto node = make(Node::Kind::negate, take().text);
  node->items.push_back(negation());
  return node;
}

std::string ExpressionParser::comparison_operator() {
  for (const auto* text : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (skip_mark(text)) return text;
  }
  if (skip_word("in")) return "in";
  if (at_word("not") && peek(1).kind == Token::Kind::name && peek(1).text == "in") {
    take();
    take();
    return "not in";
  }
  return {};
}

NodePtr ExpressionParser::comparison() {
  auto first = binary(kAnd + 1);
  auto node = make(Node::Kind::compare);
  node->items.push_back(std::move(first));
  for (auto text = comparison_operator(); !text.empty(); text = comparison_operator()) {
    node->names.push_back(std::move(text));
    node->items.push_back(binary(kAnd + 1));
  }
  return node->names.empty() ? std::move(node->items.front()) : std::move(node);
}

NodePtr ExpressionParser::unary(bool with_filters) {
  const Deeper deeper(depth_);
  if (depth_ > kMaxDepth) fail_here(fmt::format("expressions nested deeper than {}", kMaxDepth));
  NodePtr node;
  if (at_mark("-") || at_mark("+")) {
    node = make(Node::Kind::negate, take().text);
    node->items.push_back(unary(/*with_filters=*/false));
  } else {
    node = postfix(primary());
  }
  return with_filters ? filters(std::move(node)) : std::move(node);
}

NodePtr ExpressionParser::primary() {
  auto node = make(Node::Kind::constant);
  const auto token = take();
  switch (token.kind) {
    case Token::Kind::string:
      node->value = token.text;
      while (peek().kind == Token::Kind::string) node->value = node->value.text() + take().text;
      return node;
    case Token::Kind::integer: {
      int64_t value = 0;
      const auto status = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value).ec;
      if (status != std::errc()) fail_here("an integer past 64 bits");
      node->value = value;
      return node;
    }
    case Token::Kind::number: node->value = std::strtod(token.text.c_str(), nullptr); return node;
    case Token::Kind::name:
      if (token.text == "true" || token.text == "True" || token.text == "false" || token.text == "False") {
        node->value = token.text == "true" || token.text == "True";
      } else if (token.text == "none" || token.text == "None") {
        node->value = None{};
      } else {
        node->kind = Node::Kind::variable;
        node->text = token.text;
      }
      return node;
    default: break;
  }
  if (token.text == "{" && token.kind == Token::Kind::mark) return dict();
  if (token.text == "(" && token.kind == Token::Kind::mark) {
    if (skip_mark(")")) {
      node->kind = Node::Kind::list;
      return node;
    }
    node = tuple();
    want_mark(")");
    return node;
  }
  if (token.text == "[" && token.kind == Token::Kind::mark) {
    node->kind = Node::Kind::list;
    while (!skip_mark("]")) {
      node->items.push_back(expression());
      if (!at_mark("]")) want_mark(",");
    }
    return node;
  }
  fail(ErrorKind::file, "{}: line {}: wanted an expression, got {}", name_, token.line,
       token.text.empty() ? "the end of the tag" : json_quote(printable(token.text, 40)));
}

NodePtr ExpressionParser::dict() {
  auto node = make(Node::Kind::dict);
  while (!skip_mark("}")) {
    node->items.push_back(expression());
    want_mark(":");
    node->items.push_back(expression());
    if (!at_mark("}")) want_mark(",");
  }
  return node;
}

NodePtr ExpressionParser::postfix(NodePtr node) {
  for (;; link()) {
    if (skip_mark(".")) {
      const bool index = peek().kind == Token::Kind::integer;
      auto next = make(index ? Node::Kind::subscript : Node::Kind::attribute);
      next->items.push_back(std::move(node));
      if (index) {
        next->items.push_back(primary());
      } else {
        next->text = want_name();
      }
      node = std::move(next);
    } else if (skip_mark("[")) {
      node = subscript(std::move(node));
    } else if (at_mark("(")) {
      auto call = make(Node::Kind::call);
      take();
      call->items.push_back(std::move(node));
      arguments(*call);
      node = std::move(call);
    } else {
      return node;
    }
  }
}

// Behind "[".
NodePtr ExpressionParser::subscript(NodePtr node) {
  auto result = make(Node::Kind::subscript);
  result->items.push_back(std::move(node));
  const auto part = [&]() -> NodePtr { return at_mark(":") || at_mark("]") ? nullptr : expression(); };
  result->items.push_back(part());
  if (at_mark(":")) {
    result->kind = Node::Kind::slice;
    result->items.resize(4);
    take();
    result->items[2] = part();
    if (skip_mark(":")) result->items[3] = part();
  } else if (!result->items[1]) {
    fail_here("an index is missing");
  }
  want_mark("]");
  return result;
}

void ExpressionParser::arguments(Node& call) {
  while (!skip_mark(")")) {
    if (at_mark("*") || at_mark("**")) {
      fail(ErrorKind::unsupported, "{}: line {}: lists of arguments (*) are not done", name_, peek().line);
    }
    const auto& next = peek(1);
    const bool named = peek().kind == Token::Kind::name && next.kind == Token::Kind::mark && next.text == "=";
    call.names.push_back(named ? take().text : "");
    if (named) take();
    call.items.push_back(expression());
    if (!at_mark(")")) want_mark(",");
  }
}

NodePtr ExpressionParser::filters(NodePtr node) {
  for (;; link()) {
    if (skip_mark("|")) {
      auto filter = make(Node::Kind::filter, want_name());
      if (!is_filter(filter->text)) {
        fail(ErrorKind::unsupported, "{}: line {}: the filter {} is not known", name_, filter->line,
             printable(filter->text, 40));
      }
      filter->items.push_back(std::move(node));
      if (skip_mark("(")) arguments(*filter);
      node = std::move(filter);
    } else if (skip_word("is")) {
      node = test(std::move(node));
    } else if (at_mark("(")) {
      node = postfix(std::move(node));
    } else {
      return node;
    }
  }
}

// Behind "is".
NodePtr ExpressionParser::test(NodePtr node) {
  const bool negated = skip_word("not");
  auto result = make(Node::Kind::test, want_name());
  result->negated = negated;
  if (!is_test(result->text)) {
    fail(ErrorKind::unsupported, "{}: line {}: the test {} is not known", name_, result->line,
         printable(result->text, 40));
  }
  result->items.push_back(std::move(node));
  const auto kind = peek().kind;
  const bool value = kind == Token::Kind::name || kind == Token::Kind::string || kind == Token::Kind::integer ||
                     kind == Token::Kind::number || at_mark("[") || at_mark("{");
  const bool word = at_word("else") || at_word("or") || at_word("and") || at_word("is") || at_word("if") ||
                    at_word("not") || at_word("in");
  if (skip_mark("(")) {
    arguments(*result);
  } else if (value && !word) {
    result->names.emplace_back();
    result->items.push_back(postfix(primary()));
  }
  return result;
}

}  // namespace winnow::io::jinja
