#include "winnow/kernels/blocked_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/sized_vectors.h"
#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/blocked_attention.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector_exp-inl.h"

// Scratch rows are padded with zeros to this many floats, so that products run in whole pairs of vectors.
#ifndef WINNOW_BLOCKED_ATTENTION_SIZES
#define WINNOW_BLOCKED_ATTENTION_SIZES
namespace winnow::kernels {
constexpr int64_t kPad = 32;         // two vectors of the widest target
constexpr int64_t kQueryBlock = 24;  // queries that share a pass over the keys, a multiple of the tile
inline int64_t padded(int64_t n) {
  return (n + kPad - 1) / kPad * kPad;
}
// Where everything lies in the scratch memory.
struct Layout {
  int64_t width, length;  // padded
  float *k, *kt, *v, *vt, *q, *g, *p, *d, *grad_k, *grad_v, *delta;
};
inline int64_t lay_out(const BlockedAttention& a, float* memory, Layout& at) {
  at.width = padded(a.width);
  at.length = padded(a.length);
  int64_t used = 0;
  const auto take = [&](int64_t count) {
    auto* begin = memory == nullptr ? nullptr : memory + used;
    used += count;
    return begin;
  };
  at.k = take(at.length * at.width);
  at.v = take(at.length * at.width);
  at.kt = take(at.width * at.length);
  at.vt = take(at.width * at.length);
  at.grad_k = take(at.length * at.width);
  at.grad_v = take(at.length * at.width);
  at.q = take(kQueryBlock * at.width);
  at.g = take(kQueryBlock * at.width);
  at.p = take(kQueryBlock * at.length);
  at.d = take(kQueryBlock * at.length);
  at.delta = take(kQueryBlock);
  return used;
}
}  // namespace winnow::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using V32 = hn::Vec<F32>;
constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(F32()));

// C [rows, cols] (+)= A B for kRows rows: A(i, t) = a[i row + t step], B rows ldb apart; cols a multiple of two
// vectors.
template <int kRows, bool kAdd>
HWY_INLINE void product_rows(int64_t cols, int64_t depth, const float* a, int64_t row, int64_t step, const float* b,
                             int64_t ldb, float* c, int64_t ldc) {
  const F32 d;
  for (int64_t j = 0; j < cols; j += 2 * kLanes) {
    V32 left[kRows], right[kRows];
    for (int i = 0; i < kRows; ++i) {
      left[i] = kAdd ? hn::LoadU(d, c + i * ldc + j) : hn::Zero(d);
      right[i] = kAdd ? hn::LoadU(d, c + i * ldc + j + kLanes) : hn::Zero(d);
    }
    const float* from = b + j;
    const float* x = a;
    for (int64_t t = 0; t < depth; ++t, from += ldb, x += step) {
      const auto b0 = hn::LoadU(d, from), b1 = hn::LoadU(d, from + kLanes);
      for (int i = 0; i < kRows; ++i) {
        const auto w = hn::Set(d, x[i * row]);
        left[i] = hn::MulAdd(w, b0, left[i]);
        right[i] = hn::MulAdd(w, b1, right[i]);
      }
    }
    for (int i = 0; i < kRows; ++i) {
      hn::StoreU(left[i], d, c + i * ldc + j);
      hn::StoreU(right[i], d, c + i * ldc + j + kLanes);
    }
  }
}

template <bool kAdd>
HWY_INLINE void product(int64_t rows, int64_t cols, int64_t depth, const float* a, int64_t row, int64_t step,
                        const float* b, int64_t ldb, float* c, int64_t ldc) {
  constexpr int kTile = HWY_TARGET <= HWY_SSE4 && kLanes < 8 ? 4 : 6;
  int64_t i = 0;
  for (; i + kTile <= rows; i += kTile) {
    product_rows<kTile, kAdd>(cols, depth, a + i * row, row, step, b, ldb, c + i * ldc, ldc);
  }
  for (; i + 2 <= rows; i += 2) {
    product_rows<2, kAdd>(cols, depth, a + i * row, row, step, b, ldb, c + i * ldc, ldc);
  }
  if (i < rows) product_rows<1, kAdd>(cols, depth, a + i * row, row, step, b, ldb, c + i * ldc, ldc);
}

// Rows of `width` floats, `stride` apart, into rows of `padded` floats, times a factor.
HWY_INLINE void pack(const float* from, int64_t stride, int64_t rows, int64_t width, float factor, float* to,
                     int64_t row) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) to[i * row + j] = from[i * stride + j] * factor;
    std::fill(to + i * row + width, to + (i + 1) * row, 0.0F);
  }
}

// The transpose: to [width, length padded].
HWY_INLINE void pack_transposed(const float* from, int64_t stride, int64_t rows, int64_t width, float* to,
                                int64_t row) {
  for (int64_t j = 0; j < width; ++j) std::fill(to + j * row + rows, to + (j + 1) * row, 0.0F);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) to[j * row + i] = from[i * stride + j];
  }
}

