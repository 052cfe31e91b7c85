#include "winnow/nn/norm.h"

#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "winnow/core/error.h"

namespace winnow {

EnumNames<NormKind> enum_names(NormKind) {
  return {{"layer", NormKind::layer}, {"rms", NormKind::rms}};
}

Fields<NormOptions> NormOptions::fields() {
  return Fields<NormOptions>("Norm")
      .add("dim", &NormOptions::dim, "size of the last dimension", at_least(1))
      .add("kind", &NormOptions::kind, "layer or RMS normalisation")
      .add("eps", &NormOptions::eps, "added to the variance or mean square", at_least(0))
      .add("affine", &NormOptions::affine, "whether there is a weight and, for layer norm, a bias")
      .add("bias", &NormOptions::bias, "whether layer norm has a bias");
}

NormImpl::NormImpl(NormOptions opts) : options(opts) {
  check(options);
  reset();
}

void NormImpl::reset() {
  if (!options.affine) return;
  weight = register_parameter("weight", at::ones({options.dim}));
  if (options.kind == NormKind::layer && options.bias) bias = register_parameter("bias", at::zeros({options.dim}));
}

namespace {

// The mean of squares is taken in float32 at least, and the product rounded to the input's type before the weight.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const auto dtype = x.scalar_type();
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;
  const auto wide = half ? x.to(at::kFloat) : x;
  auto normalized = wide * (wide.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
  if (half) normalized = normalized.to(dtype);
  return weight.defined() ? normalized * weight : normalized;
}

}  // namespace

at::Tensor NormImpl::forward(const at::Tensor& x) {
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == options.dim, "Norm: x must have {} as its last size, got shape [{}]",
               options.dim, fmt::join(x.sizes(), ", "));
  if (options.kind == NormKind::rms) return hooked(rms_norm(x, weight, options.eps));
  return hooked(at::layer_norm(x, {options.dim}, weight, bias, options.eps));
}

}  // namespace winnow
