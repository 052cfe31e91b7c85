#pragma once

#include <cstdint>

// LayerNorm or RMSNorm of single rows with the residual addition before it, without gradient: for decoding, where
// add_layer_norm's statistics are not wanted.
namespace winnow::kernels {

// One call's arguments. Sums are taken in float32 vectors and joined in float64; a row's result depends on nothing but
// the row. A NaN stays in its row. Buffers may be the same where said and must not overlap otherwise.
struct NormRows {
  const float* x;       // [rows, width], rows x_stride apart
  const float* delta;   // [rows, width], rows delta_stride apart, or null: no addition
  float* sum;           // x + delta [rows, width], rows x_stride apart, may be x itself; not read without delta
  const float* weight;  // [width], or null: ones
  const float* bias;    // [width], or null: zeros
  float* y;             // [rows, width], rows y_stride apart; may be x itself when there is no delta
  int64_t x_stride;
  int64_t delta_stride;
  int64_t y_stride;
  int64_t width;  // >= 1
  double eps;
  bool rms;  // x * rsqrt(mean(x^2) + eps); else the mean is removed and the variance, divided by width, taken
};

// Rows in one unit of work.
inline constexpr int64_t kNormRowsGrain = 16;

namespace cpu {

// The rows [begin, end).
void norm_rows(const NormRows& args, int64_t begin, int64_t end);

}  // namespace cpu
}  // namespace winnow::kernels
