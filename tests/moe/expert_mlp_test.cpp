#include <gtest/gtest.h>
#include <torch/types.h>

#include <vector>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/attention/transformer_block.h"
#include "winnow/moe/expert_mlp.h"
#include "winnow/tensor/gradcheck.h"

namespace winnow::moe {
namespace {

// Token by token, choice by choice.
at::Tensor by_loops(ExpertMlp& mlp, const at::Tensor& x) {
  const auto tokens = x.reshape({-1, x.size(-1)});
  const auto routing = mlp.router->route(tokens);
  auto out = at::zeros_like(tokens);
  for (int64_t n = 0; n < tokens.size(0); ++n) {
    for (int64_t j = 0; j < routing.experts.size(1); ++j) {
      auto& expert = mlp.experts[static_cast<size_t>(routing.experts[n][j].item<int64_t>())];
      out[n] += routing.weights[n][j] * expert->forward(tokens[n]);
    }
  }
  return out.view(x.sizes());
}

TEST(ExpertMlp, EveryTokenGetsTheWeightedSumOfItsExperts) {
  for (const auto kind : {MlpKind::gated, MlpKind::plain}) {
    for (const bool renormalize : {false, true}) {
      for (const int64_t k : {1, 2, 5}) {
        ExpertMlp mlp({.dim = 6, .hidden = 9, .experts = 5, .top_k = k, .renormalize = renormalize, .kind = kind});
        mlp.to(at::kDouble);
        const at::NoGradGuard no_grad;
        const auto x = at::randn({2, 7, 6}, at::kDouble);
        EXPECT_TENSOR_NEAR(mlp.apply(x), by_loops(mlp, x), 1e-12);
      }
    }
  }
}

TEST(ExpertMlp, OneExpertIsItsMlp) {
  ExpertMlp mlp({.dim = 4, .hidden = 8, .experts = 1, .top_k = 1});
  const auto x = at::randn({3, 2, 4});
  EXPECT_TENSOR_NEAR(mlp.apply(x), mlp.experts[0]->forward(x), 1e-6);
}

TEST(ExpertMlp, GradientsReachTokensRouterAndChosenExpertsOnly) {
  ExpertMlp mlp({.dim = 3, .hidden = 4, .experts = 6, .top_k = 2, .renormalize = true});
  mlp.to(at::kDouble);
  const auto x = at::randn({2, 3}, at::kDouble).requires_grad_();
  std::vector<at::Tensor> inputs = {x};
  for (const auto& p : mlp.parameters()) inputs.push_back(p);
  const auto check =
      gradcheck([&](const std::vector<at::Tensor>& in) { return std::vector<at::Tensor>{mlp.apply(in[0])}; }, inputs);
  EXPECT_TRUE(check.passed) << check.message;

  mlp.zero_grad();
  mlp.apply(x).square().sum().backward();
  const auto chosen = mlp.router->route(x).experts;
  for (int64_t e = 0; e < 6; ++e) {
    const auto& grad = mlp.experts[static_cast<size_t>(e)]->fc1->weight.grad();
    const bool used = (chosen == e).any().item<bool>();
    EXPECT_EQ(used, grad.defined() && grad.abs().sum().item<double>() > 0) << e;
  }
}

TEST(ExpertMlp, AcceptsNoTokensAndAnyLeadingShape) {
  ExpertMlp mlp({.dim = 3, .hidden = 4, .experts = 5, .top_k = 2});
  EXPECT_EQ(mlp.apply(at::zeros({0, 4, 3})).sizes(), at::IntArrayRef({0, 4, 3}));
  EXPECT_EQ(mlp.apply(at::zeros({3})).sizes(), at::IntArrayRef({3}));
}

TEST(ExpertMlp, ARecordTakesTheRoutingOfEveryCallOnItsThread) {
  ExpertMlp a({.dim = 3, .hidden = 4, .experts = 5, .top_k = 2}), b({.dim = 3, .hidden = 4, .experts = 5, .top_k = 1});
  const auto x = at::randn({2, 3});
  a.apply(x);
  RoutingRecord outer;
  a.apply(x);
  {
    RoutingRecord inner;
    b.apply(x);
    ASSERT_EQ(inner.layers.size(), 1U);
    EXPECT_EQ(inner.layers[0].experts.size(1), 1);
  }
  b.apply(x);
  ASSERT_EQ(outer.layers.size(), 2U);
  EXPECT_TENSOR_EQ(outer.layers[0].logits, a.router->route(x).logits);
  EXPECT_TENSOR_EQ(outer.layers[1].logits, b.router->route(x).logits);
}

// Sends every token to the last expert, with weight 1.
struct LastExpert : Router {
  Routing route(const at::Tensor& tokens) override {
    const auto n = tokens.size(0);
    return {.logits = at::zeros({n, 3}), .experts = at::full({n, 1}, 2, at::kLong), .weights = at::ones({n, 1})};
  }
  [[nodiscard]] int64_t experts() const override { return 3; }
};

TEST(ExpertMlp, AnotherRouterMayStandInItsPlace) {
  ExpertMlp mlp({.dim = 3, .hidden = 4, .experts = 3}, std::make_shared<LastExpert>());
  const auto x = at::randn({5, 3});
  EXPECT_TENSOR_NEAR(mlp.apply(x), mlp.experts[2]->forward(x), 1e-6);
  EXPECT_ERROR(ExpertMlp({.dim = 3, .hidden = 4, .experts = 4}, std::make_shared<LastExpert>()),
               "ExpertMlp: router must know 4 experts, got 3");
}

TEST(ExpertMlp, StandsInTheBlockAsItsFeedForwardAndIsCopiedWithIt) {
  TransformerBlockOptions options{.dim = 6, .custom_mlp = true};
  options.attention.heads = 2;
  TransformerBlock block(options);
  const auto mlp = std::make_shared<ExpertMlp>(ExpertMlpOptions{.dim = 6, .hidden = 5, .experts = 4});
  block->set_feed_forward(mlp);
  const auto names = block->named_parameters();
  EXPECT_TRUE(names.contains("mlp.router.gate.weight"));
  EXPECT_TRUE(names.contains("mlp.experts.3.gate.weight"));
  const auto x = at::randn({2, 3, 6});
  const auto y = block->forward(x);
  TransformerBlock copy(std::dynamic_pointer_cast<TransformerBlockImpl>(block->clone()));
  const at::NoGradGuard no_grad;
  for (auto& p : mlp->parameters()) p.zero_();
  EXPECT_TENSOR_NEAR(copy->forward(x), y, 1e-6);
  EXPECT_EQ(copy->parameters().size(), block->parameters().size());
}

TEST(ExpertMlp, SaysWhichSizeIsOutOfRange) {
  EXPECT_ERROR(ExpertMlp({.dim = 3, .hidden = 0, .experts = 4}), "hidden must be >= 1, got 0");
  EXPECT_ERROR(ExpertMlp({.dim = 3, .hidden = 4, .experts = 4, .top_k = 5}),
               "top_k must be in [1, experts = 4], got 5");
  ExpertMlp mlp({.dim = 3, .hidden = 4, .experts = 5, .top_k = 2});
  EXPECT_ERROR(mlp.apply(at::zeros({2, 4})), "ExpertMlp: x must have 3 as its last size, got shape [2, 4]");
}

}  // namespace
}  // namespace winnow::moe
