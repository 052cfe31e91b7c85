#include "winnow/nn/sampling.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>

#include "row_warper.h"
#include "winnow/core/random.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using detail::RowWarper;

RowWarper& scratch() {
  static thread_local RowWarper warper;
  return warper;
}

// [B, V] float32 on the CPU, contiguous.
at::Tensor as_rows(const char* what, const at::Tensor& logits) {
  check_defined(what, logits);
  check_floating(what, logits);
  WINNOW_CHECK((logits.dim() == 1 || logits.dim() == 2) && logits.size(-1) >= 1,
               "{} must have shape [B, V] or [V] with V >= 1, got {}", what, logits.sizes());
  const auto rows = logits.dim() == 1 ? logits.unsqueeze(0) : logits;
  return rows.detach().to(at::kCPU, at::kFloat).contiguous();
}

std::span<const float> row_of(const at::Tensor& rows, int64_t b) {
  const auto V = rows.size(1);
  return {rows.const_data_ptr<float>() + b * V, static_cast<size_t>(V)};
}

std::span<float> mutable_row_of(const at::Tensor& rows, int64_t b) {
  const auto V = rows.size(1);
  return {rows.data_ptr<float>() + b * V, static_cast<size_t>(V)};
}

// fn(b) for each row, several threads where rows are long.
template <typename Fn>
void for_each_row(const at::Tensor& rows, const Fn& fn) {
  const auto grain = std::max<int64_t>(1, (int64_t{1} << 15) / rows.size(1));
  at::parallel_for(0, rows.size(0), grain, [&](int64_t begin, int64_t end) {
    for (auto b = begin; b < end; ++b) fn(b);
  });
}

void check_uniforms(const char* what, std::span<const double> uniforms, int64_t B) {
  WINNOW_CHECK(static_cast<int64_t>(uniforms.size()) == B, "{}: uniforms must have one number a row, {}, got {}", what,
               B, uniforms.size());
  for (const auto u : uniforms) WINNOW_CHECK(u >= 0 && u < 1, "{}: uniforms must be in [0, 1), got {}", what, u);
}

using WriteRow = void (RowWarper::*)(std::span<float>) const;

at::Tensor warp(const char* what, const at::Tensor& logits, const WarpOptions& options, WriteRow write) {
  check(options);
  const auto rows = as_rows(what, logits);
  const auto out = at::empty_like(rows);
  for_each_row(rows, [&](int64_t b) {
    scratch().load(row_of(rows, b), options, what, b);
    (scratch().*write)(mutable_row_of(out, b));
  });
  return out.view(logits.sizes()).to(logits.device());
}

// A changed copy: fn(row, b) for each row.
template <typename Fn>
at::Tensor change_rows(const char* what, const at::Tensor& logits, const Fn& fn) {
  auto rows = as_rows(what, logits);
  if (rows.is_alias_of(logits)) rows = rows.clone();
  for_each_row(rows, [&](int64_t b) { fn(mutable_row_of(rows, b), b); });
  return rows.view(logits.sizes()).to(logits.device());
}

void check_history(const char* what, const at::Tensor& logits, const TokenHistory& history) {
  check_defined(what, logits);
  const auto B = logits.dim() == 2 ? logits.size(0) : 1;
  WINNOW_CHECK(static_cast<int64_t>(history.size()) == B, "{}: history must have one span a row, {}, got {}", what, B,
               history.size());
}

}  // namespace

Fields<WarpOptions> WarpOptions::fields() {
  return Fields<WarpOptions>("Warp")
      .add("temperature", &WarpOptions::temperature, "divides the logits; 0: the largest alone",
           in_range(0, 1e30, Ends::closed))
      .add("top_k", &WarpOptions::top_k, "tokens kept; 0: all", at_least(0))
      .add("top_p", &WarpOptions::top_p, "probability that the kept tokens reach", in_range(0, 1))
      .add("min_p", &WarpOptions::min_p, "least probability relative to the largest", in_range(0, 1))
      .add("typical_p", &WarpOptions::typical_p, "probability that the typical tokens reach",
           in_range(0, 1, Ends::left_open))
      .add("epsilon_cutoff", &WarpOptions::epsilon_cutoff, "least probability", in_range(0, 1, Ends::right_open))
      .add("eta_cutoff", &WarpOptions::eta_cutoff, "least probability, lower where the entropy is high",
           in_range(0, 1, Ends::right_open))
      .add("min_tokens", &WarpOptions::min_tokens, "tokens that each rule keeps at least", at_least(1));
}

at::Tensor warp_logits(const at::Tensor& logits, const WarpOptions& options) {
  return warp("warp_logits", logits, options, &RowWarper::write_logits);
}

at::Tensor warp_probabilities(const at::Tensor& logits, const WarpOptions& options) {
  return warp("warp_probabilities", logits, options, &RowWarper::write_probabilities);
}

at::Tensor sample_tokens(const at::Tensor& logits, const WarpOptions& options, std::span<const double> uniforms) {
  check(options);
  const auto rows = as_rows("sample_tokens", logits);
  check_uniforms("sample_tokens", uniforms, rows.size(0));
  const auto tokens = at::empty({rows.size(0)}, at::kLong);
  auto* out = tokens.data_ptr<int64_t>();
  for_each_row(rows, [&](int64_t b) {
    scratch().load(row_of(rows, b), options, "sample_tokens", b);
    out[b] = scratch().draw(uniforms[static_cast<size_t>(b)]).token;
  });
  return tokens;
}

