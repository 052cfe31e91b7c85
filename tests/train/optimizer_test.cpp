#include "winnow/train/optimizer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"

namespace winnow::train {
namespace {

at::Tensor parameter(const at::Tensor& value) {
  return value.clone().requires_grad_();
}

at::Tensor draw(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kFloat) {
  return at::randn(shape, make_generator(seed), at::TensorOptions().dtype(at::kDouble)).to(dtype);
}

ParamGroup group(std::vector<NamedParameter> params, double weight_decay = 0, double lr_scale = 1) {
  return {.name = "all", .params = std::move(params), .lr_scale = lr_scale, .weight_decay = weight_decay};
}

// The formula of the paper in float64, one scalar at a time.
struct TextbookAdamW {
  double beta1, beta2, eps, m = 0, v = 0, t = 0;
  double step(double p, double g, double lr, double weight_decay) {
    t += 1;
    p -= lr * weight_decay * p;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    return p - lr * (m / (1 - std::pow(beta1, t))) / (std::sqrt(v / (1 - std::pow(beta2, t))) + eps);
  }
};

TEST(FusedAdamW, FirstStepMovesByTheRateAgainstTheSignOfTheGradient) {
  auto p = parameter(at::tensor({1.0f, -2.0f}));
  p.mutable_grad() = at::tensor({0.5f, -4.0f});
  FusedAdamW optimizer({group({{"p", p}})});
  optimizer.step(0.1);
  EXPECT_TENSOR_NEAR(p.detach(), at::tensor({0.9f, -1.9f}), 1e-6);  // m/(1-b1) / sqrt(v/(1-b2)) = sign(g)
}

TEST(FusedAdamW, FollowsTheFormulaElementByElement) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const int64_t size : {1, 7, 16, 33, 100}) {
      auto p = parameter(draw({size}, 1, dtype));
      std::vector<double> wanted(static_cast<size_t>(size));
      for (int64_t i = 0; i < size; ++i) wanted[static_cast<size_t>(i)] = p[i].item<double>();
      std::vector<TextbookAdamW> book(static_cast<size_t>(size), {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8});
      FusedAdamW optimizer({group({{"p", p}}, 0.05, 0.5)}, {.beta1 = 0.9, .beta2 = 0.95});
      for (uint64_t step = 0; step < 5; ++step) {
        p.mutable_grad() = draw({size}, 100 + step, dtype);
        const double lr = 0.1 / static_cast<double>(step + 1);
        for (int64_t i = 0; i < size; ++i) {
          auto& value = wanted[static_cast<size_t>(i)];
          value = book[static_cast<size_t>(i)].step(value, p.grad()[i].item<double>(), 0.5 * lr, 0.05);
        }
        optimizer.step(lr);
      }
      EXPECT_TENSOR_NEAR(p.detach(), at::tensor(wanted).to(dtype), dtype == at::kDouble ? 1e-12 : 2e-5);
    }
  }
}

TEST(FusedAdamW, ParametersOfUnequalDtypeAndGroupKeepTheirOwnSettings) {
  auto a = parameter(at::ones({3}));
  auto b = parameter(at::ones({3}, at::kDouble));
  auto c = parameter(at::ones({2, 2}));
  FusedAdamW optimizer({group({{"a", a}, {"b", b}}), group({{"c", c}}, 0.5)});
  for (auto* p : {&a, &b, &c}) p->mutable_grad() = at::zeros_like(*p);
  optimizer.step(0.1);
  EXPECT_TENSOR_EQ(a.detach(), at::ones({3}));
  EXPECT_TENSOR_EQ(b.detach(), at::ones({3}, at::kDouble));
  EXPECT_TENSOR_NEAR(c.detach(), at::full({2, 2}, 0.95f), 1e-7);  // decay alone: 1 - 0.1 * 0.5
}

