// The changes to a row of logits that GenerationOptions ask for, in their order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "winnow/models/generation.h"

namespace winnow::models {

// One sequence as the rules see it.
struct SequenceView {
  TokenSpan tokens;        // prompt and new
  int64_t prompt = 0;      // tokens of the prompt
  int64_t max_new = 0;     // new tokens at most
  TokenSpan encoder = {};  // the encoder's tokens
};

class LogitChain {
 public:
  explicit LogitChain(const GenerationOptions& options);

  // Whether any rule is on: then change() is called on a copy of the row.
  [[nodiscard]] bool active() const { return active_; }
  // `unconditional`: the row of the negative prompt; empty without guidance.
  void change(std::span<float> row, const SequenceView& sequence, std::span<const float> unconditional) const;

 private:
  void penalize(std::span<float> row, const SequenceView& sequence) const;
  void shape_length(std::span<float> row, const SequenceView& sequence, int64_t count) const;

  const GenerationOptions& options_;
  bool active_;
};

// The limits of a sequence in new tokens, of the options and the context (0: none).
struct LengthLimits {
  int64_t min_new = 0, max_new = 0;
};
LengthLimits length_limits(const GenerationOptions& options, int64_t prompt, int64_t context);

}  // namespace winnow::models