at::Tensor draw_tokens(const at::Tensor& weights, std::span<const double> uniforms) {
  const auto rows = as_rows("draw_tokens", weights);
  check_uniforms("draw_tokens", uniforms, rows.size(0));
  const auto tokens = at::empty({rows.size(0)}, at::kLong);
  auto* out = tokens.data_ptr<int64_t>();
  for_each_row(rows, [&](int64_t b) {
    const auto row = row_of(rows, b);
    double total = 0;
    for (const auto w : row) {
      WINNOW_CHECK(w >= 0 && std::isfinite(w), "draw_tokens: weights must be >= 0 and finite, got {} in row {}", w, b);
      total += w;
    }
    WINNOW_CHECK(total > 0, "draw_tokens: weights of row {} must not all be 0", b);
    const auto target = uniforms[static_cast<size_t>(b)] * total;
    double sum = 0;
    for (size_t i = 0; i < row.size() && sum <= target; ++i) {
      sum += row[i];
      if (row[i] > 0) out[b] = static_cast<int64_t>(i);
    }
  });
  return tokens;
}

at::Tensor greedy_tokens(const at::Tensor& logits) {
  const auto rows = as_rows("greedy_tokens", logits);
  const auto tokens = at::empty({rows.size(0)}, at::kLong);
  auto* out = tokens.data_ptr<int64_t>();
  for_each_row(rows, [&](int64_t b) {
    const auto row = row_of(rows, b);
    const auto largest = detail::check_row(row, "greedy_tokens", b);
    out[b] = std::find(row.begin(), row.end(), largest) - row.begin();
  });
  return tokens;
}

at::Tensor token_log_probs(const at::Tensor& logits, const at::Tensor& tokens) {
  const auto rows = as_rows("token_log_probs", logits);
  check_defined("token_log_probs: tokens", tokens);
  check_indices("token_log_probs: tokens", tokens, rows.size(1));
  WINNOW_CHECK(tokens.numel() == rows.size(0), "token_log_probs: tokens must hold one a row, {}, got {}", rows.size(0),
               tokens.sizes());
  const auto ids = tokens.to(at::kCPU, at::kLong).contiguous();
  const auto out = at::empty({rows.size(0)}, at::kFloat);
  auto* values = out.data_ptr<float>();
  for_each_row(rows, [&](int64_t b) {
    values[b] = static_cast<float>(log_prob_row(row_of(rows, b), ids.const_data_ptr<int64_t>()[b]));
  });
  return out.to(logits.device());
}

DrawnToken sample_row(std::span<const float> logits, const WarpOptions& options, double uniform) {
  check(options);
  scratch().load(logits, options, "sample_row", 0);
  return scratch().draw(uniform);
}

int64_t greedy_row(std::span<const float> logits) {
  const auto largest = detail::check_row(logits, "greedy_row", 0);
  return std::find(logits.begin(), logits.end(), largest) - logits.begin();
}

double log_prob_row(std::span<const float> logits, int64_t token) {
  static thread_local std::vector<float> weights;
  WINNOW_CHECK(token >= 0 && token < static_cast<int64_t>(logits.size()),
               "log_prob_row: token must be in [0, {}), got {}", logits.size(), token);
  const auto largest = detail::check_row(logits, "log_prob_row", 0);
  const auto sum = detail::exp_row(logits, 1, largest, weights);
  return static_cast<double>(logits[static_cast<size_t>(token)]) - largest - std::log(sum);
}

double stream_uniform(uint64_t stream, uint64_t position) {
  return Random(derive_seed(stream, position)).uniform();
}

at::Tensor penalize_repetition(const at::Tensor& logits, const TokenHistory& history, double penalty) {
  check_history("penalize_repetition", logits, history);
  return change_rows("penalize_repetition", logits, [&](std::span<float> row, int64_t b) {
    logit_row::penalize_repetition(row, history[static_cast<size_t>(b)], penalty);
  });
}

at::Tensor penalize_presence(const at::Tensor& logits, const TokenHistory& history, double presence, double frequency) {
  check_history("penalize_presence", logits, history);
  return change_rows("penalize_presence", logits, [&](std::span<float> row, int64_t b) {
    logit_row::penalize_presence(row, history[static_cast<size_t>(b)], presence, frequency);
  });
}

at::Tensor forbid_repeated_ngrams(const at::Tensor& logits, const TokenHistory& history, int64_t n) {
  check_history("forbid_repeated_ngrams", logits, history);
  return change_rows("forbid_repeated_ngrams", logits, [&](std::span<float> row, int64_t b) {
    const auto tokens = history[static_cast<size_t>(b)];
    logit_row::forbid_ngrams(row, tokens, tokens, n);
  });
}

at::Tensor forbid_tokens(const at::Tensor& logits, TokenSpan tokens) {
  return change_rows("forbid_tokens", logits, [&](std::span<float> row, int64_t) { logit_row::forbid(row, tokens); });
}

at::Tensor add_sequence_bias(const at::Tensor& logits, const TokenHistory& history,
                             const std::vector<logit_row::SequenceBias>& biases) {
  check_history("add_sequence_bias", logits, history);
  return change_rows("add_sequence_bias", logits, [&](std::span<float> row, int64_t b) {
    for (const auto& bias : biases) logit_row::add_bias(row, history[static_cast<size_t>(b)], bias);
  });
}

at::Tensor guide_logits(const at::Tensor& conditional, const at::Tensor& unconditional, double scale) {
  const auto other = as_rows("guide_logits: unconditional", unconditional);
  check_defined("guide_logits: conditional", conditional);
  WINNOW_CHECK(conditional.sizes() == unconditional.sizes(),
               "guide_logits: unconditional must have the shape of conditional, {}, got {}", conditional.sizes(),
               unconditional.sizes());
  return change_rows("guide_logits: conditional", conditional,
                     [&](std::span<float> row, int64_t b) { logit_row::guide(row, row_of(other, b), scale); });
}

}  // namespace winnow
