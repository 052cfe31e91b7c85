#include "winnow/nn/drop.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/mlp.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

TEST(DropPath, KeepsOrDropsWholeSamplesAndDividesByTheKeepRate) {
  const auto x = at::rand({64, 3, 5}) + 1;
  const auto y = drop_path(x, 0.25, make_generator(3));
  int dropped = 0;
  for (int64_t i = 0; i < 64; ++i) {
    if (y[i].abs().max().item<float>() == 0.0F) {
      ++dropped;
    } else {
      EXPECT_TENSOR_NEAR(y[i], x[i] / 0.75, 1e-6);
    }
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, 64);
}

TEST(DropPath, RateAndExpectationAreRight) {
  // 100,000 samples of value 1: the share of zeros is p within 5 standard deviations, the mean is 1 likewise.
  const int64_t n = 100000;
  for (const double p : {0.1, 0.5, 0.9}) {
    const auto y = drop_path(at::ones({n, 1}), p, make_generator(11));
    const double deviation = std::sqrt(p * (1 - p) / static_cast<double>(n));
    EXPECT_NEAR((y == 0).to(at::kDouble).mean().item<double>(), p, 5 * deviation);
    EXPECT_NEAR(y.to(at::kDouble).mean().item<double>(), 1.0, 5 * deviation / (1 - p));
  }
}

TEST(DropPath, TheExpectationOverBothOutcomesIsExactlyTheInput) {
  // p * 0 + (1 - p) * x / (1 - p): read the factor off a kept sample.
  const double p = 0.25;  // 1 / (1 - p) * (1 - p) rounds to 1
  const auto y = drop_path(at::ones({32}, at::kDouble), p, make_generator(1));
  EXPECT_EQ(y.max().item<double>() * (1 - p), 1.0);
  EXPECT_EQ(y.min().item<double>(), 0.0);
}

TEST(Dropout, RatesHoldForElementsAndTheGradientUsesTheSameMask) {
  const auto x = at::ones({400, 250}).requires_grad_();
  const auto y = dropout(x, 0.3, make_generator(5));
  EXPECT_NEAR((y == 0).to(at::kDouble).mean().item<double>(), 0.3, 5 * std::sqrt(0.21 / 1e5));
  y.sum().backward();
  EXPECT_TENSOR_EQ(x.grad(), y.detach());
}

TEST(Dropout, TheSeedDecidesAndTheGlobalGeneratorIsNotTouched) {
  const auto x = at::ones({50});
  torch::manual_seed(9);
  const auto wanted = at::rand({1});
  torch::manual_seed(9);
  const auto first = dropout(x, 0.5, make_generator(1)), again = dropout(x, 0.5, make_generator(1));
  EXPECT_TENSOR_EQ(first, again);
  EXPECT_FALSE(at::equal(first, dropout(x, 0.5, make_generator(2))));
  EXPECT_TENSOR_EQ(at::rand({1}), wanted);
}

TEST(Dropout, EvaluationAndRateZeroAreTheIdentity) {
  const auto x = at::randn({4, 3});
  Dropout drop(DropOptions{.p = 0.9});
  DropPath path(DropOptions{.p = 0.9});
  drop->eval();
  path->eval();
  EXPECT_TRUE(drop->forward(x).is_same(x));
  EXPECT_TRUE(path->forward(x).is_same(x));
  EXPECT_TRUE(dropout(x, 0.0, make_generator(0)).is_same(x));
  EXPECT_TRUE(drop_path(x, 0.0, make_generator(0)).is_same(x));
  EXPECT_EQ(drop_path(at::empty({0, 3}), 0.5, make_generator(0)).sizes(), (std::vector<int64_t>{0, 3}));
}

TEST(Dropout, AcloneDrawsAnewFromItsSeedAndDoesNotDisturbTheOriginal) {
  Dropout drop(DropOptions{.p = 0.5, .seed = 4});
  const auto x = at::ones({64});
  const auto first = drop->forward(x);
  const auto copy = std::dynamic_pointer_cast<DropoutImpl>(drop->clone());
  EXPECT_TENSOR_EQ(copy->forward(x), first);
  Dropout same(DropOptions{.p = 0.5, .seed = 4});
  same->forward(x);
  EXPECT_TENSOR_EQ(drop->forward(x), same->forward(x));
}

TEST(Dropout, OneGeneratorForATreeMakesItsStateTheWholeState) {
  torch::nn::Sequential tree(Dropout(DropOptions{.p = 0.5}), Mlp(MlpOptions{.dim = 8, .dropout = 0.5}),
                             DropPath(DropOptions{.p = 0.5, .seed = 2}));
  EXPECT_EQ(drop_generators(*tree).size(), 3U);
  auto generator = make_generator(42);
  set_drop_generator(*tree, generator);
  ASSERT_EQ(drop_generators(*tree).size(), 1U);
  const auto x = at::ones({6, 8});
  const auto state = generator.get_state();
  const auto first = tree->forward(x);
  EXPECT_FALSE(at::equal(tree->forward(x), first));
  generator.set_state(state);
  EXPECT_TENSOR_EQ(tree->forward(x), first);
}

TEST(DropPath, RatesRiseLinearly) {
  const auto rates = drop_path_rates(5, 0.2);
  ASSERT_EQ(rates.size(), 5U);
  for (size_t i = 0; i < 5; ++i) EXPECT_DOUBLE_EQ(rates[i], 0.05 * static_cast<double>(i));
  EXPECT_EQ(drop_path_rates(1, 0.2), std::vector<double>{0.0});
  EXPECT_TRUE(drop_path_rates(0, 0.2).empty());
}

TEST(Dropout, SaysWhatIsWrong) {
  EXPECT_ERROR(dropout(at::ones({1}), 1.0, make_generator(0)), "dropout: p must be in [0, 1), got 1");
  EXPECT_ERROR(drop_path(at::ones({1}), -0.1, make_generator(0)), "drop_path: p must be in [0, 1), got -0.1");
  EXPECT_ERROR(drop_path(at::ones({}), 0.1, make_generator(0)), "drop_path: x must have a batch dimension");
  EXPECT_ERROR(Dropout(DropOptions{.p = 1.5}), "Dropout: p must be in [0, 1), got 1.5");
  EXPECT_ERROR(DropPath(DropOptions{.p = std::nan("")}), "DropPath: p must be in [0, 1), got nan");
  EXPECT_ERROR(drop_path_rates(-1, 0.1), "drop_path_rates: depth must be >= 0, got -1");
  EXPECT_ERROR(drop_path_rates(2, 1.0), "drop_path_rates: p must be in [0, 1), got 1");
  Dropout drop(DropOptions{.p = 0.5});
  EXPECT_ERROR(set_drop_generator(*drop, {}), "set_drop_generator: generator must be defined");
}

}  // namespace
}  // namespace winnow
