#include "winnow/moe/expert_mlp.h"

#include <ATen/ops/bincount.h>
#include <ATen/ops/zeros_like.h>

#include <string>
#include <utility>

#include "winnow/core/error.h"

namespace winnow::moe {

Fields<ExpertMlpOptions> ExpertMlpOptions::fields() {
  return Fields<ExpertMlpOptions>("ExpertMlp")
      .add("dim", &ExpertMlpOptions::dim, "width of a token", at_least(1))
      .add("hidden", &ExpertMlpOptions::hidden, "width inside an expert", at_least(1))
      .add("experts", &ExpertMlpOptions::experts, "number of experts", at_least(1))
      .add("top_k", &ExpertMlpOptions::top_k, "experts of a token", at_least(1))
      .add("renormalize", &ExpertMlpOptions::renormalize, "whether the weights of a token sum to 1")
      .add("kind", &ExpertMlpOptions::kind, "plain, or gated by a second linear layer")
      .add("activation", &ExpertMlpOptions::activation, "activation inside")
      .add("bias", &ExpertMlpOptions::bias, "whether the experts' linear layers have biases");
}

namespace {

std::shared_ptr<Router> make_router(const ExpertMlpOptions& o) {
  return std::make_shared<TopKRouter>(
      TopKRouterOptions{.dim = o.dim, .experts = o.experts, .top_k = o.top_k, .renormalize = o.renormalize});
}

}  // namespace

ExpertMlp::ExpertMlp(ExpertMlpOptions opts) : ExpertMlp(opts, make_router(opts)) {}

ExpertMlp::ExpertMlp(ExpertMlpOptions opts, std::shared_ptr<Router> with_router)
    : options(opts), router(std::move(with_router)) {
  check(options);
  WINNOW_CHECK(router != nullptr, "ExpertMlp: router must not be null");
  WINNOW_CHECK(router->experts() == options.experts, "ExpertMlp: router must know {} experts, got {}", options.experts,
               router->experts());
  register_module("router", router);
  const auto list = register_module("experts", std::make_shared<torch::nn::Module>());
  for (int64_t e = 0; e < options.experts; ++e) {
    experts.push_back(list->register_module(std::to_string(e), Mlp(MlpOptions{.dim = options.dim,
                                                                              .hidden = options.hidden,
                                                                              .kind = options.kind,
                                                                              .activation = options.activation,
                                                                              .bias = options.bias})));
  }
}

at::Tensor ExpertMlp::apply(const at::Tensor& x) {
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == options.dim, "ExpertMlp: x must have {} as its last size, got shape [{}]",
               options.dim, fmt::join(x.sizes(), ", "));
  const auto tokens = x.reshape({-1, options.dim});  // [N, D]
  const auto routing = router->route(tokens);
  RoutingRecord::note(routing);
  // The choices put together by expert: choice c belongs to token c / k.
  const auto chosen = routing.experts.flatten();  // [N k]
  const auto order = chosen.argsort(/*stable=*/true, 0, /*descending=*/false);
  const auto places = order.floor_divide(routing.experts.size(1));        // [N k], tokens
  const auto weights = routing.weights.flatten().index_select(0, order);  // [N k]
  const auto counts = at::bincount(chosen, {}, options.experts).to(at::kCPU);
  auto sum = at::zeros_like(tokens);
  int64_t begin = 0;
  for (int64_t e = 0; e < options.experts; ++e) {
    const auto count = counts.const_data_ptr<int64_t>()[e];
    if (count == 0) continue;
    const auto mine = places.narrow(0, begin, count);
    const auto y = experts[static_cast<size_t>(e)]->forward(tokens.index_select(0, mine));
    sum.index_add_(0, mine, y * weights.narrow(0, begin, count).unsqueeze(1));
    begin += count;
  }
  return hooked(sum.view(x.sizes()));
}

std::shared_ptr<torch::nn::Module> ExpertMlp::clone(const std::optional<torch::Device>& device) const {
  const auto with_router = std::dynamic_pointer_cast<Router>(router->clone(device));
  WINNOW_CHECK(with_router, "ExpertMlp: the clone of a router must be a Router");
  auto copy = std::make_shared<ExpertMlp>(options, with_router);
  const auto list = copy->named_children()["experts"];
  for (size_t e = 0; e < experts.size(); ++e) {
    copy->experts[e] =
        list->replace_module(std::to_string(e), Mlp(std::dynamic_pointer_cast<MlpImpl>(experts[e]->clone(device))));
  }
  copy->train(is_training());
  return copy;
}

}  // namespace winnow::moe
