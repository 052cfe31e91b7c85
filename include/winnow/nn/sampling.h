// From logits to the next token: warping (temperature, top-k, top-p, min-p, typical, epsilon, eta), drawing by one
// uniform number a row, log-probabilities. Pure functions without hidden state: the same logits, options and uniform
// number give the same token, whatever else is in the batch.
//
// Logits are [B, V] or [V], floating, on any device; the work is done on the CPU in float32 with sums in float64, and
// results come back on the input's device. A row with NaN or +infinity, or without a finite entry, is an Error
// (argument) that names the row. Equal logits: the token of lower id comes first, always.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/nn/logit_rules.h"

namespace winnow {

// The rules in the order in which they are applied; a default switches its rule off. A removed token has the warped
// logit -infinity, a kept one its logit / temperature. At least `min_tokens` tokens are kept by each rule.
struct WarpOptions {
  double temperature = 1.0;  // >= 0; 0: only the first of the largest logits is kept, with logit 0
  int64_t top_k = 0;         // > 0: the k largest and all that equal the k-th
  double top_p = 1.0;        // < 1: the fewest largest tokens whose probability reaches p (nucleus)
  double min_p = 0.0;        // > 0: tokens of at least min_p times the largest probability
  double typical_p = 1.0;    // < 1: locally typical, the tokens whose -log p is nearest the entropy until p is reached,
                             // and all at the same distance (Meister et al. 2022, arXiv 2202.00666)
  double epsilon_cutoff = 0.0;  // > 0: tokens of at least this probability
  double eta_cutoff = 0.0;      // > 0: of at least min(eta, sqrt(eta) exp(-entropy)) (Hewitt 2022, arXiv 2210.15191)
  int64_t min_tokens = 1;
  static Fields<WarpOptions> fields();
};

// Logits after the rules, float32 [B, V]; removed: -infinity. Throws Error for an option out of range.
at::Tensor warp_logits(const at::Tensor& logits, const WarpOptions& options);
// softmax(warp_logits): the distribution that sample_tokens draws from, float32.
at::Tensor warp_probabilities(const at::Tensor& logits, const WarpOptions& options);

// One token a row of warp_probabilities by its uniform number in [0, 1), int64 [B] on the CPU: the first token, in
// order of id, at which the cumulative probability exceeds u. No row is sorted; with top_k only k candidates are looked
// at.
at::Tensor sample_tokens(const at::Tensor& logits, const WarpOptions& options, std::span<const double> uniforms);
// The same on given weights [B, V] >= 0 that need not sum to 1 (a residual distribution, say). A row that sums to 0 is
// an Error.
at::Tensor draw_tokens(const at::Tensor& weights, std::span<const double> uniforms);
// The largest logit of each row, lowest id first, int64 [B] on the CPU.
at::Tensor greedy_tokens(const at::Tensor& logits);
// log-softmax(logits) at the tokens, float32 [B]; tokens int64 [B] in [0, V).
at::Tensor token_log_probs(const at::Tensor& logits, const at::Tensor& tokens);

// One row without tensors, as generation calls it.
struct DrawnToken {
  int64_t token = 0;
  double probability = 1;  // under the warped distribution
};
DrawnToken sample_row(std::span<const float> logits, const WarpOptions& options, double uniform);
int64_t greedy_row(std::span<const float> logits);
double log_prob_row(std::span<const float> logits, int64_t token);

// The uniform number in [0, 1) of a stream at a position: a function of the two alone, so that a sequence draws the
// same numbers in any batch. Streams of one run: derive_seed(seed, row).
double stream_uniform(uint64_t stream, uint64_t position);

// The rules of nn/logit_rules.h over [B, V], one history a row; the input stays as it is.
using TokenHistory = std::vector<TokenSpan>;
at::Tensor penalize_repetition(const at::Tensor& logits, const TokenHistory& history, double penalty);
at::Tensor penalize_presence(const at::Tensor& logits, const TokenHistory& history, double presence, double frequency);
at::Tensor forbid_repeated_ngrams(const at::Tensor& logits, const TokenHistory& history, int64_t n);
at::Tensor forbid_tokens(const at::Tensor& logits, TokenSpan tokens);
at::Tensor add_sequence_bias(const at::Tensor& logits, const TokenHistory& history,
                             const std::vector<logit_row::SequenceBias>& biases);
at::Tensor guide_logits(const at::Tensor& conditional, const at::Tensor& unconditional, double scale);

}  // namespace winnow