// exp(p - shift) of the first `count`, zeros up to `end` (a multiple of a vector). Returns the sum.
HWY_INLINE float exp_row(float* p, int64_t count, int64_t end, float shift) {
  const F32 d;
  const auto s = hn::Set(d, shift);
  auto sum = hn::Zero(d);
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    const auto e = vector_exp(d, hn::Sub(hn::LoadU(d, p + j), s));
    hn::StoreU(e, d, p + j);
    sum = hn::Add(sum, e);
  }
  if (j < count) {
    const auto inside = hn::FirstN(d, static_cast<size_t>(count - j));
    const auto e = hn::IfThenElseZero(inside, vector_exp(d, hn::Sub(hn::LoadU(d, p + j), s)));
    hn::StoreU(e, d, p + j);
    sum = hn::Add(sum, e);
    j += kLanes;
  }
  for (; j < end; j += kLanes) hn::StoreU(hn::Zero(d), d, p + j);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

HWY_INLINE float max_of(const float* p, int64_t count) {
  const F32 d;
  int64_t j = 0;
  float best = p[0];
  if (count >= kLanes) {
    auto most = hn::LoadU(d, p);
    for (j = kLanes; j + kLanes <= count; j += kLanes) most = hn::Max(most, hn::LoadU(d, p + j));
    best = hn::GetLane(hn::MaxOfLanes(d, most));
  }
  for (; j < count; ++j) best = std::max(best, p[j]);
  return best;
}

// The block of queries [begin, end) and the keys that it looks at.
struct Block {
  int64_t begin, rows, keys, cols;  // cols: keys, padded
};

HWY_INLINE Block block_at(const BlockedAttention& a, int64_t begin) {
  const auto rows = std::min(kQueryBlock, a.length - begin);
  const auto keys = a.causal ? begin + rows : a.length;
  return {.begin = begin, .rows = rows, .keys = keys, .cols = padded(keys)};
}

HWY_INLINE int64_t seen(const BlockedAttention& a, const Block& block, int64_t row) {
  return a.causal ? block.begin + row + 1 : a.length;
}

void forward_head(const BlockedAttention& a, const Layout& at, const float* q, float* out, int64_t out_token,
                  float* lse) {
  for (int64_t begin = 0; begin < a.length; begin += kQueryBlock) {
    const auto block = block_at(a, begin);
    pack(q + begin * a.q_strides.token, a.q_strides.token, block.rows, a.width, a.scale, at.q, at.width);
    product<false>(block.rows, block.cols, a.width, at.q, at.width, 1, at.kt, at.length, at.p, at.length);
    for (int64_t i = 0; i < block.rows; ++i) {
      auto* p = at.p + i * at.length;
      const auto count = seen(a, block, i);
      const float most = max_of(p, count);
      const float sum = exp_row(p, count, block.cols, most);
      lse[begin + i] = most + std::log(sum);
      at.delta[i] = 1.0F / sum;
    }
    product<false>(block.rows, at.width, block.keys, at.p, at.length, 1, at.v, at.width, at.g, at.width);
    for (int64_t i = 0; i < block.rows; ++i) {
      for (int64_t j = 0; j < a.width; ++j) {
        out[(begin + i) * out_token + j] = at.g[i * at.width + j] * at.delta[i];
      }
    }
  }
}

const float* head_of(const float* x, const HeadStrides& strides, int64_t batch, int64_t head) {
  return x + batch * strides.batch + head * strides.head;
}
float* head_of(float* x, const HeadStrides& strides, int64_t batch, int64_t head) {
  return x + batch * strides.batch + head * strides.head;
}

void forward(const BlockedAttention& a, float* out, const HeadStrides& out_strides, float* lse, float* scratch,
             int64_t begin, int64_t end) {
  Layout at{};
  lay_out(a, scratch, at);
  const auto group = a.heads / a.kv_heads;
  for (int64_t unit = begin; unit < end; ++unit) {
    const auto batch = unit / a.kv_heads, kv = unit % a.kv_heads;
    pack_transposed(head_of(a.k, a.k_strides, batch, kv), a.k_strides.token, a.length, a.width, at.kt, at.length);
    pack(head_of(a.v, a.v_strides, batch, kv), a.v_strides.token, a.length, a.width, 1.0F, at.v, at.width);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      forward_head(a, at, head_of(a.q, a.q_strides, batch, h), head_of(out, out_strides, batch, h), out_strides.token,
                   lse + (batch * a.heads + h) * a.length);
    }
  }
}

// p = exp(p - lse) and d = p (d - delta) for the keys that are seen, zeros up to `end`.
HWY_INLINE void softmax_gradient(float* p, float* grad, int64_t count, int64_t end, float lse, float delta) {
  const F32 d;
  exp_row(p, count, end, lse);
  const auto shift = hn::Set(d, delta);
  for (int64_t j = 0; j < end; j += kLanes) {
    const auto inside = hn::FirstN(d, static_cast<size_t>(std::clamp<int64_t>(count - j, 0, kLanes)));
    const auto g = hn::Mul(hn::LoadU(d, p + j), hn::Sub(hn::LoadU(d, grad + j), shift));
    hn::StoreU(hn::IfThenElseZero(inside, g), d, grad + j);
  }
}

