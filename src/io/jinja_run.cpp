#include "jinja_run.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "jinja_operators.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

constexpr int64_t kMaxSteps = 10'000'000;
constexpr int kMaxCalls = 50;  // of macros inside each other
constexpr int64_t kMaxRange = 1'000'000;

// raise_exception of a template.
struct Raised {
  std::string text;
};

class Interpreter {
 public:
  Interpreter(Dict variables, const std::string& name) : name_(name) {
    scopes_.push_back(globals());
    for (auto& [key, value] : variables) set(scopes_.back(), key, std::move(value));
  }

  // Namespaces may hold each other in a circle.
  ~Interpreter() {
    for (const auto& space : spaces_) space->members.clear();
  }
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  std::string run(const std::vector<NodePtr>& statements) {
    std::string out;
    try {
      execute(statements, out);
    } catch (const Fault& fault) {
      fail_here(fault.text);
    } catch (const Raised& raised) {
      fail(ErrorKind::argument, "{}: {}", name_, printable(raised.text, 400));
    } catch (const std::bad_variant_access&) {
      fail_here("an argument of a wrong type");
    }
    return out;
  }

 private:
  enum class Flow { on, leave, next };

  [[noreturn]] void fail_here(const std::string& what) const {
    fail(ErrorKind::file, "{}: line {}: {}", name_, line_, printable(what, 400));
  }

  void step(const Node& node, int64_t cost = 1) {
    line_ = node.line;
    steps_ += cost;
    if (steps_ > kMaxSteps) throw Fault{fmt::format("the template takes more than {} steps", kMaxSteps)};
  }

  Dict globals() {
    Dict table;
    set(table, "range", Function([](const Arguments& a) { return range(a); }));
    set(table, "namespace", Function([this](const Arguments& a) -> Value {
          auto space = std::make_shared<Namespace>();
          spaces_.push_back(space);
          if (!a.positional.empty() && a.positional[0].is_dict()) space->members = a.positional[0].dict();
          for (const auto& [key, value] : a.named) set(space->members, key, value);
          return space;
        }));
    set(table, "dict", Function([](const Arguments& a) -> Value {
          Dict result = a.positional.empty() ? Dict() : a.positional[0].dict();
          for (const auto& [key, value] : a.named) set(result, key, value);
          return result;
        }));
    set(table, "raise_exception", Function([](const Arguments& a) -> Value {
          throw Raised{a.positional.empty() ? "the template refuses the conversation" : to_text(a.positional[0])};
        }));
    set(table, "strftime_now", Function([](const Arguments& a) { return now(a); }));
    return table;
  }

  static Value range(const Arguments& a) {
    const auto count = a.positional.size();
    if (count < 1 || count > 3) throw Fault{"range takes 1 to 3 integers"};
    const auto part = [&](std::size_t i) { return a.positional[i].integer(); };
    const auto begin = count == 1 ? 0 : part(0), end = count == 1 ? part(0) : part(1), by = count == 3 ? part(2) : 1;
    constexpr int64_t kLimit = int64_t{1} << 40;
    const auto large = [](int64_t n) { return n > kLimit || n < -kLimit; };
    if (by == 0 || large(begin) || large(end) || large(by)) {
      throw Fault{"range: a step of 0, or a number too large"};
    }
    List items;
    for (auto i = begin; by > 0 ? i < end : i > end; i += by) {
      if (static_cast<int64_t>(items.size()) == kMaxRange) throw Fault{fmt::format("range of more than {}", kMaxRange)};
      items.emplace_back(i);
    }
    return items;
  }

  static Value now(const Arguments& a) {
    const auto format = a.positional.empty() ? std::string("%Y-%m-%d") : to_text(a.positional[0]);
    const auto time = std::time(nullptr);
    std::tm parts{};
    localtime_r(&time, &parts);
    char buffer[256];
    const auto size = format.size() > 100 ? 0 : std::strftime(buffer, sizeof buffer, format.c_str(), &parts);
    return std::string(buffer, size);
  }

