#pragma once

#include <cstdint>

// The middle of a feed-forward layer on few rows: act(x), or act(gate) * x, in place.
namespace winnow::kernels {

enum class RowActivation {
  gelu,        // exact, with erf
  gelu_tanh,   // the tanh approximation
  quick_gelu,  // x * sigmoid(1.702 x)
  relu,
  silu,
};

// A value's result depends on nothing but the value (and its gate); it is within 2e-7 (1 + |x|) of the exact one. A NaN
// stays where it is.
struct ActivationRows {
  float* x;           // [rows, width], dense: replaced by the result
  const float* gate;  // [rows, width], dense, or null
  RowActivation activation;
};

// Values in one unit of work.
inline constexpr int64_t kActivationRowsGrain = 4096;

namespace cpu {

// The values [begin, end) of rows * width.
void activation_rows(const ActivationRows& args, int64_t begin, int64_t end);

}  // namespace cpu
}  // namespace winnow::kernels
