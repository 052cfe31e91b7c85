#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/position.h"

namespace winnow {

struct RelativeBiasOptions {
  int64_t heads = 0;           // H >= 1
  int64_t buckets = 32;        // even when two-sided; at least 2 (4 when two-sided)
  int64_t max_distance = 128;  // all distances from here on share the last bucket
  bool two_sided = true;  // encoder: keys before and after have their own halves; decoder: later keys share bucket 0
  static Fields<RelativeBiasOptions> fields();
};

// Bucket number, int64, of each entry of `distance` = key position - query position: half of the buckets for exact
// small distances, the rest logarithmic up to max_distance. Source: Raffel et al. 2019, arXiv 1910.10683.
at::Tensor relative_position_bucket(const at::Tensor& distance, const RelativeBiasOptions& options);

// The additive attention bias of T5. Parameter: weight [buckets, H], drawn from N(0, 1).
struct RelativeBiasImpl : torch::nn::Cloneable<RelativeBiasImpl>, Hookable {
  explicit RelativeBiasImpl(RelativeBiasOptions opts);
  void reset() override;
  // [1, H, queries, keys]; query i stands at position `offset` + i, key j at j. With a cache, offset is its length.
  at::Tensor forward(int64_t queries, int64_t keys, int64_t offset = 0);

  RelativeBiasOptions options;
  at::Tensor weight;
};
TORCH_MODULE(RelativeBias);

struct GridBiasOptions {
  int64_t heads = 0;  // H >= 1
  int64_t rows = 0;   // of the window
  int64_t columns = 0;
  static Fields<GridBiasOptions> fields();
};

// A bias for each difference of two cells of a window (Liu et al. 2021, arXiv 2103.14030, eq. 4).
// Parameter: weight [(2 rows - 1)(2 columns - 1), H], drawn from N(0, 0.02) cut at two deviations (always the same
// draw).
struct GridBiasImpl : torch::nn::Cloneable<GridBiasImpl>, Hookable {
  explicit GridBiasImpl(GridBiasOptions opts);
  void reset() override;
  at::Tensor forward();  // [1, H, rows * columns, rows * columns]

  GridBiasOptions options;
  at::Tensor weight;
  at::Tensor index;  // int64 [(rows * columns)^2]: row of weight for each pair of cells; computed, so not a buffer
};
TORCH_MODULE(GridBias);

}  // namespace winnow
