#pragma once

#include <cstdint>

// Causal attention of a few new tokens of one sequence over its cached keys and values.
namespace winnow::kernels {

// Query i of n stands at position length - n + i and sees the keys of positions up to its own, with a window the last
// `window` of them. Query head h uses key head h / group. Softmax is in float32 with a running maximum over blocks of
// keys that start at multiples of kAttentionRowsBlock: the result of a token is the same to the bit however many tokens
// stand behind it in the call. A NaN in a query stays in its head, one in a key or value reaches the queries that see
// it.
struct AttentionRows {
  const float* q;       // query i, head h at q + i * q_stride + h * head_dim
  const float* keys;    // key head g, position t at keys + g * head_stride + t * head_dim
  const float* values;  // the same layout
  float* out;           // the layout of q with out_stride
  int64_t q_stride;
  int64_t head_stride;
  int64_t out_stride;
  int64_t n;         // 1 <= n <= length
  int64_t kv_heads;  // Hkv
  int64_t group;     // query heads of each key head
  int64_t head_dim;  // d >= 1
  int64_t length;    // keys of each head, the new ones included
  int64_t window;    // 0: none
  float scale;
};

inline constexpr int64_t kAttentionRowsBlock = 64;

namespace cpu {

// The key heads [begin, end), each with all its queries: one key head is a unit of work.
void attention_rows(const AttentionRows& args, int64_t begin, int64_t end);

}  // namespace cpu
}  // namespace winnow::kernels
