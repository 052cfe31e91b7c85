#pragma once

#include <cstdint>

// Rotary position embedding of rows of heads, in place. A NaN reaches only the two elements of its pair.
namespace winnow::kernels {

struct RotaryRows {
  float* x;          // row r, head h at x + r * x_stride + h * head_dim
  const float* cos;  // [rows, half], dense
  const float* sin;  // [rows, half], dense
  int64_t x_stride;
  int64_t heads;
  int64_t head_dim;
  int64_t half;      // pairs that are turned, 2 * half <= head_dim; the rest of a head passes
  bool interleaved;  // pairs (2i, 2i + 1); else (i, i + half)
};

// Rows in one unit of work.
inline constexpr int64_t kRotaryRowsGrain = 16;

namespace cpu {

// The rows [begin, end).
void rotary_rows(const RotaryRows& args, int64_t begin, int64_t end);

}  // namespace cpu
}  // namespace winnow::kernels
