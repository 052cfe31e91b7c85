#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace winnow {

struct GradcheckOptions {
  double eps = 1e-6;          // step of the central difference
  double tolerance = 1e-5;    // largest |analytic - numeric| / max(1, |analytic|, |numeric|) that passes
  uint64_t seed = 0;          // of the random weights that make one number of the outputs
  bool deterministic = true;  // demand that a second run gives the same gradients to the bit
};

struct GradcheckResult {
  bool passed = false;
  double worst_error = 0;    // relative as above
  int64_t worst_input = -1;  // which input, -1 if none needs a gradient
  int64_t worst_index = -1;  // flat index in that input
  double analytic = 0;       // the two derivatives there
  double numeric = 0;
  std::string message;  // what failed, in one sentence; empty if passed
};

using GradcheckFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

// Compares the gradients of sum_i <w_i, fn(inputs)_i>, w random, with central differences, for every element of every
// float64 input that requires a gradient; other inputs pass as they are. fn must be a pure function of the inputs.
// Outputs that need no gradient are left out. Throws winnow::Error if an input that requires a gradient is not float64
// or no output has a gradient.
GradcheckResult gradcheck(const GradcheckFunction& fn, const std::vector<at::Tensor>& inputs,
                          const GradcheckOptions& opts = {});

}  // namespace winnow
