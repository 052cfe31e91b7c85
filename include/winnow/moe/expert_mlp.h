// A mixture of feed-forward experts, computed exactly: every token passes through each of its experts, none is dropped.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/moe/router.h"
#include "winnow/nn/feed_forward.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/mlp.h"

namespace winnow::moe {

struct ExpertMlpOptions {
  int64_t dim = 0;           // D >= 1
  int64_t hidden = 0;        // width inside each expert, >= 1
  int64_t experts = 0;       // E >= 1
  int64_t top_k = 2;         // of the router, in [1, E]
  bool renormalize = false;  // of the router
  MlpKind kind = MlpKind::gated;
  Activation activation = Activation::silu;
  bool bias = false;  // of the experts' linear layers
  static Fields<ExpertMlpOptions> fields();
};

// y = sum over the chosen experts of weight * expert(x). Children: router (TopKRouter unless another is given) and
// experts.0, experts.1, ... of type Mlp. Sources: Shazeer et al. 2017, arXiv 1701.06538; Jiang et al. 2024, arXiv
// 2401.04088. The sum of a token runs over its experts in the order of their numbers, so that its result does not
// depend on the other tokens of the call beyond the rounding of the experts' matrix products.
struct ExpertMlp : FeedForward, Hookable {
  explicit ExpertMlp(ExpertMlpOptions opts);  // throws winnow::Error on a size out of range
  // The same experts behind another router, which must know options.experts experts.
  ExpertMlp(ExpertMlpOptions opts, std::shared_ptr<Router> with_router);

  // x [..., D] -> [..., D], also empty.
  at::Tensor apply(const at::Tensor& x) override;
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  ExpertMlpOptions options;
  std::shared_ptr<Router> router;
  std::vector<Mlp> experts;
};

}  // namespace winnow::moe
