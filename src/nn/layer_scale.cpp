#include "winnow/nn/layer_scale.h"

#include <ATen/ops/full.h>

#include "winnow/core/error.h"

namespace winnow {

Fields<LayerScaleOptions> LayerScaleOptions::fields() {
  return Fields<LayerScaleOptions>("LayerScale")
      .add("dim", &LayerScaleOptions::dim, "channels", at_least(1))
      .add("init", &LayerScaleOptions::init, "first value of every factor");
}

LayerScaleImpl::LayerScaleImpl(LayerScaleOptions opts) : options(opts) {
  check(options);
  reset();
}

void LayerScaleImpl::reset() {
  gamma = register_parameter("gamma", at::full({options.dim}, options.init, at::kFloat));
}

at::Tensor LayerScaleImpl::forward(const at::Tensor& x) {
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == options.dim, "LayerScale: x must have {} as its last size, got shape [{}]",
               options.dim, fmt::join(x.sizes(), ", "));
  return hooked(x * gamma);
}

}  // namespace winnow
