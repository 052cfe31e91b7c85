// A template as a tree, and its reader.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "jinja_value.h"

namespace winnow::io::jinja {

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  enum class Kind {
    // Expressions. Children stand in `items`.
    constant,   // value
    variable,   // text
    list,       // items
    dict,       // items: key, value, key, value, ...
    attribute,  // items[0].text
    subscript,  // items[0][items[1]]
    slice,      // items[0][items[1]:items[2]:items[3]], each may be null
    call,       // items[0](items[1..], names[i] = the keyword of items[1 + i] or "")
    filter,     // items[0] | text(items[1..])
    test,       // items[0] is text(items[1..]); negated
    negate,     // text: "-", "+" or "not"
    binary,     // text: an operator; "and" and "or", too
    compare,    // items[0] names[0] items[1] names[1] items[2] ...
    choice,     // items[1] if items[0] else items[2] (may be null)
    // Statements. What they run stands in `body`.
    data,     // text
    output,   // items[0]
    branch,   // if items[0]: body else otherwise
    loop,     // for names in items[0] if items[1] (may be null): body else otherwise
    assign,   // names = items[0]; text: attribute of the namespace names[0], or ""
    capture,  // names[0] = the text of body
    macro,    // text(names, defaults items[i], may be null): body
    block,    // body, as it is
    leave,    // break
    next,     // continue
  };
  Kind kind = Kind::constant;
  int64_t line = 1;
  std::string text{};
  Value value{};
  bool negated = false;
  std::vector<NodePtr> items{};
  std::vector<std::string> names{};
  std::vector<NodePtr> body{}, otherwise{};
};

// Statements of a template. Throws Error(file) naming `name` and the line; Error(unsupported) for a part of the
// language that is not done here.
std::vector<NodePtr> parse(std::string_view text, const std::string& name);

// Filters and tests that exist (jinja_filters.cpp).
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments);
bool apply_test(std::string_view name, const Value& input, const Arguments& arguments);

// The method of a value, such as "text".upper; undefined if it has none (jinja_methods.cpp).
Value method(const Value& value, std::string_view name);

}  // namespace winnow::io::jinja
