#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/train/clip.h"
#include "winnow/train/ema.h"

namespace winnow::train {
namespace {

at::Tensor with_grad(const at::Tensor& grad) {
  auto p = at::zeros_like(grad).requires_grad_();
  p.mutable_grad() = grad;
  return p;
}

TEST(Clip, TheNormIsOverAllGradientsAsOneVector) {
  const auto a = with_grad(at::tensor({3.0f, 0.0f}));
  const auto b = with_grad(at::tensor({4.0, 12.0}, at::kDouble).view({1, 2}));
  const auto none = at::ones({2}).requires_grad_();
  EXPECT_NEAR(grad_norm({a, none, b}).item<float>(), 13.0f, 1e-5);
  EXPECT_EQ(grad_norm({none}).item<float>(), 0.0f);
  EXPECT_EQ(grad_norm({}).item<float>(), 0.0f);
}

TEST(Clip, ANormAboveTheLimitIsScaledToItAndOneBelowIsLeft) {
  const auto a = with_grad(at::tensor({3.0f}));
  const auto b = with_grad(at::tensor({4.0f}));
  EXPECT_NEAR(clip_grad_norm({a, b}, 1.0).item<float>(), 5.0f, 1e-6);
  EXPECT_TENSOR_NEAR(a.grad(), at::tensor({0.6f}), 1e-6);
  EXPECT_TENSOR_NEAR(b.grad(), at::tensor({0.8f}), 1e-6);
  EXPECT_NEAR(clip_grad_norm({a, b}, 100.0).item<float>(), 1.0f, 1e-6);
  EXPECT_TENSOR_NEAR(a.grad(), at::tensor({0.6f}), 1e-6);
}

TEST(Clip, ByValueEachEntryAlone) {
  const auto a = with_grad(at::tensor({3.0f, -0.25f, -7.0f}));
  clip_grad_value({a}, 0.5);
  EXPECT_TENSOR_EQ(a.grad(), at::tensor({0.5f, -0.25f, -0.5f}));
}

TEST(Clip, BadArgumentsAreNamed) {
  EXPECT_ERROR(clip_grad_norm({}, 0), "clip_grad_norm: max_norm must be > 0, got 0");
  EXPECT_ERROR(clip_grad_value({}, -1), "clip_grad_value: max_value must be > 0, got -1");
}

struct OneWeight : torch::nn::Module {
  OneWeight() {
    weight = register_parameter("weight", at::zeros({2}));
    running = register_buffer("running", at::zeros({1}));
  }
  void set(float value) {
    const at::NoGradGuard no_grad;
    weight.fill_(value);
  }
  at::Tensor weight, running;
};

TEST(Ema, IsTheWeightedSumOfItsHistory) {
  OneWeight module;
  module.set(1);
  Ema ema(module, {.decay = 0.75});
  double wanted = 1;
  for (const float value : {2.0f, -1.0f, 5.0f}) {
    module.set(value);
    ema.update();
    wanted = 0.75 * wanted + 0.25 * value;
  }
  // 0.75^3 * 1 + 0.25 (0.75^2 * 2 - 0.75 * 1 + 5)
  EXPECT_DOUBLE_EQ(wanted, 0.421875 + 0.25 * (1.125 - 0.75 + 5));
  EXPECT_TENSOR_NEAR(ema.average("weight"), at::full({2}, wanted, at::kFloat), 1e-6);
  EXPECT_EQ(ema.updates(), 3);
}

TEST(Ema, WarmUpBeginsWithASmallDecay) {
  OneWeight module;
  Ema ema(module, {.decay = 0.9, .warm_up = true});
  module.set(1);
  ema.update();  // decay 1/10
  EXPECT_TENSOR_NEAR(ema.average("weight"), at::full({2}, 0.9f), 1e-6);
  module.set(2);
  ema.update();  // decay 2/11
  EXPECT_TENSOR_NEAR(ema.average("weight"), at::full({2}, (2 * 0.9f + 9 * 2) / 11), 1e-6);
}

TEST(Ema, DecayOneNeverMovesAndDecayZeroFollows) {
  OneWeight module;
  module.set(1);
  Ema still(module, {.decay = 1});
  Ema follows(module, {.decay = 0});
  module.set(3);
  still.update();
  follows.update();
  EXPECT_TENSOR_EQ(still.average("weight"), at::ones({2}));
  EXPECT_TENSOR_EQ(follows.average("weight"), at::full({2}, 3.0f));
}

TEST(Ema, AScopeExchangesTheWeightsAndPutsThemBackToTheBit) {
  OneWeight module;
  module.set(0.1f);
  Ema ema(module, {.decay = 0.7});
  module.set(0.3f);
  ema.update();
  const auto average = ema.average("weight").clone();
  const auto live = module.weight.detach().clone();
  {
    const EmaScope averaged(ema);
    EXPECT_TENSOR_EQ(module.weight.detach(), average);
  }
  EXPECT_TENSOR_EQ(module.weight.detach(), live);
  EXPECT_TENSOR_EQ(ema.average("weight"), average);
  EXPECT_TRUE(module.weight.requires_grad());
}

TEST(Ema, ASavedStateGoesOnToTheBit) {
  OneWeight module;
  Ema first(module, {.decay = 0.9, .warm_up = true});
  module.set(1);
  first.update();
  Ema second(module, {.decay = 0.9, .warm_up = true});
  auto state = first.state();
  second.load_state(state);
  module.set(0.37f);
  first.update();
  second.update();
  EXPECT_TENSOR_EQ(first.average("weight"), second.average("weight"));
  EXPECT_EQ(second.updates(), 2);
  state.tensors.erase("weight");
  EXPECT_ERROR(second.load_state(state), "Ema: the saved state has no tensor 'weight'");
  EXPECT_ERROR(second.average("bias"), "Ema: there is no parameter 'bias'");
  EXPECT_ERROR(Ema(module, {.decay = 1.5}), "Ema: decay must be in [0, 1], got 1.5");
}

}  // namespace
}  // namespace winnow::train
