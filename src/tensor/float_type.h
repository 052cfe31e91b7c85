// The element types that the floating kernels take. Internal: not installed.
#pragma once

#include <ATen/core/Tensor.h>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::ops {

// Runs fn with a zero of the element type of x, float or double; another is a winnow::Error that begins with `what`.
template <typename Fn>
void with_float_type(const char* what, const at::Tensor& x, Fn fn) {
  if (x.scalar_type() == at::kFloat) {
    fn(float{});
    return;
  }
  WINNOW_CHECK(x.scalar_type() == at::kDouble, "{} must be float32 or float64, got {}", what, x.scalar_type());
  fn(double{});
}

// float32 for the half types, which the kernels do not take; differentiable.
inline at::Tensor widened(const at::Tensor& x) {
  return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

}  // namespace winnow::ops
