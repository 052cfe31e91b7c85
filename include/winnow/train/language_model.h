// Judging language models: the loss of a long text, window by window.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "winnow/attention/language_model.h"
#include "winnow/core/options.h"

namespace winnow::train {

struct PerplexityOptions {
  int64_t window = 1024;  // tokens that one call reads, >= 1, at most the model's context
  int64_t stride = 512;   // new tokens judged in each call, in [1, window]; smaller: more context, more calls
  int64_t batch = 4;      // windows in one call; each costs window * vocabulary numbers
  static Fields<PerplexityOptions> fields();
};

struct TextLoss {
  double nll = 0;      // sum over the judged tokens of -log p, in nats
  int64_t tokens = 0;  // judged
  [[nodiscard]] double mean() const { return tokens > 0 ? nll / static_cast<double>(tokens) : 0.0; }
  [[nodiscard]] double perplexity() const;
  // Bits for each byte of a text of that many bytes.
  [[nodiscard]] double bits_per_byte(int64_t bytes) const;
};

// Every token of ids [T] but the first is judged once, from at most `window` tokens before it: the first window judges
// all it can, each later one the `stride` tokens that follow. With T - 1 <= window it is the plain loss of one forward.
// progress(tokens judged) is called after each call. The model should be in evaluation mode.
TextLoss strided_loss(LanguageModel& model, const at::Tensor& ids, const PerplexityOptions& options = {},
                      const std::function<void(int64_t)>& progress = {});

}  // namespace winnow::train