TEST(FusedAdamW, AParameterWithoutGradientIsLeftAloneAndCountsItsOwnSteps) {
  auto a = parameter(at::tensor({1.0f}));
  auto b = parameter(at::tensor({1.0f}));
  FusedAdamW optimizer({group({{"a", a}, {"b", b}}, 0.1)});
  a.mutable_grad() = at::tensor({1.0f});
  optimizer.step(0.1);
  EXPECT_EQ(b.item<float>(), 1.0f);
  EXPECT_FALSE(optimizer.slot("b", "exp_avg").defined());
  b.mutable_grad() = at::tensor({-3.0f});
  optimizer.step(0.1);
  EXPECT_NEAR(b.item<float>(), 0.99f + 0.1f, 1e-6);  // bias correction of a first step
  EXPECT_EQ(optimizer.state().values.at("steps").at("a"), 2);
  EXPECT_EQ(optimizer.state().values.at("steps").at("b"), 1);
}

TEST(FusedAdamW, AGradientInAnotherMemoryOrderGivesTheSameStep) {
  const auto start = draw({5, 7}, 3);
  const auto grad = draw({5, 7}, 4);
  auto straight = parameter(start);
  auto turned = parameter(start);
  straight.mutable_grad() = grad.clone();
  turned.mutable_grad() = grad.t().contiguous().t();  // equal values, column after column
  FusedAdamW({group({{"p", straight}})}).step(0.1);
  FusedAdamW({group({{"p", turned}})}).step(0.1);
  EXPECT_TENSOR_EQ(straight.detach(), turned.detach());
}

TEST(FusedAdamW, ATransposedParameterIsUpdatedInItsOwnOrder) {
  const auto start = draw({4, 6}, 5);
  const auto grad = draw({4, 6}, 6);
  auto straight = parameter(start);
  auto turned = start.t().contiguous().t().detach().requires_grad_();
  straight.mutable_grad() = grad.clone();
  turned.mutable_grad() = grad.clone();
  FusedAdamW({group({{"p", straight}})}).step(0.1);
  FusedAdamW({group({{"p", turned}})}).step(0.1);
  EXPECT_TENSOR_EQ(straight.detach(), turned.detach().contiguous());
}

TEST(Sgd, MomentumOfConstantGradientsIsAGeometricSum) {
  auto p = parameter(at::tensor({0.0f}));
  Sgd optimizer({group({{"p", p}})}, {.momentum = 0.5});
  double wanted = 0;
  double buffer = 0;
  for (int i = 0; i < 4; ++i) {
    p.mutable_grad() = at::tensor({2.0f});
    optimizer.step(0.1);
    buffer = 0.5 * buffer + 2;
    wanted -= 0.1 * buffer;
  }
  EXPECT_NEAR(wanted, -0.1 * (2 + 3 + 3.5 + 3.75), 1e-12);
  EXPECT_NEAR(p.item<float>(), wanted, 1e-6);
}

TEST(Sgd, NesterovLooksOneStepAhead) {
  auto p = parameter(at::tensor({1.0f}));
  p.mutable_grad() = at::tensor({1.0f});
  Sgd({group({{"p", p}}, 0.1)}, {.momentum = 0.9, .nesterov = true}).step(0.1);
  const double g = 1.0 + 0.1 * 1.0;  // with decay
  EXPECT_NEAR(p.item<float>(), 1 - 0.1 * (g + 0.9 * g), 1e-6);
}

TEST(Sgd, WithoutMomentumThereIsNoState) {
  auto p = parameter(at::tensor({1.0f}));
  p.mutable_grad() = at::tensor({2.0f});
  Sgd optimizer({group({{"p", p}})});
  optimizer.step(0.25);
  EXPECT_EQ(p.item<float>(), 0.5f);
  EXPECT_TRUE(optimizer.state().tensors.empty());
}

TEST(Optimizer, ASavedStateGoesOnToTheBit) {
  auto a = parameter(draw({3, 5}, 7));
  FusedAdamW first({group({{"a", a}}, 0.1)});
  const auto grads = [](uint64_t step) { return draw({3, 5}, 200 + step); };
  for (uint64_t step = 0; step < 3; ++step) {
    a.mutable_grad() = grads(step);
    first.step(0.01);
  }
  auto b = parameter(a.detach());
  FusedAdamW second({group({{"a", b}}, 0.1)});
  second.load_state(first.state());
  for (uint64_t step = 3; step < 6; ++step) {
    a.mutable_grad() = grads(step);
    b.mutable_grad() = grads(step);
    first.step(0.01);
    second.step(0.01);
  }
  EXPECT_TENSOR_EQ(a.detach(), b.detach());
}

