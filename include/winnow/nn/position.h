#pragma once
#include <ATen/core/Tensor.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"

namespace winnow {

// ---- Fixed sine-cosine tables. All are computed in float64 and returned in `dtype`, on the CPU. ----

// How the sines and cosines of one axis share its channels.
enum class SincosLayout {
  halves,       // all sines, then all cosines (MAE)
  interleaved,  // sine, cosine, sine, cosine ... (Vaswani et al. 2017; VideoMAE)
};
EnumNames<SincosLayout> enum_names(SincosLayout);

// Which coordinate fills the first channels of a table over a grid.
enum class GridOrder {
  column_first,  // column, then row (MAE, DiT); a depth axis comes before both
  row_first,     // row, then column (CAE); a depth axis comes before both
};
EnumNames<GridOrder> enum_names(GridOrder);

// positions [N] of any dtype -> [N, dim]: frequency i of dim/2 is 10000^(-i / (dim/2)). dim must be even and >= 2.
at::Tensor sincos_1d_pos_embed(int64_t dim, const at::Tensor& positions, SincosLayout layout = SincosLayout::halves,
                               at::ScalarType dtype = at::kFloat);
// The same for positions 0 .. length-1.
at::Tensor sincos_1d_pos_embed(int64_t dim, int64_t length, SincosLayout layout = SincosLayout::halves,
                               at::ScalarType dtype = at::kFloat);

// [prefix + rows * columns, dim], cells in raster order; the first `prefix` rows (class token and the like) are zero.
// Each axis gets dim/2 channels in SincosLayout::halves. dim must be divisible by 4.
// Source: He et al. 2021, arXiv 2111.06377 (official code, util/pos_embed.py).
at::Tensor sincos_2d_pos_embed(int64_t dim, int64_t rows, int64_t columns, int64_t prefix = 0,
                               GridOrder order = GridOrder::column_first, at::ScalarType dtype = at::kFloat);

// [prefix + depth * rows * columns, dim], cells in raster order (depth slowest). Each axis gets dim/3 channels; dim
// must be divisible by 6.
at::Tensor sincos_3d_pos_embed(int64_t dim, int64_t depth, int64_t rows, int64_t columns, int64_t prefix = 0,
                               GridOrder order = GridOrder::column_first, at::ScalarType dtype = at::kFloat);

// ---- Learned tables ----

struct LearnedPositionsOptions {
  int64_t length = 0;  // N >= 1 rows
  int64_t dim = 0;     // D >= 1
  static Fields<LearnedPositionsOptions> fields();
};

// A trained row per position. Parameter: weight [N, D], drawn from N(0, 0.02).
struct LearnedPositionsImpl : torch::nn::Cloneable<LearnedPositionsImpl>, Hookable {
  explicit LearnedPositionsImpl(LearnedPositionsOptions opts);
  void reset() override;
  // Rows offset .. offset+length-1 -> [length, D] (a view of the weight). Throws if the table is too short.
  at::Tensor forward(int64_t length, int64_t offset = 0);
  // Rows by number: ids of any shape, int64, in [0, N) -> [..., D]. On the CPU a number out of range throws.
  at::Tensor forward(const at::Tensor& ids);

  LearnedPositionsOptions options;
  at::Tensor weight;
};
TORCH_MODULE(LearnedPositions);

// ---- Tables for another grid ----

struct GridSize {
  int64_t rows = 0;
  int64_t columns = 0;
};

// A table [prefix + from.rows * from.columns, D], or with a leading 1, resized to the grid `to` by bicubic
// interpolation (align_corners false, no antialias, output size given); the first `prefix` rows are kept as they are.
// Same rank, dtype and device; differentiable. Equal grids return the table itself. Float16 and bfloat16 are
// interpolated in float32. Throws winnow::Error if the number of rows is not prefix + from.rows * from.columns.
at::Tensor interpolate_pos_embed(const at::Tensor& table, GridSize from, GridSize to, int64_t prefix = 1);

// The same along one line of positions: [prefix + N, D] -> [prefix + length, D], cubic along the line. The decoder of
// ViT-MAE in Hugging Face's transformers resizes its table so, grid or not.
at::Tensor interpolate_pos_embed_line(const at::Tensor& table, int64_t length, int64_t prefix = 1);

}  // namespace winnow
