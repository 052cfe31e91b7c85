#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <vector>

#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"

namespace winnow {

struct PatchEmbedOptions {
  std::vector<int64_t> patch = {16, 16};  // one size per spatial dimension: 1, 2 or 3 of them, need not be equal
  int64_t channels = 3;                   // C >= 1
  int64_t dim = 0;                        // D >= 1
  bool bias = true;
  static Fields<PatchEmbedOptions> fields();
};

// The weights of a PatchEmbed: weight [D, C, p...] and bias [D], as a convolution of kernel and stride p has them.
struct PatchProjectionImpl : torch::nn::Cloneable<PatchProjectionImpl> {
  explicit PatchProjectionImpl(PatchEmbedOptions opts);
  void reset() override;  // the default draw of a convolution: U(-1/sqrt(C p...), 1/sqrt(C p...)) for both

  PatchEmbedOptions options;
  at::Tensor weight, bias;
};
TORCH_MODULE(PatchProjection);

// Cuts a line, an image or a video into patches that do not overlap and maps each linearly to a token (Dosovitskiy et
// al. 2020, arXiv 2010.11929, eq. 1). Equal to a convolution with kernel = stride = patch. Child: proj.
struct PatchEmbedImpl : torch::nn::Cloneable<PatchEmbedImpl>, Hookable {
  explicit PatchEmbedImpl(PatchEmbedOptions opts);  // throws winnow::Error on a size out of range
  void reset() override;

  // x [B, C, n...] with as many spatial sizes as options.patch -> tokens [B, L, D]; tokens in raster order, the last
  // dimension fastest. Throws winnow::Error if a size is not divisible by its patch size or C differs.
  at::Tensor forward(const at::Tensor& x);

  // The two halves of forward, for callers that drop patches in between (a masked encoder then does no work for them):
  // unfold: x [B, C, n...] -> [B, L, C p...], channel first as the weight; project: [..., C p...] -> [..., D].
  at::Tensor unfold(const at::Tensor& x) const;
  at::Tensor project(const at::Tensor& patches) const;

  // Number of patches along each spatial dimension of x; the checks of forward.
  std::vector<int64_t> grid(const at::Tensor& x) const;

  PatchEmbedOptions options;
  PatchProjection proj{nullptr};
};
TORCH_MODULE(PatchEmbed);

}  // namespace winnow
