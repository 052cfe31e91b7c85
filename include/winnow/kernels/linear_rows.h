#pragma once

#include <cstdint>

// A linear layer on few rows: y = x W^T + b for 1 to 64 rows, as in decoding, verification of drafts and experts.
namespace winnow::kernels {

enum class RowsDtype { f32, f16, bf16 };

// Rows that one call may have.
inline constexpr int64_t kLinearRowsMax = 64;

// One call's arguments. Weights are read in their own format and widened; products are summed in float32, in an order
// that depends on `in` and on the CPU target alone: the result of a row is the same to the bit however many rows the
// call has, whichever row it is, and however the outputs are split into ranges. No alignment is needed. NaN and
// infinity go where IEEE arithmetic takes them: a NaN of x reaches its whole row, one of W its output in every row.
struct LinearRows {
  const float* x;      // [n, in], rows x_stride floats apart
  int64_t x_stride;    // >= in
  const void* weight;  // [out, in] of `dtype`, dense rows; in and out may be 0
  RowsDtype dtype;
  const float* bias;  // [out], or null: none
  float* y;           // [n, out], rows y_stride floats apart; must not overlap x
  int64_t y_stride;   // >= out
  int64_t n;          // 0 .. kLinearRowsMax
  int64_t in;
  int64_t out;
};

// Outputs in one unit of work, so that a unit has about kLinearRowsGrain weights; >= 1.
inline constexpr int64_t kLinearRowsGrain = int64_t{1} << 15;
constexpr int64_t linear_rows_grain(int64_t in) {
  return in <= 0 || kLinearRowsGrain / in < 1 ? 1 : kLinearRowsGrain / in;
}

namespace cpu {

// Writes y[:, out_begin .. out_end).
void linear_rows(const LinearRows& args, int64_t out_begin, int64_t out_end);

}  // namespace cpu
}  // namespace winnow::kernels
