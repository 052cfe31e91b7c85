// Rules on the next token that look at the tokens so far: penalties, forbidden n-grams, biases. Each changes one row of
// logits [V] in place; -infinity means "never". Token ids outside [0, V) in a history are passed over (a vocabulary may
// have more embeddings than outputs). The same as tensor functions over [B, V]: nn/sampling.h.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace winnow {

using TokenSpan = std::span<const int64_t>;

namespace logit_row {

// Once per distinct token of the history: x < 0 becomes x * penalty, else x / penalty. penalty > 0; 1 changes nothing.
// Source: Keskar et al. 2019 (CTRL), arXiv 1909.05858, section 4.1, as transformers writes it for negative logits.
void penalize_repetition(std::span<float> row, TokenSpan history, double penalty);

// x - presence - frequency * count for every token that the history holds, count times.
void penalize_presence(std::span<float> row, TokenSpan history, double presence, double frequency);

// No n-gram of the history occurs again: forbids every token that followed an earlier occurrence of the last n - 1
// tokens of `history` in `earlier` (give history twice for no_repeat_ngram, the encoder's tokens for its cousin).
// n >= 1; n = 1 forbids every token of `earlier`. A history shorter than n - 1 forbids nothing.
// Source: Paulus et al. 2017, arXiv 1705.04304, section 2.5.
void forbid_ngrams(std::span<float> row, TokenSpan history, TokenSpan earlier, int64_t n);

// -infinity for these tokens.
void forbid(std::span<float> row, TokenSpan tokens);
// -infinity for all but these tokens, which get 0: they are drawn alike.
void force(std::span<float> row, TokenSpan tokens);

// A bias on the last token of a sequence, added where the history ends in the tokens before it; -infinity forbids. A
// sequence of one token counts always.
struct SequenceBias {
  std::vector<int64_t> tokens;  // at least one
  double bias = 0;
};
void add_bias(std::span<float> row, TokenSpan history, const SequenceBias& bias);

// Classifier-free guidance on log-probabilities: u + scale * (c - u) with c and u the log-softmax of `row` and of
// `unconditional`, written to `row`. scale = 1 gives log-softmax(row). A token that is impossible (-infinity) in `row`
// stays so; one that is impossible only in `unconditional` keeps c.
// Source: Sanchez et al. 2023, arXiv 2306.17806, equation 7.
void guide(std::span<float> row, std::span<const float> unconditional, double scale);

}  // namespace logit_row
}  // namespace winnow
