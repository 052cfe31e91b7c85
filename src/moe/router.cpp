#include "winnow/moe/router.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/softmax.h>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow::moe {

Fields<TopKRouterOptions> TopKRouterOptions::fields() {
  return Fields<TopKRouterOptions>("TopKRouter")
      .add("dim", &TopKRouterOptions::dim, "width of a token", at_least(1))
      .add("experts", &TopKRouterOptions::experts, "number of experts", at_least(1))
      .add("top_k", &TopKRouterOptions::top_k, "experts of a token", at_least(1))
      .add("renormalize", &TopKRouterOptions::renormalize, "whether the weights of a token sum to 1")
      .rule([](const TopKRouterOptions& o) {
        WINNOW_CHECK(o.top_k <= o.experts, "TopKRouter: top_k must be in [1, experts = {}], got {}", o.experts,
                     o.top_k);
      });
}

TopKRouter::TopKRouter(TopKRouterOptions opts) : options(opts) {
  check(options);
  gate = register_module("gate", Linear(options.dim, options.experts, /*with_bias=*/false));
}

namespace {

// Softmax in float32 at least.
at::Tensor probabilities(const at::Tensor& logits) {
  return at::softmax(logits, 1, logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

}  // namespace

Routing TopKRouter::route(const at::Tensor& tokens) {
  check_shape("TopKRouter: tokens", tokens, {-1, options.dim});
  Routing routing;
  routing.logits = gate->forward(tokens);  // [N, E]
  const auto sorted = probabilities(routing.logits).sort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  routing.experts = std::get<1>(sorted).narrow(1, 0, options.top_k).contiguous();
  auto weights = std::get<0>(sorted).narrow(1, 0, options.top_k);
  if (options.renormalize) weights = weights / weights.sum(1, /*keepdim=*/true);
  routing.weights = weights.to(tokens.scalar_type());
  return routing;
}

std::shared_ptr<torch::nn::Module> TopKRouter::clone(const std::optional<torch::Device>& device) const {
  auto copy = std::make_shared<TopKRouter>(options);
  copy->gate = copy->replace_module("gate", Linear(std::dynamic_pointer_cast<LinearImpl>(gate->clone(device))));
  copy->train(is_training());
  return copy;
}

at::Tensor load_balancing_loss(const std::vector<Routing>& layers, const at::Tensor& keep) {
  WINNOW_CHECK(!layers.empty(), "load_balancing_loss: layers must not be empty");
  const auto experts = layers.front().logits.size(1);
  at::Tensor choices, mass;  // [E]: sums over rows of choices and of probabilities
  double rows = 0;
  for (const auto& layer : layers) {
    check_shape("load_balancing_loss: logits", layer.logits, {-1, experts});
    auto counts = at::one_hot(layer.experts, experts).sum(1).to(layer.logits.scalar_type());  // [N, E]
    auto shares = probabilities(layer.logits);                                                // [N, E]
    if (keep.defined()) {
      check_shape("load_balancing_loss: keep", keep, {layer.logits.size(0)});
      const auto counted = (keep != 0).to(layer.logits.options()).unsqueeze(1);  // [N, 1]
      counts = counts * counted;
      shares = shares * counted;
      rows += counted.sum().item<double>();
    } else {
      rows += static_cast<double>(layer.logits.size(0));
    }
    choices = choices.defined() ? choices + counts.sum(0) : counts.sum(0);
    mass = mass.defined() ? mass + shares.sum(0) : shares.sum(0);
  }
  return (choices / rows * (mass / rows)).sum() * static_cast<double>(experts);
}

namespace {
thread_local RoutingRecord* innermost = nullptr;
}  // namespace

RoutingRecord::RoutingRecord() : outer_(innermost) {
  innermost = this;
}

RoutingRecord::~RoutingRecord() {
  innermost = outer_;
}

void RoutingRecord::note(const Routing& routing) {
  if (innermost != nullptr) innermost->layers.push_back(routing);
}

}  // namespace winnow::moe
