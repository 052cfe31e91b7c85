// Reads the tokens of a template.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "jinja_lexer.h"
#include "jinja_tree.h"

namespace winnow::io::jinja {

// Expressions, by falling looseness of their operators.
class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, const std::string& name) : name_(name), tokens_(std::move(tokens)) {}

  NodePtr expression(bool with_choice = true);  // `with_choice`: a if b else c is taken, too
  NodePtr tuple(bool with_choice = true);       // a, b: a list; one expression is itself

 protected:
  [[noreturn]] void fail_here(const std::string& what) const;
  [[nodiscard]] const Token& peek(std::size_t ahead = 0) const;
  Token take();
  [[nodiscard]] bool at_mark(std::string_view mark) const;
  [[nodiscard]] bool at_word(std::string_view word) const;
  bool skip_mark(std::string_view mark);  // true if it stood there
  bool skip_word(std::string_view word);
  void want_mark(std::string_view mark);
  void want_word(std::string_view word);
  std::string want_name();
  [[nodiscard]] NodePtr make(Node::Kind kind, std::string text = {}) const;

  const std::string& name_;
  int depth_ = 0;

 private:
  void link();  // counts one more operator of an expression
  NodePtr binary(int level);
  NodePtr negation();
  NodePtr comparison();
  NodePtr unary(bool with_filters);
  NodePtr primary();
  NodePtr postfix(NodePtr node);
  NodePtr filters(NodePtr node);
  NodePtr test(NodePtr node);
  NodePtr subscript(NodePtr node);
  NodePtr dict();
  void arguments(Node& call);  // behind "("
  std::string comparison_operator();

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int links_ = 0;
};

}  // namespace winnow::io::jinja
