#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <string>

#include "support/error.h"
#include "support/golden.h"
#include "support/tensor_near.h"
#include "winnow/train/adan.h"
#include "winnow/train/lars.h"

namespace winnow::train {
namespace {

using testing::golden::Case;

at::Tensor parameter(const at::Tensor& value) {
  return value.clone().requires_grad_();
}

TEST(Lars, TheTrustRatioScalesTheUpdateToTheNormOfTheParameter) {
  auto p = parameter(at::tensor({3.0f, 4.0f}).view({1, 2}));  // norm 5
  p.mutable_grad() = at::tensor({0.0f, 2.0f}).view({1, 2});   // norm 2
  Lars optimizer({{.name = "all", .params = {{"p", p}}}}, {.momentum = 0.9, .trust = 0.01});
  optimizer.step(1.0);
  EXPECT_TENSOR_NEAR(p.detach(), at::tensor({3.0f, 4.0f - 0.05f}).view({1, 2}), 1e-6);  // 0.01 * 5 / 2 * 2
}

TEST(Lars, TheNormOfTheUpdateIncludesTheDecay) {
  auto p = parameter(at::tensor({3.0f, 4.0f}).view({1, 2}));
  p.mutable_grad() = at::zeros({1, 2});
  Lars optimizer({{.name = "all", .params = {{"p", p}}, .weight_decay = 0.5}}, {.momentum = 0, .trust = 0.01});
  optimizer.step(1.0);
  // u = 0.5 p of norm 2.5; ratio 0.01 * 5 / 2.5 = 0.02; p - 0.02 * 0.5 p.
  EXPECT_TENSOR_NEAR(p.detach(), at::tensor({2.97f, 3.96f}).view({1, 2}), 1e-6);
}

TEST(Lars, AVectorIsNeitherDecayedNorScaled) {
  auto p = parameter(at::tensor({3.0f, 4.0f}));
  p.mutable_grad() = at::tensor({1.0f, -1.0f});
  Lars optimizer({{.name = "all", .params = {{"p", p}}, .weight_decay = 0.5}});
  optimizer.step(0.1);
  EXPECT_TENSOR_NEAR(p.detach(), at::tensor({2.9f, 4.1f}), 1e-6);
}

TEST(Lars, AZeroNormGivesRatioOne) {
  auto zero = parameter(at::zeros({1, 2}));
  auto still = parameter(at::ones({1, 2}));
  zero.mutable_grad() = at::tensor({3.0f, 4.0f}).view({1, 2});
  still.mutable_grad() = at::zeros({1, 2});
  Lars optimizer({{.name = "all", .params = {{"zero", zero}, {"still", still}}}});
  optimizer.step(0.1);
  EXPECT_TENSOR_NEAR(zero.detach(), at::tensor({-0.3f, -0.4f}).view({1, 2}), 1e-6);
  EXPECT_TENSOR_EQ(still.detach(), at::ones({1, 2}));
}

TEST(Lars, TheRateMultipliesTheBufferSoAChangeActsAtOnce) {
  auto p = parameter(at::tensor({1.0f}));
  Lars optimizer({{.name = "all", .params = {{"p", p}}}}, {.momentum = 0.5});
  p.mutable_grad() = at::tensor({1.0f});
  optimizer.step(1.0);
  EXPECT_NEAR(p.item<float>(), 0.0f, 1e-6);
  p.mutable_grad() = at::tensor({1.0f});
  optimizer.step(0.0);  // the buffer takes the gradient in, the parameter does not move
  EXPECT_NEAR(p.item<float>(), 0.0f, 1e-6);
  p.mutable_grad() = at::tensor({0.0f});
  optimizer.step(2.0);  // buffer ((1 * .5 + 1) * .5) = .75
  EXPECT_NEAR(p.item<float>(), -1.5f, 1e-6);
}

TEST(Lars, BadArgumentsAreNamed) {
  auto p = parameter(at::ones({1}));
  EXPECT_ERROR(Lars({{.name = "all", .params = {{"p", p}}}}, {.momentum = 1}),
               "Lars: momentum must be in [0, 1), got 1");
  EXPECT_ERROR(Lars({{.name = "all", .params = {{"p", p}}}}, {.trust = 0}), "Lars: trust must be > 0, got 0");
}

TEST(LarsGolden, StepsMatchTheOfficialCode) {
  testing::golden::for_each("mae", "lars", [](const Case& c) {
    ParamGroup group{.name = "all", .params = {}, .weight_decay = c.option<double>("wd")};
    for (const auto& [name, value] : c.with_prefix("w.")) group.params.push_back({name, parameter(value)});
    const auto params = group.params;
    Lars optimizer({group}, {.momentum = c.option<double>("momentum"), .trust = c.option<double>("trust")});
    for (int64_t i = 0; i < c.option<int64_t>("steps"); ++i) {
      for (const auto& [name, tensor] : params) {
        at::Tensor p = tensor;
        p.mutable_grad() = c["in.grad" + std::to_string(i) + "." + name];
      }
      optimizer.step(c.option<double>("lr"));
      for (const auto& [name, tensor] : params) {
        c.expect("out." + name + std::to_string(i), tensor.detach());
        c.expect("out.mu." + name + std::to_string(i), optimizer.slot(name, "mu"));
      }
    }
  });
}

// The update of the paper's algorithm in float64 for one number.
struct TextbookAdan {
  double b1, b2, b3, eps;
  double m = 0, v = 0, n = 0, previous = 0, t = 0;
  double direction(double g) {
    const double d = t == 0 ? 0 : g - previous;
    t += 1;
    previous = g;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * d;
    n = b3 * n + (1 - b3) * (g + b2 * d) * (g + b2 * d);
    const double mean = m / (1 - std::pow(b1, t)) + b2 * v / (1 - std::pow(b2, t));
    return mean / (std::sqrt(n / (1 - std::pow(b3, t))) + eps);
  }
};

TEST(Adan, FollowsTheFormulaInBothPlacesOfTheDecay) {
  for (const bool decay_before : {false, true}) {
    auto p = parameter(at::tensor({2.0}, at::kDouble));
    Adan optimizer({{.name = "all", .params = {{"p", p}}, .weight_decay = 0.1}}, {.decay_before = decay_before});
    TextbookAdan book{.b1 = 0.98, .b2 = 0.92, .b3 = 0.99, .eps = 1e-8};
    double wanted = 2.0;
    const double lr = 0.05;
    for (const double g : {1.0, 0.5, -2.0, 3.0}) {
      p.mutable_grad() = at::tensor({g}, at::kDouble);
      optimizer.step(lr);
      const double u = book.direction(g);
      wanted = decay_before ? wanted * (1 - lr * 0.1) - lr * u : (wanted - lr * u) / (1 + lr * 0.1);
      EXPECT_NEAR(p.item<double>(), wanted, 1e-12);
    }
  }
}

TEST(Adan, ClippingIsByTheNormOverAllGroups) {
  auto a = parameter(at::tensor({0.0}, at::kDouble));
  auto b = parameter(at::tensor({0.0}, at::kDouble));
  a.mutable_grad() = at::tensor({3.0}, at::kDouble);
  b.mutable_grad() = at::tensor({4.0}, at::kDouble);
  Adan optimizer({{.name = "a", .params = {{"a", a}}}, {.name = "b", .params = {{"b", b}}}}, {.max_grad_norm = 1.0});
  optimizer.step(0.1);
  EXPECT_NEAR(optimizer.slot("a", "previous_grad").item<double>(), 0.6, 1e-6);
  EXPECT_NEAR(optimizer.slot("b", "previous_grad").item<double>(), 0.8, 1e-6);
}

TEST(Adan, BadArgumentsAreNamed) {
  auto p = parameter(at::ones({1}));
  EXPECT_ERROR(Adan({{.name = "all", .params = {{"p", p}}}}, {.beta3 = 1}), "Adan: beta3 must be in [0, 1), got 1");
  EXPECT_ERROR(Adan({{.name = "all", .params = {{"p", p}}}}, {.max_grad_norm = -1}),
               "Adan: max_grad_norm must be >= 0, got -1");
}

TEST(AdanGolden, StepsMatchTheOfficialCode) {
  testing::golden::for_each("mae", "adan", [](const Case& c) {
    ParamGroup group{.name = "all", .params = {}, .weight_decay = c.option<double>("wd")};
    for (const auto& [name, value] : c.with_prefix("w.")) group.params.push_back({name, parameter(value)});
    const auto params = group.params;
    const auto betas = c.option<std::vector<double>>("betas");
    Adan optimizer({group}, {.beta1 = betas.at(0),
                             .beta2 = betas.at(1),
                             .beta3 = betas.at(2),
                             .max_grad_norm = c.option<double>("clip"),
                             .decay_before = c.option<bool>("no_prox")});
    for (int64_t i = 0; i < c.option<int64_t>("n"); ++i) {
      for (const auto& [name, tensor] : params) {
        at::Tensor p = tensor;
        p.mutable_grad() = c["in.grad" + std::to_string(i) + "." + name];
      }
      optimizer.step(c.option<double>("lr"));
      for (const auto& [name, tensor] : params) {
        const auto at_step = "." + name + ".step" + std::to_string(i);
        c.expect("out" + at_step, tensor.detach());
        for (const std::string slot : {"exp_avg", "exp_avg_sq", "exp_avg_diff"}) {
          c.expect("out." + slot + at_step, optimizer.slot(name, slot));
        }
      }
    }
  });
}

}  // namespace
}  // namespace winnow::train
