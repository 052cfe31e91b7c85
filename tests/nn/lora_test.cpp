#include "winnow/nn/lora.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/mlp.h"

namespace winnow {
namespace {

// Adapters whose B is no longer zero.
void learn_something(torch::nn::Module& root) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : lora_parameters(root)) tensor.normal_();
}

at::Tensor by_formula(const LoraStorage& lora) {
  auto weight = lora.base_weight().to(at::kDouble).clone();
  for (const auto& part : lora.parts) {
    const auto scale = part.options.alpha / (part.options.rslora ? std::sqrt(static_cast<double>(part.options.rank))
                                                                 : static_cast<double>(part.options.rank));
    const auto delta = at::matmul(part.b.detach(), part.a.detach()).to(at::kDouble) * scale;
    for (int64_t i = 0; i < delta.size(0); ++i) {
      weight[part.rows.empty() ? i : part.rows[static_cast<size_t>(i)]] += delta[i];
    }
  }
  return weight;
}

TEST(Lora, ChangesNothingAtFirstAndOnlyTheAdaptersLearn) {
  Mlp mlp(MlpOptions{.dim = 6, .hidden = 10});
  const auto x = at::randn({3, 6});
  const auto before = mlp->forward(x);
  EXPECT_EQ(add_lora(*mlp, {"fc1"}, {.rank = 2}), (std::vector<std::string>{"fc1"}));
  EXPECT_TENSOR_NEAR(mlp->forward(x), before, 1e-6);
  std::vector<std::string> learn;
  for (const auto& p : mlp->named_parameters()) {
    if (p.value().requires_grad()) learn.push_back(p.key());
  }
  EXPECT_EQ(learn, (std::vector<std::string>{"fc1.storage.a", "fc1.storage.b"}));
  const auto pairs = lora_parameters(*mlp);
  ASSERT_EQ(pairs.size(), 2U);
  EXPECT_EQ(pairs[0].second.sizes(), (std::vector<int64_t>{2, 6}));
  EXPECT_EQ(pairs[1].second.sizes(), (std::vector<int64_t>{10, 2}));
  EXPECT_GT(pairs[0].second.abs().max().item<double>(), 0.1);
  mlp->forward(x).sum().backward();
  EXPECT_TRUE(pairs[1].second.grad().defined());
  EXPECT_FALSE(mlp->fc2->weight.grad().defined());
}

TEST(Lora, AddsTheScaledProductOfItsFactors) {
  for (const bool rslora : {false, true}) {
    Linear linear(5, 7);
    auto& lora = lora_of(*linear);
    lora.add_part("x", {.rank = 4, .alpha = 3, .rslora = rslora});
    learn_something(*linear);
    const auto x = at::randn({2, 3, 5}).requires_grad_();
    const auto y = linear->forward(x);
    const auto wanted = at::matmul(x.to(at::kDouble), by_formula(lora).t()) + linear->bias.to(at::kDouble);
    EXPECT_TENSOR_NEAR(y.to(at::kDouble), wanted, 1e-5);
    EXPECT_TENSOR_NEAR(linear->dense_weight().to(at::kDouble), by_formula(lora), 1e-5);
    const auto cotangent = at::randn({2, 3, 7});
    const auto got = torch::autograd::grad({y}, {x}, {cotangent})[0];
    EXPECT_TENSOR_NEAR(got.to(at::kDouble), at::matmul(cotangent.to(at::kDouble), by_formula(lora)), 1e-5);
  }
  EXPECT_DOUBLE_EQ(lora_scale({.rank = 4, .alpha = 3}), 0.75);
  EXPECT_DOUBLE_EQ(lora_scale({.rank = 4, .alpha = 3, .rslora = true}), 1.5);
}

TEST(Lora, AdaptersMayMoveSomeRowsOfAFusedWeight) {
  Linear linear(4, 9);
  auto& lora = lora_of(*linear);
  lora.add_part("q", {.rank = 2, .seed = 1}, {0, 1, 2});
  lora.add_part("v", {.rank = 3, .alpha = 5, .seed = 2}, {8, 4, 6});
  learn_something(*linear);
  const auto weight = by_formula(lora);
  EXPECT_TENSOR_EQ(weight.slice(0, 3, 4), lora.base_weight().slice(0, 3, 4).to(at::kDouble));
  const auto x = at::randn({6, 4});
  EXPECT_TENSOR_NEAR(linear->forward(x).to(at::kDouble),
                     at::matmul(x.to(at::kDouble), weight.t()) + linear->bias.to(at::kDouble), 1e-5);
  EXPECT_TENSOR_NEAR(linear->dense_weight().to(at::kDouble), weight, 1e-5);
  EXPECT_ERROR(lora.add_part("k", {.rank = 1}, {3, 2}), "LoraStorage: row 2 must have one adapter at most");
  EXPECT_ERROR(lora.add_part("k", {.rank = 1}, {9}), "LoraStorage: rows must be in [0, 9), got 9");
  EXPECT_ERROR(lora.add_part("k", {.rank = 1}), "LoraStorage: rows of 'k' must have no adapter yet, 'q' has them");
}

