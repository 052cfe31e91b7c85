#include "jinja_parser.h"

#include <algorithm>
#include <array>
#include <optional>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

constexpr int kMaxBlocks = 100;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  std::vector<NodePtr> all() {
    auto statements = body({});
    if (peek().kind != Token::Kind::end) fail_here("a tag that ends nothing");
    return statements;
  }

 private:
  // Statements up to a {% tag that begins with one of the words; that word is the next token then.
  std::vector<NodePtr> body(std::initializer_list<std::string_view> ends) {
    if (++blocks_ > kMaxBlocks) fail_here(fmt::format("blocks nested deeper than {}", kMaxBlocks));
    std::vector<NodePtr> statements;
    const auto opened = peek().line;
    for (;;) {
      const auto kind = peek().kind;
      if (kind == Token::Kind::data) {
        statements.push_back(make(Node::Kind::data));
        statements.back()->text = take().text;
      } else if (kind == Token::Kind::begin_output) {
        take();
        statements.push_back(make(Node::Kind::output));
        statements.back()->items.push_back(tuple());
        want(Token::Kind::end_output, "}}");
      } else if (kind == Token::Kind::begin_block) {
        take();
        const bool end = std::any_of(ends.begin(), ends.end(), [&](auto word) { return at_word(word); });
        if (end) break;
        if (auto node = statement()) statements.push_back(std::move(node));
      } else {
        if (ends.size() > 0) fail_here(fmt::format("{} is missing (opened on line {})", join(ends, " or "), opened));
        break;
      }
    }
    --blocks_;
    return statements;
  }

  void want(Token::Kind kind, const char* text) {
    if (peek().kind != kind) fail_here(fmt::format("wanted {}, got {}", text, json_quote(printable(peek().text, 40))));
    take();
  }
  void end_block() { want(Token::Kind::end_block, "%}"); }
  void end_block(std::string_view word) {
    want_word(word);
    end_block();
  }

  NodePtr statement() {
    const auto line = peek().line;
    const auto word = want_name();
    if (word == "for") return loop();
    if (word == "if") return branch();
    if (word == "set") return assignment();
    if (word == "macro") return macro();
    if (word == "break" || word == "continue") {
      if (loops_ == 0) fail_here(word + " stands in no loop");
      auto node = make(word == "break" ? Node::Kind::leave : Node::Kind::next);
      end_block();
      return node;
    }
    if (word == "generation") {  // marks an assistant's words for training masks; the text is the same
      end_block();
      auto node = make(Node::Kind::block);
      node->body = body({"endgeneration"});
      end_block("endgeneration");
      return node;
    }
    constexpr std::array<std::string_view, 10> kOther = {"include", "import", "from", "extends", "block",
                                                         "call",    "filter", "with", "do",      "autoescape"};
    if (std::find(kOther.begin(), kOther.end(), word) != kOther.end()) {
      fail(ErrorKind::unsupported, "{}: line {}: the tag {} is not done", name_, line, word);
    }
    fail(ErrorKind::file, "{}: line {}: unexpected tag {}", name_, line, json_quote(printable(word, 40)));
  }

  std::vector<std::string> targets() {
    const bool parenthesis = skip_mark("(");
    std::vector<std::string> names = {want_name()};
    while (skip_mark(",")) names.push_back(want_name());
    if (parenthesis) want_mark(")");
    return names;
  }

  NodePtr loop() {
    auto node = make(Node::Kind::loop);
    node->names = targets();
    want_word("in");
    node->items.push_back(tuple(/*with_choice=*/false));
    node->items.push_back(skip_word("if") ? expression() : nullptr);
    if (at_word("recursive"))
      fail(ErrorKind::unsupported, "{}: line {}: recursive loops are not done", name_, node->line);
    end_block();
    ++loops_;
    node->body = body({"endfor", "else"});
    --loops_;
    if (skip_word("else")) {
      end_block();
      node->otherwise = body({"endfor"});
    }
    end_block("endfor");
    return node;
  }

  NodePtr branch() {
    auto node = make(Node::Kind::branch);
    node->items.push_back(tuple());
    end_block();
    node->body = body({"endif", "else", "elif"});
    if (skip_word("elif")) {
      if (++blocks_ > kMaxBlocks) fail_here(fmt::format("blocks nested deeper than {}", kMaxBlocks));
      node->otherwise.push_back(branch());  // which takes the endif
      --blocks_;
      return node;
    }
    if (skip_word("else")) {
      end_block();
      node->otherwise = body({"endif"});
    }
    end_block("endif");
    return node;
  }

  NodePtr assignment() {
    auto node = make(Node::Kind::assign);
    node->names = {want_name()};
    if (skip_mark(".")) {
      node->text = want_name();
    } else {
      while (skip_mark(",")) node->names.push_back(want_name());
    }
    if (skip_mark("=")) {
      node->items.push_back(tuple());
      end_block();
      return node;
    }
    if (at_mark("|"))
      fail(ErrorKind::unsupported, "{}: line {}: a filter on a set block is not done", name_, node->line);
    end_block();
    if (node->names.size() != 1 || !node->text.empty()) fail_here("a set block takes one plain name");
    node->kind = Node::Kind::capture;
    node->body = body({"endset"});
    end_block("endset");
    return node;
  }

  NodePtr macro() {
    auto node = make(Node::Kind::macro, want_name());
    want_mark("(");
    while (!skip_mark(")")) {
      node->names.push_back(want_name());
      node->items.push_back(skip_mark("=") ? expression() : nullptr);
      if (!at_mark(")")) want_mark(",");
    }
    end_block();
    const auto outside = std::exchange(loops_, 0);
    node->body = body({"endmacro"});
    loops_ = outside;
    want_word("endmacro");
    if (peek().kind == Token::Kind::name) take();  // its name again
    end_block();
    return node;
  }

  int blocks_ = 0, loops_ = 0;
};

}  // namespace

std::vector<NodePtr> parse(std::string_view text, const std::string& name) {
  return Parser(tokenize(text, name), name).all();
}

}  // namespace winnow::io::jinja
