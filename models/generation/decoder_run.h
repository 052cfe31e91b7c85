// A ragged batch on its way through a model: prefill of left-padded prompts, then one token a row and step.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "winnow/attention/language_model.h"
#include "winnow/models/generation.h"
#include "winnow/nn/logit_rules.h"

namespace winnow::models {

class DecoderRun {
 public:
  // Room for `new_tokens` behind the longest prompt is taken at once.
  // `cache`, if not null, holds the state, for a single prompt.
  DecoderRun(LanguageModel& model, const std::vector<TokenSpan>& prompts, int64_t new_tokens, PromptCache* cache);

  // Logits of the last token of each prompt, float32 [B, V] on the CPU. `chunk` > 0: in pieces of so many tokens.
  at::Tensor prefill(const at::Tensor& encoder_states, const at::Tensor& encoder_keep, int64_t chunk);
  // The same after one more token a row.
  at::Tensor step(TokenSpan tokens);
  // Keeps these rows, in this order; a row may be given twice. False if the state cannot do it: all rows stay.
  bool select(const std::vector<int64_t>& rows);
  // Tokens of the prompt that the cache held.
  [[nodiscard]] int64_t reused() const { return reused_; }

 private:
  at::Tensor run(LmInput input);
  void open_cache(TokenSpan prompt, int64_t capacity);

  LanguageModel& model_;
  PromptCache* cache_;
  std::unique_ptr<DecoderState> own_state_;
  DecoderState* state_;
  at::Device device_;
  at::Tensor ids_;        // [B, L] of the prompts, then [B, 1], on the CPU
  at::Tensor keep_;       // bool [B, room]; undefined where no prompt is padded
  at::Tensor positions_;  // of the next tokens [B, 1]; undefined likewise
  int64_t length_ = 0;    // columns read
  int64_t reused_ = 0;
};

// Where the model's weights lie.
at::Device device_of(const LanguageModel& model);

}  // namespace winnow::models
