// Cross-entropy over a vocabulary, made for language models: one array of the size of the logits, or none.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace winnow {

struct TokenLossOptions {
  int64_t ignore = -100;         // targets of this value do not count
  double label_smoothing = 0.0;  // e in [0, 1): the target distribution is (1 - e) one-hot + e / V
  double z_loss = 0.0;           // >= 0: adds z (log sum exp)^2 of each token (Chowdhery et al. 2022, arXiv 2204.02311)
  int64_t chunk = 1024;          // rows at a time where logits are made inside, >= 1
};

// Mean over the counted rows of -log softmax(logits)[target] (with the options' additions); 0 without one, with a zero
// gradient. logits [..., V] floating point, targets [...] int64 in [0, V) or `ignore`. The gradient is made in the
// forward pass, in the one array that then remains. Half-precision logits are summed in float32. Not twice
// differentiable. Throws winnow::Error on other shapes, dtypes and targets.
at::Tensor token_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                               const TokenLossOptions& options = {});

// The same of logits = x W^T without ever holding them: x [..., D], weight [V, D] of the dtype of x. The logits of
// `chunk` rows are made, turned into their gradient and multiplied back at once; backward only scales.
at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets,
                                const TokenLossOptions& options = {});

// -log softmax(logits)[target] of every row, without gradient; 0 where ignored. float32 (float64 of float64) [...].
at::Tensor token_nll(const at::Tensor& logits, const at::Tensor& targets, int64_t ignore = -100);

// Targets of a causal model: targets[b, t] = ids[b, t + 1], ignore at the last place. ids [B, L] int64.
at::Tensor next_tokens(const at::Tensor& ids, int64_t ignore = -100);

}  // namespace winnow