  // Variables: the innermost scope that has the name.
  [[nodiscard]] Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto* value = find(*scope, name)) return *value;
    }
    return Undefined{name};
  }

  void assign(const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) return set(scopes_.back(), names[0], value);
    const auto parts = to_list(value);
    if (parts.size() != names.size()) {
      throw Fault{fmt::format("{} names for {} values", names.size(), parts.size())};
    }
    for (std::size_t i = 0; i < names.size(); ++i) set(scopes_.back(), names[i], parts[i]);
  }

  Flow execute(const std::vector<NodePtr>& statements, std::string& out) {
    for (const auto& node : statements) {
      const auto flow = execute(*node, out);
      if (flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  Flow execute(const Node& node, std::string& out) {
    step(node);
    switch (node.kind) {
      case Node::Kind::data: append(out, node.text); return Flow::on;
      case Node::Kind::output: append(out, to_text(evaluate(*node.items[0]))); return Flow::on;
      case Node::Kind::branch: return execute(truth(evaluate(*node.items[0])) ? node.body : node.otherwise, out);
      case Node::Kind::loop: return loop(node, out);
      case Node::Kind::assign: set_names(node); return Flow::on;
      case Node::Kind::capture: {
        std::string text;
        scopes_.emplace_back();
        const auto flow = execute(node.body, text);
        scopes_.pop_back();
        set(scopes_.back(), node.names[0], std::move(text));
        return flow;
      }
      case Node::Kind::macro:
        set(scopes_.back(), node.text, Function([this, &node](const Arguments& a) { return call_macro(node, a); }));
        return Flow::on;
      case Node::Kind::block: return execute(node.body, out);
      case Node::Kind::leave: return Flow::leave;
      case Node::Kind::next: return Flow::next;
      default: throw Fault{"an expression in the place of a statement"};
    }
  }

  void set_names(const Node& node) {
    auto value = evaluate(*node.items[0]);
    if (node.text.empty()) return assign(node.names, value);
    const auto target = lookup(node.names[0]);
    const auto* space = std::get_if<std::shared_ptr<Namespace>>(&target.data);
    if (space == nullptr) throw Fault{fmt::format("{} must be a namespace to set {}", node.names[0], node.text)};
    set((*space)->members, node.text, std::move(value));
  }

  Flow loop(const Node& node, std::string& out) {
    auto items = to_list(evaluate(*node.items[0]));
    if (node.items[1]) items = chosen(node, std::move(items));
    if (items.empty()) return execute(node.otherwise, out);
    for (std::size_t i = 0; i < items.size(); ++i) {
      step(node, 10);
      scopes_.emplace_back();
      set(scopes_.back(), "loop", loop_variable(items, i));
      assign(node.names, items[i]);
      const auto flow = execute(node.body, out);
      scopes_.pop_back();
      if (flow == Flow::leave) break;
    }
    return Flow::on;
  }

  // The items for which the condition of the loop holds.
  List chosen(const Node& node, List items) {
    List result;
    for (auto& item : items) {
      step(node);
      scopes_.emplace_back();
      assign(node.names, item);
      const bool holds = truth(evaluate(*node.items[1]));
      scopes_.pop_back();
      if (holds) result.push_back(std::move(item));
    }
    return result;
  }

  static Value loop_variable(const List& items, std::size_t i) {
    const auto index = static_cast<int64_t>(i), length = static_cast<int64_t>(items.size());
    Dict loop = {{"index", index + 1},
                 {"index0", index},
                 {"revindex", length - index},
                 {"revindex0", length - index - 1},
                 {"first", i == 0},
                 {"last", index + 1 == length},
                 {"length", length},
                 {"depth", int64_t{1}}};
    if (i > 0) loop.push_back({"previtem", items[i - 1]});
    if (index + 1 < length) loop.push_back({"nextitem", items[i + 1]});
    loop.push_back({"cycle", Function([index](const Arguments& a) -> Value {
                      if (a.positional.empty()) throw Fault{"cycle wants values"};
                      return a.positional[static_cast<std::size_t>(index) % a.positional.size()];
                    })});
    return loop;
  }

  // A macro sees the variables of the template, not those of its caller.
  Value call_macro(const Node& node, const Arguments& arguments) {
    if (++calls_ > kMaxCalls) throw Fault{fmt::format("macros call each other deeper than {}", kMaxCalls)};
    if (arguments.positional.size() > node.names.size())
      throw Fault{fmt::format("too many arguments of {}", node.text)};
    Dict scope;
    for (std::size_t i = 0; i < node.names.size(); ++i) {
      const auto* named = find(arguments.named, node.names[i]);
      if (i < arguments.positional.size()) {
        set(scope, node.names[i], arguments.positional[i]);
      } else if (named != nullptr || node.items[i]) {
        set(scope, node.names[i], named != nullptr ? *named : evaluate(*node.items[i]));
      } else {
        set(scope, node.names[i], Undefined{node.names[i]});
      }
    }
    std::vector<Dict> hidden(std::make_move_iterator(scopes_.begin() + 1), std::make_move_iterator(scopes_.end()));
    scopes_.resize(1);
    scopes_.push_back(std::move(scope));
    std::string text;
    execute(node.body, text);
    scopes_.resize(1);
    std::move(hidden.begin(), hidden.end(), std::back_inserter(scopes_));
    --calls_;
    return text;
  }

  Value evaluate(const Node& node) {
    step(node);
    switch (node.kind) {
      case Node::Kind::constant: return node.value;
      case Node::Kind::variable: return charged(node, lookup(node.text));
      case Node::Kind::list: {
        List items;
        for (const auto& item : node.items) items.push_back(evaluate(*item));
        return items;
      }
      case Node::Kind::dict: {
        Dict dict;
        for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
          const auto key = evaluate(*node.items[i]);
          set(dict, to_text(key), evaluate(*node.items[i + 1]));
        }
        return dict;
      }
      case Node::Kind::attribute: return charged(node, attribute(evaluate(*node.items[0]), node.text));
      case Node::Kind::subscript: {
        const auto value = evaluate(*node.items[0]);
        return charged(node, subscript(value, evaluate(*node.items[1])));
      }
      case Node::Kind::slice: return slice_node(node);
      case Node::Kind::call: return call(node);
      case Node::Kind::filter: {
        const auto input = evaluate(*node.items[0]);
        return charged(node, apply_filter(node.text, input, arguments(node)));
      }
      case Node::Kind::test: {
        const auto input = evaluate(*node.items[0]);
        return apply_test(node.text, input, arguments(node)) != node.negated;
      }
      case Node::Kind::negate: return negate(node.text, evaluate(*node.items[0]));
      case Node::Kind::binary: return binary_node(node);
      case Node::Kind::compare: return compare_node(node);
      case Node::Kind::choice:
        if (truth(evaluate(*node.items[0]))) return evaluate(*node.items[1]);
        return node.items[2] ? evaluate(*node.items[2]) : Value(Undefined{"the other side of an if"});
      default: throw Fault{"a statement in the place of an expression"};
    }
  }

  // Large values cost more.
  Value charged(const Node& node, Value value) {
    const auto size = value.is_text()   ? value.text().size() / 64
                      : value.is_list() ? value.list().size() / 16
                                        : std::size_t{0};
    step(node, static_cast<int64_t>(size));
    return value;
  }

  Value slice_node(const Node& node) {
    const auto value = evaluate(*node.items[0]);
    const auto part = [&](std::size_t i) { return node.items[i] ? evaluate(*node.items[i]) : Value(None{}); };
    const auto begin = part(1), end = part(2), by = part(3);
    return charged(node, slice(value, begin, end, by));
  }

  Value binary_node(const Node& node) {
    auto left = evaluate(*node.items[0]);
    if (node.text == "and") return truth(left) ? evaluate(*node.items[1]) : left;
    if (node.text == "or") return truth(left) ? left : evaluate(*node.items[1]);
    return charged(node, binary(node.text, left, evaluate(*node.items[1])));
  }

  Value compare_node(const Node& node) {
    auto left = evaluate(*node.items[0]);
    for (std::size_t i = 0; i < node.names.size(); ++i) {
      auto right = evaluate(*node.items[i + 1]);
      if (!holds(node.names[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Arguments arguments(const Node& node) {
    Arguments result;
    for (std::size_t i = 1; i < node.items.size(); ++i) {
      auto value = evaluate(*node.items[i]);
      if (node.names[i - 1].empty()) {
        result.positional.push_back(std::move(value));
      } else {
        set(result.named, node.names[i - 1], std::move(value));
      }
    }
    return result;
  }

  Value call(const Node& node) {
    const auto function = evaluate(*node.items[0]);
    const auto* run = std::get_if<std::shared_ptr<const Function>>(&function.data);
    if (run == nullptr) {
      const auto* undefined = std::get_if<Undefined>(&function.data);
      throw Fault{undefined != nullptr ? fmt::format("{} is undefined", undefined->name)
                                       : fmt::format("{} cannot be called", type_name(function))};
    }
    const auto given = arguments(node);
    line_ = node.line;
    return charged(node, (**run)(given));
  }

  const std::string& name_;
  std::vector<std::shared_ptr<Namespace>> spaces_;  // all that the template made
  std::vector<Dict> scopes_;
  int64_t line_ = 1, steps_ = 0;
  int calls_ = 0;
};

}  // namespace

std::string run(const std::vector<NodePtr>& statements, Dict variables, const std::string& name) {
  return Interpreter(std::move(variables), name).run(statements);
}

}  // namespace winnow::io::jinja
