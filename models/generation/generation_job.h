// One call of generate(): what was asked, checked and made whole.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <optional>
#include <vector>

#include "decoder_run.h"
#include "logit_chain.h"
#include "winnow/models/generation.h"
#include "winnow/models/text_stream.h"

namespace winnow::models {

struct GenerationJob {
  LanguageModel& model;
  const GenerationInput& input;
  const GenerationOptions& options;
  const TokenCallback& callback;
  std::vector<std::vector<int64_t>> prompts;    // none is empty
  std::vector<std::vector<int64_t>> negatives;  // [B] with guidance, else none
  std::vector<LengthLimits> limits;             // [B]
  std::chrono::steady_clock::time_point begin;

  [[nodiscard]] double seconds() const;
  [[nodiscard]] bool out_of_time() const { return options.max_seconds && seconds() >= *options.max_seconds; }
  [[nodiscard]] TokenSpan encoder_tokens(size_t row) const;
  [[nodiscard]] bool is_eos(int64_t token) const;
  // The text behind a prompt; none without a tokenizer.
  [[nodiscard]] std::optional<TextStream> text_stream(size_t row) const;
};

// Logits of the last token of each sequence, float32 [n, V] on the CPU; `unconditional` is undefined without guidance.
struct StepLogits {
  at::Tensor conditional, unconditional;
  [[nodiscard]] std::span<const float> row(int64_t i) const { return row_of(conditional, i); }
  [[nodiscard]] std::span<const float> unconditional_row(int64_t i) const { return row_of(unconditional, i); }

 private:
  static std::span<const float> row_of(const at::Tensor& logits, int64_t i);
};

// The batch, and beside it that of the negative prompts.
class GuidedRun {
 public:
  explicit GuidedRun(const GenerationJob& job);
  StepLogits prefill();
  StepLogits step(TokenSpan tokens);
  bool select(const std::vector<int64_t>& rows);
  [[nodiscard]] int64_t reused() const { return conditional_.reused(); }

 private:
  const GenerationJob& job_;
  DecoderRun conditional_;
  std::optional<DecoderRun> unconditional_;
};

GenerationOutput decode_tokens(const GenerationJob& job);  // greedy or sampled
GenerationOutput beam_search(const GenerationJob& job);

}  // namespace winnow::models
