#pragma once

#include <ATen/core/Tensor.h>

namespace winnow {

struct AddLayerNorm {
  at::Tensor sum;         // x + delta: the residual stream
  at::Tensor normalized;  // its LayerNorm
};

// Residual addition and the LayerNorm that follows it in one pass, forward and backward: sum = x + delta, normalized =
// (sum - mean) / sqrt(var + eps) * weight + bias over the last dimension, var divided by D. x and delta [..., D] of one
// shape and dtype, weight and bias [D]. float32 and float64 natively, float16 and bfloat16 in float32. No double
// backward (an error). A row of NaN gives NaN in that row only. Throws winnow::Error if shapes or devices differ or eps
// is negative. (The norm alone is at::layer_norm, which a kernel of our own did not beat.)
AddLayerNorm add_layer_norm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                            const at::Tensor& bias, double eps = 1e-6);

}  // namespace winnow
