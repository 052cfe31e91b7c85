#include "logit_chain.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "winnow/core/error.h"

namespace winnow::models {
namespace {

int64_t min_new_tokens(const GenerationOptions& o, int64_t prompt) {
  return o.min_new_tokens ? *o.min_new_tokens : o.min_length.value_or(0) - prompt;
}

void remove_invalid(std::span<float> row) {
  constexpr auto most = std::numeric_limits<float>::max();
  for (auto& x : row) x = std::isnan(x) ? 0 : std::clamp(x, -most, most);
}

bool is_eos(const GenerationOptions& o, const std::vector<int64_t>& word) {
  return word.size() == 1 && std::find(o.eos.begin(), o.eos.end(), word[0]) != o.eos.end();
}

}  // namespace

LengthLimits length_limits(const GenerationOptions& o, int64_t prompt, int64_t context) {
  LengthLimits limits{.min_new = min_new_tokens(o, prompt), .max_new = context - prompt};
  if (o.max_new_tokens) {
    limits.max_new = *o.max_new_tokens;
  } else if (o.max_length) {
    limits.max_new = *o.max_length - prompt;
  } else {
    WINNOW_CHECK(context > 0,
                 "generate: the model has no limit of context: max_new_tokens or max_length must be given");
  }
  WINNOW_CHECK(context == 0 || prompt < context,
               "generate: a prompt must be shorter than the model's context of {} tokens, got {}", context, prompt);
  WINNOW_CHECK(limits.max_new >= 1, "generate: max_length must be longer than the prompt of {} tokens, got {}", prompt,
               o.max_length.value_or(0));
  WINNOW_CHECK(context == 0 || prompt + limits.max_new <= context,
               "generate: prompt and new tokens must fit the model's context of {} tokens, got {} + {}", context,
               prompt, limits.max_new);
  return limits;
}

LogitChain::LogitChain(const GenerationOptions& o)
    : options_(o),
      active_(o.guidance_scale != 1 || !o.sequence_bias.empty() || o.encoder_repetition_penalty != 1 ||
              o.repetition_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0 ||
              o.no_repeat_ngram > 0 || o.encoder_no_repeat_ngram > 0 || !o.bad_words.empty() || o.min_new_tokens ||
              o.min_length || o.forced_bos || !o.forced_eos.empty() || o.remove_invalid || o.exponential_decay_length ||
              !o.suppressed.empty() || !o.begin_suppressed.empty() || !o.forced_tokens.empty()) {}

void LogitChain::penalize(std::span<float> row, const SequenceView& s) const {
  const auto& o = options_;
  for (const auto& bias : o.sequence_bias) logit_row::add_bias(row, s.tokens, bias);
  if (o.encoder_repetition_penalty != 1) {
    logit_row::penalize_repetition(row, s.encoder, 1 / o.encoder_repetition_penalty);
  }
  if (o.repetition_penalty != 1) logit_row::penalize_repetition(row, s.tokens, o.repetition_penalty);
  if (o.presence_penalty != 0 || o.frequency_penalty != 0) {
    logit_row::penalize_presence(row, s.tokens.subspan(static_cast<size_t>(s.prompt)), o.presence_penalty,
                                 o.frequency_penalty);
  }
  if (o.no_repeat_ngram > 0) logit_row::forbid_ngrams(row, s.tokens, s.tokens, o.no_repeat_ngram);
  if (o.encoder_no_repeat_ngram > 0) logit_row::forbid_ngrams(row, s.tokens, s.encoder, o.encoder_no_repeat_ngram);
  for (const auto& word : o.bad_words) {
    if (!is_eos(o, word)) {
      logit_row::add_bias(row, s.tokens, {.tokens = word, .bias = -std::numeric_limits<double>::infinity()});
    }
  }
}

void LogitChain::shape_length(std::span<float> row, const SequenceView& s, int64_t count) const {
  const auto& o = options_;
  if (count < min_new_tokens(o, s.prompt)) logit_row::forbid(row, o.eos);
  if (o.forced_bos && s.tokens.size() == 1) logit_row::force(row, {&*o.forced_bos, 1});
  if (!o.forced_eos.empty() && count == s.max_new - 1) logit_row::force(row, o.forced_eos);
  if (o.remove_invalid) remove_invalid(row);
  if (o.exponential_decay_length && count > o.exponential_decay_length->first) {
    const auto [start, factor] = *o.exponential_decay_length;
    const auto growth = std::pow(factor, static_cast<double>(count - start)) - 1;
    for (const auto eos : o.eos) {
      if (eos >= static_cast<int64_t>(row.size())) continue;
      auto& x = row[static_cast<size_t>(eos)];
      if (std::isfinite(x)) x += static_cast<float>(std::abs(x) * growth);
    }
  }
}

void LogitChain::change(std::span<float> row, const SequenceView& s, std::span<const float> unconditional) const {
  const auto& o = options_;
  if (!unconditional.empty()) logit_row::guide(row, unconditional, o.guidance_scale);
  penalize(row, s);
  const auto length = static_cast<int64_t>(s.tokens.size()), count = length - s.prompt;
  shape_length(row, s, count);
  if (!o.suppressed.empty()) logit_row::forbid(row, o.suppressed);
  if (!o.begin_suppressed.empty() && count == (s.prompt <= 1 && o.forced_bos ? 1 : 0)) {
    logit_row::forbid(row, o.begin_suppressed);
  }
  for (const auto& [position, token] : o.forced_tokens) {
    if (position == length) logit_row::force(row, {&token, 1});
  }
}

}  // namespace winnow::models
