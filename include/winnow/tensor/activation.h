#pragma once

#include <ATen/core/Tensor.h>

namespace winnow {

// gelu(x + bias) in one pass, exact (erf) form. x [..., F], bias [F] -> [..., F]. float32 and float64 natively, float16
// and bfloat16 in float32. Gradients for x and bias in one pass, the bias gradient the same bits for any number of
// threads; no double backward (an error). float32 results lie within 1e-6 * (1 + |x|) of the exact value. NaN gives
// NaN. CPU, CUDA and meta tensors. Throws winnow::Error if shapes or devices differ.
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias);

}  // namespace winnow