struct HeadGrad {
  const float *q, *out, *grad_out, *lse;
  float* grad_q;
};

void backward_head(const BlockedAttentionGrad& b, const Layout& at, const HeadGrad& head) {
  const auto& a = b.inputs;
  const auto q_token = a.q_strides.token, out_token = b.out_strides.token, grad_token = b.grad_strides.token;
  for (int64_t begin = 0; begin < a.length; begin += kQueryBlock) {
    const auto block = block_at(a, begin);
    pack(head.q + begin * q_token, q_token, block.rows, a.width, a.scale, at.q, at.width);
    pack(head.grad_out + begin * grad_token, grad_token, block.rows, a.width, 1.0F, at.g, at.width);
    product<false>(block.rows, block.cols, a.width, at.q, at.width, 1, at.kt, at.length, at.p, at.length);
    product<false>(block.rows, block.cols, a.width, at.g, at.width, 1, at.vt, at.length, at.d, at.length);
    for (int64_t i = 0; i < block.rows; ++i) {
      const auto* out = head.out + (begin + i) * out_token;
      float delta = 0;
      for (int64_t j = 0; j < a.width; ++j) delta += out[j] * at.g[i * at.width + j];
      softmax_gradient(at.p + i * at.length, at.d + i * at.length, seen(a, block, i), block.cols, head.lse[begin + i],
                       delta);
    }
    product<true>(block.keys, at.width, block.rows, at.p, 1, at.length, at.g, at.width, at.grad_v, at.width);
    product<true>(block.keys, at.width, block.rows, at.d, 1, at.length, at.q, at.width, at.grad_k, at.width);
    // The packed gradients of the outputs have been used: their place takes those of the queries.
    product<false>(block.rows, at.width, block.keys, at.d, at.length, 1, at.k, at.width, at.g, at.width);
    for (int64_t i = 0; i < block.rows; ++i) {
      auto* to = head.grad_q + (begin + i) * b.grad_q_strides.token;
      for (int64_t j = 0; j < a.width; ++j) to[j] = at.g[i * at.width + j] * a.scale;
    }
  }
}

void unpack(const float* from, int64_t row, int64_t rows, int64_t width, float* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) std::copy(from + i * row, from + i * row + width, to + i * stride);
}

void backward(const BlockedAttentionGrad& b, float* scratch, int64_t begin, int64_t end) {
  const auto& a = b.inputs;
  Layout at{};
  lay_out(a, scratch, at);
  const auto group = a.heads / a.kv_heads;
  for (int64_t unit = begin; unit < end; ++unit) {
    const auto batch = unit / a.kv_heads, kv = unit % a.kv_heads;
    const auto* k = head_of(a.k, a.k_strides, batch, kv);
    const auto* v = head_of(a.v, a.v_strides, batch, kv);
    pack(k, a.k_strides.token, a.length, a.width, 1.0F, at.k, at.width);
    pack_transposed(k, a.k_strides.token, a.length, a.width, at.kt, at.length);
    pack_transposed(v, a.v_strides.token, a.length, a.width, at.vt, at.length);
    std::fill(at.grad_k, at.grad_k + a.length * at.width, 0.0F);
    std::fill(at.grad_v, at.grad_v + a.length * at.width, 0.0F);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      backward_head(b, at,
                    {.q = head_of(a.q, a.q_strides, batch, h),
                     .out = head_of(b.out, b.out_strides, batch, h),
                     .grad_out = head_of(b.grad_out, b.grad_strides, batch, h),
                     .lse = b.lse + (batch * a.heads + h) * a.length,
                     .grad_q = head_of(b.grad_q, b.grad_q_strides, batch, h)});
    }
    unpack(at.grad_k, at.width, a.length, a.width, head_of(b.grad_k, b.grad_k_strides, batch, kv),
           b.grad_k_strides.token);
    unpack(at.grad_v, at.width, a.length, a.width, head_of(b.grad_v, b.grad_v_strides, batch, kv),
           b.grad_v_strides.token);
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {

HWY_EXPORT(forward);
HWY_EXPORT(backward);

int64_t blocked_attention_scratch(const BlockedAttention& args) {
  Layout at{};
  return lay_out(args, nullptr, at);
}

namespace cpu {

void blocked_attention(const BlockedAttention& args, float* out, const HeadStrides& out_strides, float* lse,
                       float* scratch, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(forward)(args, out, out_strides, lse, scratch, begin, end);
}

void blocked_attention_backward(const BlockedAttentionGrad& args, float* scratch, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(backward)(args, scratch, begin, end);
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
