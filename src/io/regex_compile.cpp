#include <algorithm>
#include <optional>
#include <utility>

#include "regex_tree.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

using Kind = RegexNode::Kind;
using Op = RegexStep::Op;
constexpr size_t kMaxSteps = 100'000;

bool may_be_empty(const RegexNode& node) {
  const auto child = [](const RegexNode& n) { return may_be_empty(n); };
  switch (node.kind) {
    case Kind::code:
    case Kind::set: return false;
    case Kind::sequence:
    case Kind::atomic: return std::all_of(node.children.begin(), node.children.end(), child);
    case Kind::choice: return std::any_of(node.children.begin(), node.children.end(), child);
    case Kind::loop: return node.least == 0 || child(node.children.front());
    default: return true;
  }
}

// How many characters the node takes, where that is always the same.
std::optional<uint32_t> fixed_length(const RegexNode& node) {
  switch (node.kind) {
    case Kind::code:
    case Kind::set: return 1;
    case Kind::look:
    case Kind::assertion: return 0;
    default: break;
  }
  std::optional<uint32_t> total = node.kind == Kind::choice ? std::nullopt : std::optional<uint32_t>(0);
  for (const auto& child : node.children) {
    const auto length = fixed_length(child);
    if (!length) return std::nullopt;
    if (node.kind == Kind::choice) {
      if (total && *total != *length) return std::nullopt;
      total = length;
    } else {
      total = *total + *length;
    }
  }
  if (node.kind != Kind::loop) return total;
  if (node.least != node.most) return std::nullopt;
  return *total * node.least;
}

class Compiler {
 public:
  explicit Compiler(std::string_view pattern) : pattern_(pattern) {}
  RegexProgram compile(const RegexNode& root) {
    node(root);
    emit({.op = Op::match});
    return std::move(program_);
  }

 private:
  uint32_t emit(RegexStep step) {
    WINNOW_CHECK_KIND(program_.steps.size() < kMaxSteps, ErrorKind::unsupported, "pattern {} is larger than {} steps",
                      json_quote(pattern_), kMaxSteps);
    program_.steps.push_back(step);
    return static_cast<uint32_t>(program_.steps.size()) - 1;
  }
  [[nodiscard]] uint32_t here() const { return static_cast<uint32_t>(program_.steps.size()); }
  uint32_t add_set(const CharSet& set) {
    program_.sets.push_back(set);
    return static_cast<uint32_t>(program_.sets.size()) - 1;
  }

  void node(const RegexNode& n);
  void choice(const RegexNode& n);
  void loop(const RegexNode& n);
  void open_loop(const RegexNode& n);
  void enclosed(const RegexNode& n, RegexStep step);
  void look(const RegexNode& n);

  std::string_view pattern_;
  RegexProgram program_;
};

void Compiler::node(const RegexNode& n) {
  switch (n.kind) {
    case Kind::code: emit({.op = Op::code, .a = n.code}); break;
    case Kind::set: emit({.op = Op::set, .a = add_set(n.set)}); break;
    case Kind::sequence:
      for (const auto& child : n.children) node(child);
      break;
    case Kind::choice: choice(n); break;
    case Kind::loop: loop(n); break;
    case Kind::look: look(n); break;
    case Kind::atomic: enclosed(n.children.front(), {.op = Op::atomic}); break;
    case Kind::assertion: emit({.op = n.assertion}); break;
  }
}

void Compiler::choice(const RegexNode& n) {
  std::vector<uint32_t> jumps;
  for (size_t i = 0; i + 1 < n.children.size(); ++i) {
    const auto fork = emit({.op = Op::fork});
    program_.steps[fork].a = here();
    node(n.children[i]);
    jumps.push_back(emit({.op = Op::jump}));
    program_.steps[fork].b = here();
  }
  node(n.children.back());
  for (const auto jump : jumps) program_.steps[jump].a = here();
}

// The step, then the part it names, which ends by `match`; the step's b is behind it.
void Compiler::enclosed(const RegexNode& n, RegexStep step) {
  const auto at = emit(step);
  program_.steps[at].a = here();
  node(n);
  emit({.op = Op::match});
  program_.steps[at].b = here();
}

void Compiler::look(const RegexNode& n) {
  RegexStep step{.op = Op::look, .negated = n.negated, .behind = n.behind};
  if (n.behind) {
    const auto length = fixed_length(n.children.front());
    WINNOW_CHECK_KIND(length.has_value(), ErrorKind::unsupported,
                      "pattern {} looks behind for something of no fixed length, which is not supported",
                      json_quote(pattern_));
    step.c = *length;
  }
  enclosed(n.children.front(), step);
}

void Compiler::loop(const RegexNode& n) {
  if (n.greed == RegexNode::Greed::possessive) {
    auto greedy = n;
    greedy.greed = RegexNode::Greed::greedy;
    return enclosed(greedy, {.op = Op::atomic});
  }
  const auto& child = n.children.front();
  if (n.greed == RegexNode::Greed::greedy && child.kind == Kind::set) {
    emit({.op = Op::repeat, .a = add_set(child.set), .b = n.least, .c = n.most});
  } else if (n.greed == RegexNode::Greed::greedy && child.kind == Kind::code) {
    CharSet set;
    set.add(child.code, child.code);
    set.finish();
    emit({.op = Op::repeat, .a = add_set(set), .b = n.least, .c = n.most});
  } else {
    open_loop(n);
  }
}

// The body written out as often as it must come, then as often as it may.
void Compiler::open_loop(const RegexNode& n) {
  const auto& child = n.children.front();
  const bool lazy = n.greed == RegexNode::Greed::lazy;
  for (uint32_t i = 0; i < n.least; ++i) {
    const auto before = here();
    node(child);
    if (here() == before) break;  // nothing, however often
  }
  const auto fork_here = [&] { return emit({.op = Op::fork}); };
  const auto set_fork = [&](uint32_t fork, uint32_t body, uint32_t behind) {
    program_.steps[fork].a = lazy ? behind : body;
    program_.steps[fork].b = lazy ? body : behind;
  };
  if (n.most == RegexNode::kUnlimited) {
    WINNOW_CHECK_KIND(!may_be_empty(child), ErrorKind::unsupported,
                      "pattern {} repeats without limit what may be empty, which is not supported",
                      json_quote(pattern_));
    const auto fork = fork_here();
    node(child);
    emit({.op = Op::jump, .a = fork});
    set_fork(fork, fork + 1, here());
    return;
  }
  std::vector<uint32_t> forks;
  for (uint32_t i = n.least; i < n.most; ++i) {
    forks.push_back(fork_here());
    node(child);
  }
  for (const auto fork : forks) set_fork(fork, fork + 1, here());
}

}  // namespace

RegexProgram compile_regex(std::string_view pattern, const RegexOptions& options) {
  WINNOW_CHECK(unicode::find_invalid(pattern) == std::string_view::npos, "pattern {} is not UTF-8",
               json_quote(pattern));
  return Compiler(pattern).compile(parse_regex(pattern, options));
}

}  // namespace winnow::io