TEST(Optimizer, ZeroGradLeavesGradientsUndefined) {
  auto p = parameter(at::ones({2}));
  p.mutable_grad() = at::ones({2});
  Sgd optimizer({group({{"p", p}})});
  optimizer.zero_grad();
  EXPECT_FALSE(p.grad().defined());
}

TEST(Optimizer, AStateThatDoesNotFitIsRefusedAndChangesNothing) {
  auto p = parameter(at::ones({2}));
  p.mutable_grad() = at::ones({2});
  FusedAdamW adamw({group({{"p", p}})});
  adamw.step(0.1);
  const auto state = adamw.state();

  auto other = parameter(at::ones({2}));
  Sgd sgd({group({{"p", other}})}, {.momentum = 0.9});
  EXPECT_ERROR_KIND(sgd.load_state(state), ErrorKind::file, "sgd: the saved state is of another optimiser, 'adamw'");

  FusedAdamW renamed({group({{"q", other}})});
  EXPECT_ERROR(renamed.load_state(state), "adamw: the saved state has no parameter 'q'");

  auto larger = parameter(at::ones({3}));
  FusedAdamW reshaped({group({{"p", larger}})});
  EXPECT_ERROR(reshaped.load_state(state), "adamw: saved tensor 'p.exp_avg' must be float32 [3], got float32 [2]");
  EXPECT_FALSE(reshaped.slot("p", "exp_avg").defined());

  FusedAdamW more({group({{"p", other}, {"q", larger}})});
  EXPECT_ERROR(more.load_state(state), "adamw: the saved state has no parameter 'q'");
}

TEST(Optimizer, BadArgumentsAreNamed) {
  auto p = parameter(at::ones({2}));
  EXPECT_ERROR(FusedAdamW({}), "adamw: there must be at least one parameter");
  EXPECT_ERROR(FusedAdamW({group({{"p", p}, {"p", p}})}), "adamw: parameter 'p' occurs twice");
  EXPECT_ERROR(FusedAdamW({group({{"p", at::ones({2})}})}),
               "adamw: parameter 'p' must be a leaf that requires a gradient");
  EXPECT_ERROR(FusedAdamW({group({{"p", at::ones({2}, at::kLong)}})}),
               "adamw: parameter 'p' must be floating point, got int64");
  EXPECT_ERROR(FusedAdamW({group({{"p", at::Tensor()}})}), "adamw: parameter 'p' is undefined");
  EXPECT_ERROR(FusedAdamW({group({{"p", p}}, -1)}),
               "adamw: weight_decay of group 'all' must be finite and >= 0, got -1");
  EXPECT_ERROR(FusedAdamW({group({{"p", p}}, 0, -1)}),
               "adamw: lr_scale of group 'all' must be finite and >= 0, got -1");
  EXPECT_ERROR(FusedAdamW({group({{"p", p}})}, {.beta1 = 1}), "FusedAdamW: beta1 must be in [0, 1), got 1");
  EXPECT_ERROR(FusedAdamW({group({{"p", p}})}, {.eps = 0}), "FusedAdamW: eps must be > 0, got 0");
  EXPECT_ERROR(Sgd({group({{"p", p}})}, {.nesterov = true}), "Sgd: nesterov needs momentum > 0, got 0");
  Sgd sgd({group({{"p", p}})});
  EXPECT_ERROR(sgd.step(-0.1), "sgd: lr must be finite and >= 0, got -0.1");
  EXPECT_ERROR(sgd.step(NAN), "sgd: lr must be finite and >= 0, got nan");
  EXPECT_ERROR(sgd.slot("q", "momentum"), "sgd: there is no parameter 'q'");
  auto wide = parameter(at::ones({2, 1}));
  torch::embedding(wide, at::tensor({0}), -1, false, /*sparse=*/true).sum().backward();
  Sgd on_sparse({group({{"wide", wide}})});
  EXPECT_ERROR(on_sparse.step(0.1), "sgd: the gradient of parameter 'wide' must be dense, got a sparse one");
}

}  // namespace
}  // namespace winnow::train
