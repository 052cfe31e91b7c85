#pragma once

#include <cstdint>

// Scaled dot-product attention of a whole sequence, all tokens or causal, forward and backward: what training needs.
// Source: Dao et al. 2022 (FlashAttention), arXiv 2205.14135, algorithms 1 and 4, with whole rows instead of running
// maxima: nothing of size L x L is kept.
namespace winnow::kernels {

// Elements between neighbours; the last dimension is dense.
struct HeadStrides {
  int64_t batch, head, token;
};

// One call's sizes and inputs. Query head h uses key and value head h / (heads / kv_heads). NaN goes where IEEE
// arithmetic takes it, within the rows of its head.
struct BlockedAttention {
  const float* q;  // [batch, heads, length, width]
  const float* k;  // [batch, kv_heads, length, width]
  const float* v;
  HeadStrides q_strides, k_strides, v_strides;
  int64_t batch, heads, kv_heads, length, width;  // heads a multiple of kv_heads; all >= 1
  float scale;                                    // of the scores
  bool causal;                                    // token i sees tokens 0 .. i
};

struct BlockedAttentionGrad {
  BlockedAttention inputs;
  const float* out;       // of the forward pass, strides out_strides
  const float* grad_out;  // strides grad_strides
  const float* lse;       // of the forward pass
  HeadStrides out_strides, grad_strides;
  float* grad_q;
  float* grad_k;
  float* grad_v;
  HeadStrides grad_q_strides, grad_k_strides, grad_v_strides;
};

// Floats of scratch memory that one call needs.
int64_t blocked_attention_scratch(const BlockedAttention& args);

namespace cpu {

// Key heads [begin, end) of batch * kv_heads, each with its query heads. Writes out [batch, heads, length, width] and
// lse [batch, heads, length], the logarithm of the sum of each row's exponentials.
void blocked_attention(const BlockedAttention& args, float* out, const HeadStrides& out_strides, float* lse,
                       float* scratch, int64_t begin, int64_t end);
// Writes the gradients of the same heads.
void blocked_attention_backward(const BlockedAttentionGrad& args, float* scratch, int64_t begin, int64_t end);

}  // namespace cpu
}  // namespace winnow::kernels
