#pragma once

#include <ATen/core/Tensor.h>

namespace winnow {

// LayerNorm over the last dimension: (x - mean) / sqrt(var + eps) * weight + bias, var divided by D. x [..., D], weight
// and bias [D]. float32 and float64 natively, float16 and bfloat16 in float32. No double backward (an error). A row of
// NaN gives NaN in that row only. Throws winnow::Error if shapes or devices differ or eps is negative.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps = 1e-6);

struct AddLayerNorm {
  at::Tensor sum;         // x + delta: the residual stream
  at::Tensor normalized;  // layer_norm(sum)
};

// Residual addition and the norm that follows it in one pass, forward and backward: sum = x + delta,
// normalized = layer_norm(sum, weight, bias, eps). x and delta [..., D] of one shape and dtype.
AddLayerNorm add_layer_norm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                            const at::Tensor& bias, double eps = 1e-6);

}  // namespace winnow
