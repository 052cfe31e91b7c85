#include "winnow/tensor/cross_entropy.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/gradcheck.h"

namespace winnow {
namespace {

// The definition, by loops in double.
double by_loops(const at::Tensor& logits, const at::Tensor& targets, const TokenLossOptions& o) {
  const auto V = logits.size(-1);
  const auto rows = logits.to(at::kDouble).reshape({-1, V});
  const auto wanted = targets.reshape({-1});
  double sum = 0;
  int64_t counted = 0;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const auto target = wanted[i].item<int64_t>();
    if (target == o.ignore) continue;
    ++counted;
    double total = 0;
    for (int64_t v = 0; v < V; ++v) total += std::exp(rows[i][v].item<double>());
    const double lse = std::log(total);
    for (int64_t v = 0; v < V; ++v) {
      const double q = (v == target ? 1 - o.label_smoothing : 0.0) + o.label_smoothing / static_cast<double>(V);
      sum += q * (lse - rows[i][v].item<double>());
    }
    sum += o.z_loss * lse * lse;
  }
  return counted == 0 ? 0.0 : sum / static_cast<double>(counted);
}

const std::vector<TokenLossOptions> kOptions = {
    {}, {.label_smoothing = 0.2}, {.z_loss = 0.3}, {.ignore = 2, .label_smoothing = 0.1, .z_loss = 0.01, .chunk = 2}};

TEST(TokenCrossEntropy, AWorkedExample) {
  // Row 0: logits (0, ln 3): p = (1/4, 3/4); target 1 costs ln(4/3). Row 1 is ignored. Row 2: equal logits cost ln 2.
  const auto logits = at::tensor({0.0, std::log(3.0), 5.0, -5.0, 7.0, 7.0}, at::kDouble).view({3, 2});
  const auto targets = at::tensor({1, -100, 0}, at::kLong);
  EXPECT_NEAR(token_cross_entropy(logits, targets).item<double>(), (std::log(4.0 / 3) + std::log(2.0)) / 2, 1e-12);
  EXPECT_TENSOR_NEAR(token_nll(logits, targets), at::tensor({std::log(4.0 / 3), 0.0, std::log(2.0)}, at::kDouble),
                     1e-12);
  // Smoothing 0.5 of two classes: the target distribution of row 0 is (1/4, 3/4), its cross-entropy the entropy of p.
  EXPECT_NEAR(
      token_cross_entropy(logits.slice(0, 0, 1), targets.slice(0, 0, 1), {.label_smoothing = 0.5}).item<double>(),
      0.25 * std::log(4.0) + 0.75 * std::log(4.0 / 3), 1e-12);
  // The log sum of row 0 is ln 4.
  EXPECT_NEAR(token_cross_entropy(logits.slice(0, 0, 1), targets.slice(0, 0, 1), {.z_loss = 2}).item<double>(),
              std::log(4.0 / 3) + 2 * std::pow(std::log(4.0), 2), 1e-12);
}

TEST(TokenCrossEntropy, FollowsItsDefinitionAndItsGradient) {
  const auto logits = at::randn({2, 3, 5}, at::kDouble) * 2;
  const auto targets = at::tensor({0, 4, -100, 2, 2, 1}, at::kLong).view({2, 3});
  for (auto options : kOptions) {
    const auto wanted = options.ignore == 2 ? targets.masked_fill(targets == -100, 3) : targets;
    const auto f = [&](const std::vector<at::Tensor>& in) { return token_cross_entropy(in[0], wanted, options); };
    EXPECT_NEAR(f({logits}).item<double>(), by_loops(logits, wanted, options), 1e-12);
    EXPECT_NEAR(f({logits.to(at::kFloat)}).item<double>(), by_loops(logits, wanted, options), 1e-5);
    const auto check =
        gradcheck([&](const auto& in) { return std::vector<at::Tensor>{f(in)}; }, {logits.clone().requires_grad_()});
    EXPECT_TRUE(check.passed) << check.message;
  }
}

TEST(TokenCrossEntropy, TheFusedProductHasTheValueAndGradientsOfTheTwoSteps) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    for (auto options : kOptions) {
      for (const int64_t chunk : {1, 3, 100}) {
        options.chunk = chunk;
        const auto x = at::randn({7, 4}, dtype).requires_grad_(), weight = at::randn({6, 4}, dtype).requires_grad_();
        const auto targets = at::tensor(std::vector<int64_t>{0, 5, options.ignore, 3, 3, 1, 0}, at::kLong);
        const auto fused = linear_cross_entropy(x, weight, targets, options) * 1.5;
        const auto apart = token_cross_entropy(at::matmul(x, weight.t()), targets, options) * 1.5;
        const double tolerance = dtype == at::kDouble ? 1e-12 : 1e-5;
        EXPECT_TENSOR_NEAR(fused, apart, tolerance);
        const auto ours = torch::autograd::grad({fused}, {x, weight});
        const auto theirs = torch::autograd::grad({apart}, {x, weight});
        for (size_t i = 0; i < 2; ++i) EXPECT_TENSOR_NEAR(ours[i], theirs[i], tolerance);
      }
    }
  }
}

