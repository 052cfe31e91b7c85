#pragma once
#include <ATen/core/Tensor.h>

#include "winnow/core/options.h"

namespace winnow {

// Pointwise activations under the names that published configurations use.
enum class Activation {
  gelu,        // x * Phi(x), the exact form with erf
  gelu_new,    // the tanh approximation
  quick_gelu,  // x * sigmoid(1.702 x)
  relu,
  silu,  // x * sigmoid(x)
};
EnumNames<Activation> enum_names(Activation);

// The activation of every element of x; shape and dtype of x. Differentiable.
at::Tensor activate(const at::Tensor& x, Activation activation);

}  // namespace winnow
