#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/moe/router.h"
#include "winnow/tensor/gradcheck.h"

namespace winnow::moe {
namespace {

// A router whose scores are the tokens themselves.
TopKRouter identity_router(int64_t experts, int64_t k, bool renormalize) {
  TopKRouter router({.dim = experts, .experts = experts, .top_k = k, .renormalize = renormalize});
  router.gate->set_weight(at::eye(experts));
  return router;
}

TEST(TopKRouter, WeightsAreTheProbabilitiesOfTheChosenExperts) {
  auto router = identity_router(4, 2, false);
  const auto routing = router.route(at::tensor({0.0F, 2.0F, 1.0F, -1.0F}).view({1, 4}));
  const double sum = 1 + std::exp(2.0) + std::exp(1.0) + std::exp(-1.0);
  EXPECT_TENSOR_EQ(routing.experts, at::tensor({1, 2}, at::kLong).view({1, 2}));
  EXPECT_TENSOR_NEAR(routing.weights, at::tensor({std::exp(2.0) / sum, std::exp(1.0) / sum}).view({1, 2}), 1e-6);
  EXPECT_TENSOR_EQ(routing.logits, at::tensor({0.0F, 2.0F, 1.0F, -1.0F}).view({1, 4}));
}

TEST(TopKRouter, RenormalizedWeightsOfATokenSumToOneAndKeepTheirRatio) {
  auto plain = identity_router(7, 3, false), normal = identity_router(7, 3, true);
  const auto x = at::randn({11, 7});
  const auto a = plain.route(x), b = normal.route(x);
  EXPECT_TENSOR_EQ(a.experts, b.experts);
  EXPECT_TENSOR_NEAR(b.weights.sum(1), at::ones({11}), 1e-6);
  EXPECT_TENSOR_NEAR(b.weights, a.weights / a.weights.sum(1, true), 1e-6);
}

TEST(TopKRouter, EqualExpertsAreTakenInTheOrderOfTheirNumbers) {
  auto router = identity_router(6, 3, false);
  EXPECT_TENSOR_EQ(router.route(at::zeros({2, 6})).experts, at::tensor({0, 1, 2, 0, 1, 2}, at::kLong).view({2, 3}));
  const auto x = at::tensor({0.0F, 1.0F, 0.0F, 1.0F, 1.0F, 1.0F}).view({1, 6});
  EXPECT_TENSOR_EQ(router.route(x).experts, at::tensor({1, 3, 4}, at::kLong).view({1, 3}));
}

TEST(TopKRouter, SoftmaxOfHalfPrecisionScoresIsTakenInFloat32) {
  auto router = identity_router(3, 3, false);
  router.to(at::kBFloat16);
  const auto x = at::tensor({0.5F, -1.25F, 2.0F}).view({1, 3});
  const auto routing = router.route(x.to(at::kBFloat16));
  EXPECT_EQ(routing.weights.scalar_type(), at::kBFloat16);
  const auto wanted = std::get<0>(at::softmax(x, 1).sort(1, /*descending=*/true)).to(at::kBFloat16);
  EXPECT_TENSOR_EQ(routing.weights, wanted);
}

TEST(TopKRouter, GradientsGoThroughTheChosenWeights) {
  for (const bool renormalize : {false, true}) {
    TopKRouter router({.dim = 3, .experts = 5, .top_k = 2, .renormalize = renormalize});
    router.to(at::kDouble);
    const auto check = gradcheck(
        [&](const std::vector<at::Tensor>& in) { return std::vector<at::Tensor>{router.route(in[0]).weights}; },
        {at::randn({4, 3}, at::kDouble).requires_grad_(), router.gate->weight});
    EXPECT_TRUE(check.passed) << check.message;
  }
}

TEST(TopKRouter, AcceptsNoTokens) {
  auto router = identity_router(4, 2, true);
  const auto routing = router.route(at::zeros({0, 4}));
  EXPECT_EQ(routing.experts.sizes(), at::IntArrayRef({0, 2}));
  EXPECT_EQ(routing.weights.sizes(), at::IntArrayRef({0, 2}));
}

TEST(TopKRouter, ItsCopyHasWeightsOfItsOwn) {
  const auto router = std::make_shared<TopKRouter>(TopKRouterOptions{.dim = 3, .experts = 4, .top_k = 2});
  const auto copy = std::dynamic_pointer_cast<TopKRouter>(router->clone());
  ASSERT_TRUE(copy);
  const auto x = at::randn({5, 3});
  EXPECT_TENSOR_EQ(copy->route(x).logits, router->route(x).logits);
  const at::NoGradGuard no_grad;
  copy->gate->weight.zero_();
  EXPECT_EQ(copy->parameters().size(), 1U);
  EXPECT_NE(router->gate->weight.abs().sum().item<float>(), 0.0F);
}

TEST(TopKRouter, SaysWhichSizeIsOutOfRange) {
  EXPECT_ERROR(TopKRouter({.dim = 3, .experts = 4, .top_k = 5}),
               "TopKRouter: top_k must be in [1, experts = 4], got 5");
  auto router = identity_router(4, 2, true);
  EXPECT_ERROR(router.route(at::zeros({2, 5})), "TopKRouter: tokens must have shape [*, 4]");
}

// The loss by its formula, in plain loops.
double balance_by_loops(const std::vector<Routing>& layers, const std::vector<bool>& keep) {
  const auto experts = layers[0].logits.size(1);
  std::vector<double> chosen(static_cast<size_t>(experts), 0), mass(static_cast<size_t>(experts), 0);
  double rows = 0;
  for (const auto& layer : layers) {
    for (int64_t n = 0; n < layer.logits.size(0); ++n) {
      if (!keep[static_cast<size_t>(n)]) continue;
      rows += 1;
      double sum = 0;
      for (int64_t e = 0; e < experts; ++e) sum += std::exp(layer.logits[n][e].item<double>());
      for (int64_t e = 0; e < experts; ++e) {
        mass[static_cast<size_t>(e)] += std::exp(layer.logits[n][e].item<double>()) / sum;
      }
      for (int64_t j = 0; j < layer.experts.size(1); ++j)
        chosen[static_cast<size_t>(layer.experts[n][j].item<int64_t>())] += 1;
    }
  }
  double loss = 0;
  for (size_t e = 0; e < chosen.size(); ++e) loss += chosen[e] / rows * mass[e] / rows;
  return loss * static_cast<double>(experts);
}

TEST(LoadBalancingLoss, FollowsItsFormulaOverAllLayersTogetherWithoutPads) {
  TopKRouter a({.dim = 4, .experts = 5, .top_k = 2}), b({.dim = 4, .experts = 5, .top_k = 2});
  const std::vector<Routing> layers = {a.route(at::randn({6, 4})), b.route(at::randn({6, 4}))};
  EXPECT_NEAR(load_balancing_loss(layers).item<double>(), balance_by_loops(layers, std::vector<bool>(6, true)), 1e-5);
  const auto keep = at::tensor({1, 0, 1, 1, 0, 1}, at::kLong);
  EXPECT_NEAR(load_balancing_loss(layers, keep).item<double>(),
              balance_by_loops(layers, {true, false, true, true, false, true}), 1e-5);
}

TEST(LoadBalancingLoss, IsKWhenAllExpertsAreEquallyProbable) {
  TopKRouter router({.dim = 2, .experts = 6, .top_k = 3});
  router.gate->set_weight(at::zeros({6, 2}));
  EXPECT_NEAR(load_balancing_loss({router.route(at::randn({8, 2}))}).item<double>(), 3.0, 1e-6);
}

TEST(LoadBalancingLoss, ItsGradientIsThatOfTheProbabilities) {
  TopKRouter router({.dim = 3, .experts = 4, .top_k = 2});
  router.to(at::kDouble);
  const auto x = at::randn({5, 3}, at::kDouble);
  const auto check = gradcheck(
      [&](const std::vector<at::Tensor>&) { return std::vector<at::Tensor>{load_balancing_loss({router.route(x)})}; },
      {router.gate->weight});
  EXPECT_TRUE(check.passed) << check.message;
}

TEST(LoadBalancingLoss, SaysWhatDoesNotFit) {
  EXPECT_ERROR(load_balancing_loss({}), "load_balancing_loss: layers must not be empty");
  auto a = identity_router(4, 2, false), b = identity_router(5, 2, false);
  EXPECT_ERROR(load_balancing_loss({a.route(at::zeros({3, 4})), b.route(at::zeros({3, 5}))}),
               "load_balancing_loss: logits must have shape [*, 4]");
  EXPECT_ERROR(load_balancing_loss({a.route(at::zeros({3, 4}))}, at::ones({2})),
               "load_balancing_loss: keep must have shape [3]");
}

}  // namespace
}  // namespace winnow::moe
