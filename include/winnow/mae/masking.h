#pragma once

// Which patches are kept and which are removed. A mask is a ranking: every position of a sample gets a number, and the
// K lowest are kept. Random, grid and block masks differ only in how they rank; a ranking of one's own (a noise tensor,
// an attention map, a colour-noise window) goes through the same functions.
// Source: He et al. 2021, arXiv 2111.06377, section 3 and figure 6; blocks after Bao et al. 2021, arXiv 2106.08254,
// algorithm 1.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

#include "winnow/core/options.h"

namespace winnow::mae {

enum class MaskKind {
  random,         // every subset of K positions equally likely
  grid,           // one position of every 2 x 2 cell first, the same one in all cells, drawn per sample
  block,          // removes rectangles (BEiT) until L - K positions are gone; the last one is cut to the exact count
  inverse_block,  // keeps rectangles, removes the rest
};
EnumNames<MaskKind> enum_names(MaskKind);

struct MaskingOptions {
  MaskKind kind = MaskKind::random;
  double ratio = 0.75;  // share removed, in [0, 1)
  static Fields<MaskingOptions> fields();
};

// A mask of B samples with L positions each, of which K are kept.
struct TokenMask {
  at::Tensor ids_keep;     // [B, K] int64, positions kept, in ascending rank
  at::Tensor ids_restore;  // [B, L] int64, inverse of the ranking permutation: where position l stands in
                           // [kept ..., removed ...]
  at::Tensor mask;         // [B, L] float, 1 = removed, 0 = kept, in the order of positions
};

// K = int(L * (1 - ratio)) in binary double arithmetic, as the official code counts: 196 at 0.75 keeps 49, but 10 at
// 0.9 keeps 0 (the arithmetic value is 1) and 100 at 0.9 keeps 9. Throws winnow::Error when ratio is outside [0, 1).
// May return 0, which every mask refuses.
int64_t kept_count(int64_t positions, double ratio);

// ranking [B, L], floating point: the `keep` lowest of each row are kept, equal ranks by lower position first.
// Throws if keep is outside [1, L] or a rank on the CPU is NaN.
TokenMask mask_from_ranking(const at::Tensor& ranking, int64_t keep);

// removed [B, L], bool or 0/1 of any type, the same number of zeros in every row (at least one): both groups keep
// raster order. Throws if the rows differ.
TokenMask mask_from_removed(const at::Tensor& removed);

// The removed positions of a mask, [B, R] int64 ascending in each row. On CUDA this waits for the device.
at::Tensor ids_removed(const TokenMask& mask);

// Rankings [batch, grid_height * grid_width] float of one kind for `keep` kept positions, on the CPU.
at::Tensor draw_ranking(MaskKind kind, int64_t batch, int64_t grid_height, int64_t grid_width, int64_t keep,
                        at::Generator generator);

// A mask of options.kind and options.ratio for a batch of grids, on `device`. Throws when no position would be kept.
TokenMask draw_mask(const MaskingOptions& options, int64_t batch, int64_t grid_height, int64_t grid_width,
                    at::Generator generator, at::Device device = at::kCPU);

struct RandomMaskingOutput {
  at::Tensor kept;  // [B, K, D]
  TokenMask mask;
};
// tokens [B, L, D] and noise [B, L] (drawn uniformly by the caller): keeps kept_count(L, ratio) tokens of each sample,
// in ascending noise. Gradients flow to the kept tokens only.
RandomMaskingOutput random_masking(const at::Tensor& tokens, const at::Tensor& noise, double ratio);

}  // namespace winnow::mae
