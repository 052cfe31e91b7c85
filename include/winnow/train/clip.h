// Gradient clipping. Parameters without a gradient are left out; no parameter at all is allowed.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace winnow::train {

// The L2 norm of all gradients as one vector: a scalar tensor (float, on the device of the first gradient; 0 if there
// is none).
at::Tensor grad_norm(const std::vector<at::Tensor>& parameters);

// Scales all gradients by min(1, max_norm / (norm + 1e-6)), in place, and returns the norm before, without reading it
// on the host. max_norm > 0. A NaN or infinite norm makes the gradients NaN or 0: check the returned norm where that
// matters.
at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm);

// Clamps each entry to [-max_value, max_value], in place. max_value > 0.
void clip_grad_value(const std::vector<at::Tensor>& parameters, double max_value);

}  // namespace winnow::train