TEST(TokenCrossEntropy, OnlyWhatLearnsGetsAGradientAndNothingWithoutOne) {
  const auto x = at::randn({3, 4}).requires_grad_(), weight = at::randn({6, 4});
  const auto targets = at::tensor({0, 5, 1}, at::kLong);
  linear_cross_entropy(x, weight, targets).backward();
  EXPECT_TRUE(x.grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(linear_cross_entropy(x, weight, targets).requires_grad());
  EXPECT_FALSE(token_cross_entropy(at::matmul(x, weight.t()), targets).requires_grad());
}

TEST(TokenCrossEntropy, WithoutACountedTokenItIsZeroWithoutGradient) {
  const auto logits = at::randn({2, 3}).requires_grad_();
  const auto loss = token_cross_entropy(logits, at::full({2}, -100, at::kLong));
  EXPECT_EQ(loss.item<float>(), 0.0F);
  loss.backward();
  EXPECT_TENSOR_EQ(logits.grad(), at::zeros({2, 3}));
}

TEST(TokenCrossEntropy, LargeLogitsStayFinite) {
  const auto logits = at::tensor({1000.0F, -1000.0F, 0.0F}).view({1, 3});
  EXPECT_FLOAT_EQ(token_cross_entropy(logits, at::tensor({2}, at::kLong)).item<float>(), 1000.0F);
}

TEST(TokenCrossEntropy, NextTokensAreTheIdsMovedByOne) {
  const auto ids = at::arange(6, at::kLong).view({2, 3});
  EXPECT_TENSOR_EQ(next_tokens(ids), at::tensor({1, 2, -100, 4, 5, -100}, at::kLong).view({2, 3}));
  EXPECT_EQ(next_tokens(at::zeros({2, 0}, at::kLong)).numel(), 0);
}

TEST(TokenCrossEntropy, SaysWhatIsWrong) {
  const auto logits = at::randn({2, 3});
  EXPECT_ERROR(token_cross_entropy(logits, at::tensor({1}, at::kLong)),
               "token_cross_entropy: targets must have shape [2], got [1]");
  EXPECT_ERROR(token_cross_entropy(logits, at::tensor({1, 3}, at::kLong)),
               "token_cross_entropy: targets (where counted)");
  EXPECT_ERROR(token_cross_entropy(logits, at::tensor({1, 2}, at::kLong), {.label_smoothing = 1}),
               "token_cross_entropy: label_smoothing must be in [0, 1), got 1");
  EXPECT_ERROR(linear_cross_entropy(logits, at::randn({5, 4}), at::tensor({1, 2}, at::kLong)),
               "linear_cross_entropy: x must have 4 as its last size, got shape [2, 3]");
}

}  // namespace
}  // namespace winnow