TEST(Lora, MergingComputesTheSameAndUnmergingRestoresToTheBit) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Linear linear(8, 5);
    linear->to(dtype);
    const auto original = linear->weight.detach().clone();
    lora_of(*linear).add_part("x", {.rank = 2});
    learn_something(*linear);
    const auto x = at::randn({4, 8});
    const auto apart = linear->forward(x).detach();
    merge_lora(*linear);
    const double tolerance = dtype == at::kFloat ? 1e-5 : 0.15;
    EXPECT_TENSOR_NEAR(linear->forward(x), apart, tolerance);
    EXPECT_FALSE(linear->storage->trainable());
    unmerge_lora(*linear);
    EXPECT_TENSOR_EQ(find_lora(*linear)->base, original);
    EXPECT_TENSOR_EQ(linear->forward(x).detach(), apart);
    fold_lora(*linear);
    EXPECT_FALSE(linear->storage);
    EXPECT_EQ(linear->weight.scalar_type(), dtype);
    EXPECT_TENSOR_NEAR(linear->forward(x), apart, tolerance);
  }
}

TEST(Lora, DroppingItLeavesTheLayerAsItWas) {
  Mlp mlp(MlpOptions{.dim = 4, .hidden = 6});
  const auto weight = mlp->fc2->weight.detach().clone();
  add_lora(*mlp, {"fc*"}, {.rank = 1});
  learn_something(*mlp);
  drop_lora(*mlp);
  EXPECT_TENSOR_EQ(mlp->fc2->weight.detach(), weight);
  EXPECT_TRUE(lora_parameters(*mlp).empty());
}

TEST(Lora, AdaptersOverAdaptersFreezeTheInnerOnes) {
  Linear linear(4, 3);
  lora_of(*linear).add_part("first", {.rank = 1});
  learn_something(*linear);
  const auto first = linear->dense_weight();
  LinearImpl outer(4, 3, false);
  outer.set_storage(linear->storage);
  auto over = std::make_shared<LoraStorage>(outer);
  over->add_part("second", {.rank = 2});
  linear->set_storage(over);
  EXPECT_TENSOR_NEAR(linear->dense_weight(), first, 1e-6);
  EXPECT_FALSE(over->inner->parameters()[0].requires_grad());
  learn_something(*linear);
  const auto x = at::randn({2, 4});
  EXPECT_TENSOR_NEAR(linear->forward(x).to(at::kDouble),
                     at::matmul(x.to(at::kDouble), by_formula(*over).t()) + linear->bias.to(at::kDouble), 1e-5);
  EXPECT_ERROR(over->merge(), "LoraStorage: merge needs a dense weight; fold_lora makes one of another storage");
}

TEST(Lora, DropoutActsInTrainingOnlyAndRepeatsWithItsSeed) {
  Linear linear(64, 8);
  lora_of(*linear).add_part("x", {.rank = 4, .dropout = 0.5, .seed = 3});
  learn_something(*linear);
  const auto x = at::randn({16, 64});
  linear->eval();
  const auto quiet = linear->forward(x).detach();
  EXPECT_TENSOR_EQ(linear->forward(x).detach(), quiet);
  linear->train();
  EXPECT_GT((linear->forward(x).detach() - quiet).abs().max().item<double>(), 0.01);
  EXPECT_EQ(drop_generators(*linear).size(), 1U);
}

TEST(Lora, ACloneIsDeepAndKeepsWhatLearns) {
  Mlp mlp(MlpOptions{.dim = 4, .hidden = 6});
  add_lora(*mlp, {"fc1"}, {.rank = 2});
  learn_something(*mlp);
  Mlp copy(std::dynamic_pointer_cast<MlpImpl>(mlp->clone()));
  const auto x = at::randn({2, 4});
  const auto before = mlp->forward(x).detach();
  EXPECT_TENSOR_EQ(copy->forward(x).detach(), before);
  EXPECT_EQ(copy->named_parameters().keys(), mlp->named_parameters().keys());
  for (const auto& [name, tensor] : lora_parameters(*copy)) EXPECT_TRUE(tensor.requires_grad()) << name;
  learn_something(*mlp);
  EXPECT_TENSOR_EQ(copy->forward(x).detach(), before);
}

TEST(Lora, PatternsThatMatchNothingAreNamed) {
  Mlp mlp(MlpOptions{.dim = 4, .hidden = 6});
  EXPECT_ERROR(add_lora(*mlp, {"fc3"}, {.rank = 2}),
               "add_lora: patterns must match a Linear, 'fc3' matches none; did you mean fc1?");
  EXPECT_ERROR(add_lora(*mlp, {"fc1"}, {.rank = 0}), "Lora: rank must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow
