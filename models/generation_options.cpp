#include <cmath>

#include "winnow/core/error.h"
#include "winnow/models/generation.h"

namespace winnow::models {
namespace {

void check_count(const char* name, int64_t value, int64_t least) {
  WINNOW_CHECK(value >= least, "generate: {} must be >= {}, got {}", name, least, value);
}
void check_count(const char* name, const std::optional<int64_t>& value, int64_t least) {
  if (value) check_count(name, *value, least);
}
void check_positive(const char* name, double value) {
  WINNOW_CHECK(value > 0 && std::isfinite(value), "generate: {} must be > 0 and finite, got {}", name, value);
}

void check_choices(const GenerationOptions& o) {
  check(o.warp);
  check_positive("repetition_penalty", o.repetition_penalty);
  check_positive("encoder_repetition_penalty", o.encoder_repetition_penalty);
  WINNOW_CHECK(std::isfinite(o.presence_penalty) && std::isfinite(o.frequency_penalty),
               "generate: presence_penalty and frequency_penalty must be finite, got {} and {}", o.presence_penalty,
               o.frequency_penalty);
  WINNOW_CHECK(o.guidance_scale >= 0 && std::isfinite(o.guidance_scale),
               "generate: guidance_scale must be >= 0 and finite, got {}", o.guidance_scale);
  for (const auto& word : o.bad_words)
    WINNOW_CHECK(!word.empty(), "generate: bad_words must not hold an empty sequence");
  for (const auto& bias : o.sequence_bias) {
    WINNOW_CHECK(!bias.tokens.empty(), "generate: sequence_bias must not hold an empty sequence");
  }
  if (o.exponential_decay_length) check_positive("exponential_decay_length", o.exponential_decay_length->second);
}

}  // namespace

void GenerationOptions::check() const {
  check_count("max_new_tokens", max_new_tokens, 1);
  check_count("max_length", max_length, 1);
  check_count("min_new_tokens", min_new_tokens, 0);
  check_count("min_length", min_length, 0);
  WINNOW_CHECK(!max_new_tokens || !min_new_tokens || *min_new_tokens <= *max_new_tokens,
               "generate: min_new_tokens must be <= max_new_tokens = {}, got {}", *max_new_tokens, *min_new_tokens);
  check_count("no_repeat_ngram", no_repeat_ngram, 0);
  check_count("encoder_no_repeat_ngram", encoder_no_repeat_ngram, 0);
  check_count("prefill_chunk", prefill_chunk, 0);
  check_count("beams", beams, 1);
  check_count("sequences", sequences, 1);
  WINNOW_CHECK(std::isfinite(length_penalty), "generate: length_penalty must be finite, got {}", length_penalty);
  WINNOW_CHECK(stop_strings.empty() || tokenizer, "generate: stop_strings need a tokenizer");
  WINNOW_CHECK_KIND(beams == 1 || !sample, ErrorKind::unsupported,
                    "generate: beam search with sampling is not supported, choose beams = 1 or sample = false");
  WINNOW_CHECK(beams == 1 || sequences <= beams, "generate: sequences must be <= beams = {}, got {}", beams, sequences);
  WINNOW_CHECK(beams > 1 || sample || sequences == 1,
               "generate: several sequences need sampling or beams, greedy decoding has one, got {}", sequences);
  for (const auto token : eos) WINNOW_CHECK(token >= 0, "generate: eos must be >= 0, got {}", token);
  check_choices(*this);
}

}  // namespace winnow::models
