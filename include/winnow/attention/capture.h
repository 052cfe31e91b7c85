#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace winnow {

// What an attention layer is asked to leave behind, and what it left. Set the wanted flags, pass a pointer in
// AttentionArgs, read the tensors after the call. Captured tensors take part in autograd. Pattern and column sums are
// computed beside the fused attention; the output of the layer is the same with and without capture.
struct AttentionCapture {
  bool want_heads = false;        // z
  bool want_values = false;       // v
  bool want_pattern = false;      // all probabilities: N x N, for short sequences
  bool want_column_sums = false;  // how much attention each key gets: computed by chunks of queries, no N x N

  bool any_pattern() const { return want_pattern || want_column_sums; }

  at::Tensor z = {};            // [B, H, Lq, d]: output of each head before the projection
  at::Tensor v = {};            // [B, Hkv, Lk, d]
  at::Tensor pattern = {};      // [B, H, Lq, Lk]: rows sum to 1; a fully masked row is zero
  at::Tensor column_sums = {};  // [B, H, Lk]: sum over queries of the pattern
};

// softmax(scale q k^T + bias, masked) as [B, H, Lq, Lk]. q [B, H, Lq, d], k [B, Hkv, Lk, d] with Hkv a divisor of H;
// allowed: bool broadcastable, or undefined; bias: float broadcastable, or undefined. A fully masked row is zero.
// Softmax in float32 for half-precision input.
at::Tensor attention_pattern(const at::Tensor& q, const at::Tensor& k, const at::Tensor& allowed,
                             const at::Tensor& bias, double scale);

// Sum over queries of attention_pattern, [B, H, Lk], with at most `chunk` queries at a time (chunk >= 1): memory
// B H chunk Lk instead of B H Lq Lk. In a graph autograd keeps every chunk: call without gradients for long sequences.
at::Tensor attention_column_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& allowed,
                                 const at::Tensor& bias, double scale, int64_t chunk = 256);

}  // namespace winnow
