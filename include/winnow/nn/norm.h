#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"

namespace winnow {

enum class NormKind {
  layer,  // (x - mean) / sqrt(var + eps) * weight + bias, var divided by D
  rms,    // x * rsqrt(mean(x^2) + eps) * weight: no mean removed, no bias
};
EnumNames<NormKind> enum_names(NormKind);

struct NormOptions {
  int64_t dim = 0;  // D >= 1: size of the last dimension, over which is normalised
  NormKind kind = NormKind::layer;
  double eps = 1e-6;
  bool affine = true;  // false: neither weight nor bias
  bool bias = true;    // of layer norm; rms has none
  static Fields<NormOptions> fields();
};

// Layer normalisation or RMS normalisation of the last dimension.
// Sources: Ba et al. 2016, arXiv 1607.06450; Zhang and Sennrich 2019, arXiv 1910.07467.
// Parameters: weight [D] (ones), bias [D] (zeros). Half-precision input is normalised in float32 and rounded once.
struct NormImpl : torch::nn::Cloneable<NormImpl>, Hookable {
  explicit NormImpl(NormOptions opts);  // throws winnow::Error on a size or epsilon out of range
  void reset() override;

  // x [..., D] -> [..., D]. Also [B, L, H, D]: the norm of each head. Throws if the last size is not D.
  at::Tensor forward(const at::Tensor& x);

  NormOptions options;
  at::Tensor weight, bias;  // undefined where absent
};
TORCH_MODULE(Norm);

}  // namespace winnow
