#include "regex.h"

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {

using Op = RegexStep::Op;

// Where to go on when a path fails: at `step` with any position from `at` down to `least`, a character at a time.
struct Regex::Frame {
  uint32_t step;
  size_t at, least;
};

struct Regex::Run {
  std::string_view text;
  std::vector<Frame> frames{};
  int64_t steps = 0;
};

namespace {

constexpr int64_t kMaxSteps = 50'000'000;
constexpr size_t kMaxFrames = 4'000'000;

bool is_word_at(std::string_view text, size_t at) {
  return at < text.size() && unicode::has(unicode::decode(text, at).code, unicode::Trait::word);
}

bool is_word_edge(std::string_view text, size_t at) {
  const bool before = at > 0 && is_word_at(text, unicode::previous(text, at));
  return before != is_word_at(text, at);
}

bool holds(Op op, std::string_view text, size_t at) {
  switch (op) {
    case Op::line_begin: return at == 0 || (text[at - 1] == '\n' && at < text.size());
    case Op::line_end: return at == text.size() || text[at] == '\n';
    case Op::text_begin: return at == 0;
    case Op::text_end: return at == text.size();
    case Op::last_line_end: return at == text.size() || (at + 1 == text.size() && text[at] == '\n');
    case Op::word_edge: return is_word_edge(text, at);
    default: return !is_word_edge(text, at);
  }
}

}  // namespace

Regex::Regex(std::string_view pattern, const RegexOptions& options) : pattern_(pattern) {
  auto program = compile_regex(pattern, options);
  steps_ = std::move(program.steps);
  sets_ = std::move(program.sets);
}

bool Regex::repeat(Run& run, const RegexStep& step, uint32_t pc, size_t& at) const {
  const auto& set = sets_[step.a];
  uint32_t count = 0;
  size_t least = at;
  while (count < step.c && at < run.text.size()) {
    const auto c = unicode::decode(run.text, at);
    if (!set.contains(c.code)) break;
    at += c.length;
    ++count;
    if (count == step.b) least = at;
  }
  run.steps += count;
  if (count < step.b) return false;
  if (at > least) run.frames.push_back({pc + 1, unicode::previous(run.text, at), least});
  return true;
}

bool Regex::look(Run& run, const RegexStep& step, size_t at) const {
  if (step.behind) {
    for (uint32_t i = 0; i < step.c; ++i) {
      if (at == 0) return step.negated;
      at = unicode::previous(run.text, at);
    }
  }
  return match_at(run, step.a, at).has_value() != step.negated;
}

// One step that may move on; false where the path fails here.
bool Regex::execute(Run& run, const RegexStep& step, uint32_t& pc, size_t& at) const {
  switch (step.op) {
    case Op::code:
    case Op::set: {
      if (at >= run.text.size()) return false;
      const auto c = unicode::decode(run.text, at);
      if (step.op == Op::code ? c.code != step.a : !sets_[step.a].contains(c.code)) return false;
      at += c.length;
      ++pc;
      return true;
    }
    case Op::repeat: return repeat(run, step, pc, at) && (++pc, true);
    case Op::fork:
      WINNOW_CHECK_KIND(run.frames.size() < kMaxFrames, ErrorKind::unsupported,
                        "pattern {} keeps more than {} choices on this text", json_quote(pattern_), kMaxFrames);
      run.frames.push_back({step.b, at, at});
      pc = step.a;
      return true;
    case Op::jump: pc = step.a; return true;
    case Op::look: pc = step.b; return look(run, step, at);
    case Op::atomic: {
      const auto end = match_at(run, step.a, at);
      if (!end) return false;
      at = *end;
      pc = step.b;
      return true;
    }
    default: ++pc; return holds(step.op, run.text, at);
  }
}

std::optional<size_t> Regex::match_at(Run& run, uint32_t pc, size_t at) const {
  const auto base = run.frames.size();
  while (true) {
    WINNOW_CHECK_KIND(++run.steps <= kMaxSteps, ErrorKind::unsupported,
                      "pattern {} takes more than {} steps on this text", json_quote(pattern_), kMaxSteps);
    const auto& step = steps_[pc];
    if (step.op == Op::match) {
      run.frames.resize(base);
      return at;
    }
    if (execute(run, step, pc, at)) continue;
    if (run.frames.size() == base) return std::nullopt;
    auto& frame = run.frames.back();
    pc = frame.step;
    at = frame.at;
    if (frame.at == frame.least) {
      run.frames.pop_back();
    } else {
      frame.at = unicode::previous(run.text, frame.at);
    }
  }
}

std::optional<Regex::Match> Regex::find(std::string_view text, size_t from) const {
  Run run{.text = text};
  for (auto at = from; at <= text.size(); at += at < text.size() ? unicode::length_of(text[at]) : 1) {
    if (const auto end = match_at(run, 0, at)) return Match{at, *end};
  }
  return std::nullopt;
}

std::string regex_quote(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace winnow::io
