#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/train/autocast.h"
#include "winnow/train/grad_scaler.h"

namespace winnow::train {
namespace {

TEST(AutocastGuard, MatrixProductsTakeTheTypeInsideAndOnlyThere) {
  const auto a = at::ones({2, 3});
  const auto b = at::ones({3, 2});
  {
    const AutocastGuard guard(at::kCPU, at::kBFloat16);
    EXPECT_EQ(at::mm(a, b).scalar_type(), at::kBFloat16);
    {
      const AutocastGuard off(at::kCPU, Precision::fp32);
      EXPECT_EQ(at::mm(a, b).scalar_type(), at::kFloat);
    }
    EXPECT_EQ(at::mm(a, b).scalar_type(), at::kBFloat16);
  }
  EXPECT_EQ(at::mm(a, b).scalar_type(), at::kFloat);
}

TEST(AutocastGuard, RestoresTypeAndSwitchAlsoAfterAnException) {
  const bool enabled = at::autocast::is_autocast_enabled(at::kCPU);
  const auto dtype = at::autocast::get_autocast_dtype(at::kCPU);
  try {
    const AutocastGuard guard(at::kCPU, Precision::fp16);
    EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), at::kHalf);
    throw std::runtime_error("out");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(at::autocast::is_autocast_enabled(at::kCPU), enabled);
  EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), dtype);
}

TEST(AutocastGuard, GradientsArriveInTheTypeOfTheWeights) {
  auto weight = at::full({2, 2}, 0.5f).requires_grad_();
  at::Tensor loss;
  {
    const AutocastGuard guard(at::kCPU, Precision::bf16);
    loss = at::mm(at::ones({1, 2}), weight).sum();
  }
  loss.backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
  EXPECT_TENSOR_NEAR(weight.grad(), at::ones({2, 2}), 1e-6);
}

TEST(AutocastGuard, AnotherTypeIsRefused) {
  EXPECT_ERROR(AutocastGuard(at::kCPU, at::kDouble),
               "AutocastGuard: dtype must be float32, bfloat16 or float16, got float64");
}

at::Tensor with_grad(const at::Tensor& grad) {
  auto p = at::zeros_like(grad).requires_grad_();
  p.mutable_grad() = grad;
  return p;
}

TEST(GradScaler, UnscalingUndoesScaling) {
  const GradScaler scaler({.initial_scale = 1024});
  auto p = at::tensor({3.0f}).requires_grad_();
  scaler.scale(p * 2).backward();
  EXPECT_EQ(p.grad().item<float>(), 2048.0f);
  EXPECT_TRUE(scaler.unscale({p}));
  EXPECT_EQ(p.grad().item<float>(), 2.0f);
}

TEST(GradScaler, AnOverflowAnywhereMakesTheStepBad) {
  const GradScaler scaler;
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(scaler.unscale({with_grad(at::ones({3})), with_grad(at::tensor({1.0f, inf}))}));
  EXPECT_FALSE(scaler.unscale({with_grad(at::tensor({NAN, 1.0f}))}));
  EXPECT_FALSE(scaler.unscale({with_grad(at::ones({3})), with_grad(at::tensor({-inf}).to(at::kDouble))}));
  EXPECT_TRUE(scaler.unscale({with_grad(at::ones({3})), at::ones({1}).requires_grad_()}));
  EXPECT_TRUE(scaler.unscale({}));
}

TEST(GradScaler, BacksOffAfterABadStepAndGrowsAfterARowOfGoodOnes) {
  GradScaler scaler({.initial_scale = 8, .growth = 4, .backoff = 0.5, .interval = 3});
  scaler.update(false);
  EXPECT_EQ(scaler.current_scale(), 4);
  scaler.update(true);
  scaler.update(true);
  scaler.update(false);  // the row starts anew
  EXPECT_EQ(scaler.current_scale(), 2);
  scaler.update(true);
  scaler.update(true);
  EXPECT_EQ(scaler.current_scale(), 2);
  scaler.update(true);
  EXPECT_EQ(scaler.current_scale(), 8);
}

TEST(GradScaler, ASavedStateGoesOnWithTheSameRow) {
  GradScaler first({.initial_scale = 8, .interval = 3});
  first.update(true);
  first.update(true);
  GradScaler second({.initial_scale = 1, .interval = 3});
  second.load_state(first.state());
  second.update(true);
  EXPECT_EQ(second.current_scale(), 16);
  EXPECT_ERROR(second.load_state({}), "GradScaler: the saved state must have scale and good_steps");
}

TEST(GradScaler, BadArgumentsAreNamed) {
  EXPECT_ERROR(GradScaler({.initial_scale = 0}), "GradScaler: initial_scale must be > 0, got 0");
  EXPECT_ERROR(GradScaler({.growth = 1}), "GradScaler: growth must be > 1, got 1");
  EXPECT_ERROR(GradScaler({.backoff = 1}), "GradScaler: backoff must be in (0, 1), got 1");
  EXPECT_ERROR(GradScaler({.interval = 0}), "GradScaler: interval must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow::train
