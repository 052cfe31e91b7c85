#pragma once

#include <ATen/core/Tensor.h>

namespace winnow {

// Whether blocked_attention takes these and is the faster way: float32 on the CPU, queries and keys of one sequence
// (equal lengths), heads of at most 128 dense elements and 32768 over all tokens. It looks at types and sizes only.
bool fits_blocked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Scaled dot-product attention softmax(scale q k^T) v of whole sequences, all tokens or causal, with gradients: for
// training on the CPU, where LibTorch's own spends most of its time between the products. q [B, H, L, d], k and v
// [B, Hkv, L, d] float32 with a dense last dimension, H a multiple of Hkv (query head h uses key head h / (H / Hkv)) ->
// [B, H, L, d], laid out as [B, L, H, d]. Not twice differentiable. Throws winnow::Error on other shapes and dtypes.
at::Tensor blocked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal, double scale);

}  // namespace winnow
