#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"

namespace winnow {

struct LayerScaleOptions {
  int64_t dim = 0;     // D >= 1
  double init = 1e-5;  // first value of every entry
  static Fields<LayerScaleOptions> fields();
};

// x * gamma: a learned factor per channel on a residual branch (Touvron et al. 2021, arXiv 2103.17239, eq. 4).
// Parameter: gamma [D].
struct LayerScaleImpl : torch::nn::Cloneable<LayerScaleImpl>, Hookable {
  explicit LayerScaleImpl(LayerScaleOptions opts);
  void reset() override;
  at::Tensor forward(const at::Tensor& x);  // [..., D] -> [..., D]

  LayerScaleOptions options;
  at::Tensor gamma;
};
TORCH_MODULE(LayerScale);

}  // namespace winnow
