#include "winnow/nn/checkpoint.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/mlp.h"

namespace winnow {
namespace {

struct Gradients {
  at::Tensor output, input;
  std::vector<at::Tensor> parameters;
};

template <class Run>
Gradients gradients_of(Mlp& mlp, const at::Tensor& x, Run&& run) {
  mlp->zero_grad();
  auto input = x.detach().clone().requires_grad_();
  const auto output = run(input);
  (output * output).sum().backward();
  Gradients g{.output = output.detach(), .input = input.grad(), .parameters = {}};
  for (const auto& p : mlp->parameters()) g.parameters.push_back(p.grad().clone());
  return g;
}

void expect_equal(const Gradients& a, const Gradients& b) {
  EXPECT_TENSOR_EQ(a.output, b.output);
  EXPECT_TENSOR_EQ(a.input, b.input);
  for (size_t i = 0; i < a.parameters.size(); ++i) EXPECT_TENSOR_EQ(a.parameters[i], b.parameters[i]);
}

TEST(Checkpoint, OutputsAndAllGradientsAreThoseOfAPlainCallToTheBit) {
  Mlp mlp(MlpOptions{.dim = 8});
  const auto x = at::randn({5, 8});
  const auto plain = gradients_of(mlp, x, [&](const at::Tensor& y) { return mlp->forward(y); });
  int calls = 0;
  const auto saved = gradients_of(mlp, x, [&](const at::Tensor& y) {
    return checkpoint(
        [&](const at::Tensor& z) {
          ++calls;
          return mlp->forward(z);
        },
        y);
  });
  EXPECT_EQ(calls, 2);
  expect_equal(plain, saved);
}

TEST(Checkpoint, RandomNumbersAreTheSameInBothRunsAndGoOnAsIfThereWasOne) {
  Mlp mlp(MlpOptions{.dim = 8, .dropout = 0.5, .seed = 1});
  const auto x = at::randn({5, 8});
  const auto run = [&](const at::Tensor& y) { return mlp->forward(at::dropout(y, 0.5, /*train=*/true)); };
  const auto start = [&] {
    torch::manual_seed(3);
    mlp->drop->generator.set_current_seed(7);
  };
  start();
  const auto plain = gradients_of(mlp, x, run);
  const auto next = at::rand({1});
  const auto next_drop = mlp->drop->forward(at::ones({32}));
  start();
  const auto saved =
      gradients_of(mlp, x, [&](const at::Tensor& y) { return checkpoint(run, y, drop_generators(*mlp)); });
  expect_equal(plain, saved);
  EXPECT_TENSOR_EQ(at::rand({1}), next);
  EXPECT_TENSOR_EQ(mlp->drop->forward(at::ones({32})), next_drop);
}

TEST(Checkpoint, CapturedParametersGetGradientsEvenIfNoInputNeedsOne) {
  Mlp mlp(MlpOptions{.dim = 4});
  const auto x = at::randn({3, 4});
  checkpoint([&](const at::Tensor& y) { return mlp->forward(y); }, x).sum().backward();
  const auto got = mlp->fc1->weight.grad().clone();
  mlp->zero_grad();
  mlp->forward(x).sum().backward();
  EXPECT_TENSOR_EQ(got, mlp->fc1->weight.grad());
}

TEST(Checkpoint, SeveralInputsAndOutputsOfWhichSomeAreUnused) {
  const auto a = at::randn({3}, at::kDouble).requires_grad_(), b = at::randn({3}, at::kDouble).requires_grad_();
  const auto fn = [](const std::vector<at::Tensor>& in) {
    return std::vector<at::Tensor>{in[0] * in[1], in[1].exp(), in[0].detach()};
  };
  const auto out = checkpoint(fn, {a, b});
  ASSERT_EQ(out.size(), 3U);
  out[0].sum().backward();
  EXPECT_TENSOR_EQ(a.grad(), b.detach());
  EXPECT_TENSOR_EQ(b.grad(), a.detach());
}

TEST(Checkpoint, MayBeNested) {
  Mlp mlp(MlpOptions{.dim = 4});
  const auto x = at::randn({3, 4});
  const auto plain = gradients_of(mlp, x, [&](const at::Tensor& y) { return mlp->forward(y.sin()).sin(); });
  const auto inner = [&](const at::Tensor& y) { return mlp->forward(y); };
  const auto nested = gradients_of(mlp, x, [&](const at::Tensor& y) {
    return checkpoint([&](const at::Tensor& z) { return checkpoint(inner, z.sin()).sin(); }, y);
  });
  expect_equal(plain, nested);
}

TEST(Checkpoint, WithoutGradModeTheFunctionIsJustCalled) {
  const at::NoGradGuard no_grad;
  int calls = 0;
  const auto y = checkpoint(
      [&](const at::Tensor& x) {
        ++calls;
        return x * 2;
      },
      at::ones({2}).requires_grad_());
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(calls, 1);
}

TEST(Checkpoint, ARunUnderAutocastIsRepeatedUnderAutocast) {
  std::vector<bool> states;
  const auto fn = [&](const at::Tensor& x) {
    states.push_back(at::autocast::is_autocast_enabled(at::kCPU));
    return x * 2;
  };
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto y = checkpoint(fn, at::ones({2}).requires_grad_());
  at::autocast::set_autocast_enabled(at::kCPU, false);
  y.sum().backward();
  EXPECT_EQ(states, (std::vector<bool>{true, true}));
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
}

TEST(Checkpoint, SaysWhatIsWrong) {
  const auto x = at::ones({2}).requires_grad_();
  const auto y = checkpoint([](const at::Tensor& z) { return z * 2; }, x);
  EXPECT_ERROR(torch::autograd::grad({y.sum()}, {x}), "checkpoint: gradients must be asked for by backward()");
  EXPECT_ERROR(checkpoint(CheckpointFn(), {x}), "checkpoint: fn must be callable");
  EXPECT_ERROR(checkpoint([](const at::Tensor& z) { return z; }, x, {at::Generator()}),
               "checkpoint: generators must be defined");
}

}  // namespace
}  // namespace winnow
