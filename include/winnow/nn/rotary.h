#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "winnow/core/options.h"
#include "winnow/nn/position.h"

namespace winnow {

// Which two elements of a head turn together.
enum class RotaryLayout {
  halves,       // i and i + r/2 (GPT-NeoX, Llama, Qwen)
  interleaved,  // 2i and 2i + 1 (RoFormer)
};
EnumNames<RotaryLayout> enum_names(RotaryLayout);

// Change of the frequencies for contexts longer than those trained on.
enum class RotaryScaling {
  none,
  linear,  // all divided by factor
  llama3,  // long wavelengths divided by factor, short ones kept, a ramp between
  yarn,    // ramp over the number of turns; cosines and sines are multiplied too (Peng et al. 2023, arXiv 2309.00071)
};
EnumNames<RotaryScaling> enum_names(RotaryScaling);

struct RotaryOptions {
  int64_t dim = 0;         // r: elements of a head that are turned, even; may be less than the head (partial rotary)
  double theta = 10000.0;  // frequency i is theta^(-2i/r)
  RotaryLayout layout = RotaryLayout::halves;
  RotaryScaling scaling = RotaryScaling::none;
  double factor = 1.0;                          // linear, llama3, yarn
  int64_t original_max_positions = 0;           // llama3, yarn: context length trained on
  double low_freq_factor = 1.0;                 // llama3
  double high_freq_factor = 4.0;                // llama3
  double beta_fast = 32.0;                      // yarn
  double beta_slow = 1.0;                       // yarn
  bool truncate = true;                         // yarn: ends of the ramp are rounded outwards to whole numbers
  std::optional<double> attention_factor = {};  // yarn: factor of the table; absent: 0.1 ln(factor) + 1 or by mscale
  std::optional<double> mscale = {};            // yarn: with mscale_all_dim, factor is the quotient of the two
  std::optional<double> mscale_all_dim = {};
  static Fields<RotaryOptions> fields();
};

// Cosines and sines of the angles of L positions. Undefined tensors mean "no rotation".
struct RotaryTable {
  at::Tensor cos, sin;  // [L, r/2], or [B, L, r/2] when rows of the batch have positions of their own
  RotaryLayout layout = RotaryLayout::halves;
  bool defined() const { return cos.defined(); }
};

// The r/2 frequencies after scaling, in `dtype` (float32 as published models form them, or float64), on the CPU.
at::Tensor rotary_frequencies(const RotaryOptions& options, at::ScalarType dtype = at::kFloat);

// The factor of cosines and sines: 1 but for yarn.
double rotary_table_factor(const RotaryOptions& options);

// Table for positions [L] or [B, L] (integers or floats), on their device. The angles are formed in `dtype`.
// Throws winnow::Error on options out of range.
RotaryTable rotary_table(const RotaryOptions& options, const at::Tensor& positions, at::ScalarType dtype = at::kFloat);

// Axial table of a grid in raster order [rows * columns, r/2]: half of the frequencies turn with one coordinate and
// half with the other, frequency i of r/4 being theta^(-4i/r). dim must be divisible by 4.
RotaryTable rotary_table_2d(const RotaryOptions& options, GridSize grid, GridOrder order = GridOrder::row_first,
                            at::ScalarType dtype = at::kFloat);

// x [B, H, L, d] with d >= r: the first r elements of each head are turned by the table, the rest pass. Same shape and
// dtype; differentiable in x. Source: Su et al. 2021, arXiv 2104.09864, eq. 34.
at::Tensor apply_rotary(const at::Tensor& x, const RotaryTable& table);

}  // namespace winnow
