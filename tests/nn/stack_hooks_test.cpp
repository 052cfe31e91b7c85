#include <gtest/gtest.h>
#include <torch/torch.h>

#include <thread>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/mlp.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/stack.h"

namespace winnow {
namespace {

Stack<Mlp> three_mlps() {
  return Stack<Mlp>(3, [](int64_t i) { return Mlp(MlpOptions{.dim = 4, .hidden = 5 + i}); });
}

// x * factor + offset of this layer.
struct Layered {
  double offset = 0;
  Layered for_layer(int64_t index) const { return {.offset = offset + static_cast<double>(index)}; }
};
struct AffineImpl : torch::nn::Cloneable<AffineImpl> {
  AffineImpl() { reset(); }
  void reset() override {}
  at::Tensor forward(const at::Tensor& x, double factor, const Layered& layered) { return x * factor + layered.offset; }
};
TORCH_MODULE(Affine);

TEST(Stack, RunsItsBlocksInOrderAndNamesThemByNumber) {
  auto stack = three_mlps();
  EXPECT_EQ(stack->named_children().keys(), (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_EQ(stack[2]->fc1->weight.size(0), 7);
  const auto x = at::randn({2, 4});
  EXPECT_TENSOR_EQ(stack->forward(x), stack[2]->forward(stack[1]->forward(stack[0]->forward(x))));
}

TEST(Stack, PassesMoreArgumentsAndTellsThoseThatAskTheLayer) {
  Stack<Affine> stack(3, [](int64_t) { return Affine(); });
  // ((1 * 2 + 10) * 2 + 11) * 2 + 12
  EXPECT_EQ(stack->forward(at::ones({1}), 2.0, Layered{.offset = 10}).item<float>(), 82.0F);
}

TEST(Stack, AcloneIsDeepAndKeepsTheTrainingFlagAlsoInsideAnotherModule) {
  struct OwnerImpl : torch::nn::Cloneable<OwnerImpl> {
    OwnerImpl() { reset(); }
    void reset() override { blocks = register_module("blocks", three_mlps()); }
    Stack<Mlp> blocks{nullptr};
  };
  auto owner = std::make_shared<OwnerImpl>();
  owner->eval();
  const auto copy = std::dynamic_pointer_cast<OwnerImpl>(owner->clone());
  const auto x = at::randn({2, 4});
  const auto before = owner->blocks->forward(x);
  EXPECT_TENSOR_EQ(copy->blocks->forward(x), before);
  EXPECT_FALSE(copy->blocks->is_training());
  EXPECT_EQ(copy->named_parameters().keys(), owner->named_parameters().keys());
  {
    const at::NoGradGuard no_grad;
    for (auto& p : copy->parameters()) p.zero_();
  }
  EXPECT_TENSOR_EQ(owner->blocks->forward(x), before);
  EXPECT_TENSOR_EQ(copy->blocks->forward(x), at::zeros({2, 4}));
}

TEST(Stack, EmptyIsTheIdentityAndErrorsAreClear) {
  Stack<Mlp> stack(0, [](int64_t) { return Mlp(MlpOptions{.dim = 4}); });
  const auto x = at::randn({2, 4});
  EXPECT_TENSOR_EQ(stack->forward(x), x);
  EXPECT_TRUE(stack->empty());
  EXPECT_ERROR(stack[0], "Stack: block must be in [0, 0), got 0");
  EXPECT_ERROR(Stack<Mlp>(-1, [](int64_t) { return Mlp(MlpOptions{.dim = 4}); }), "Stack: depth must be >= 0, got -1");
}

TEST(ForwardHooks, ObserveSeesTheOutputAndGoesWithTheObject) {
  auto stack = three_mlps();
  const auto x = at::randn({2, 4});
  at::Tensor seen;
  {
    ForwardHooks hooks(*stack);
    EXPECT_EQ(hooks.names(),
              (std::vector<std::string>{"0", "0.fc1", "0.fc2", "1", "1.fc1", "1.fc2", "2", "2.fc1", "2.fc2"}));
    hooks.observe("1", [&](const at::Tensor& out) { seen = out; });
    EXPECT_TRUE(hooks_active());
    stack->forward(x);
    EXPECT_TENSOR_EQ(seen, stack[1]->forward(stack[0]->forward(x)));
  }
  EXPECT_FALSE(hooks_active());
  seen = at::Tensor();
  stack->forward(x);
  EXPECT_FALSE(seen.defined());
}

TEST(ForwardHooks, ReplaceChangesWhatFollowsAndTakesPartInAutograd) {
  auto stack = three_mlps();
  const auto x = at::randn({2, 4});
  auto direction = at::randn({4}).requires_grad_();
  ForwardHooks hooks(*stack);
  hooks.replace("0", [&](const at::Tensor& out) { return out * 0 + direction; });
  hooks.replace("0", [&](const at::Tensor& out) { return out * 2; });  // runs on the result of the first
  const auto out = stack->forward(x);
  const auto wanted = stack[2]->forward(stack[1]->forward((direction * 2).expand({2, 4})));
  EXPECT_TENSOR_NEAR(out, wanted, 1e-6);
  out.sum().backward();
  EXPECT_GT(direction.grad().abs().sum().item<float>(), 0.0F);
  EXPECT_FALSE(at::equal(stack[0]->fc1->weight.grad(), at::ones_like(stack[0]->fc1->weight)));
  hooks.clear();
  EXPECT_FALSE(hooks_active());
}

TEST(ForwardHooks, BelongToOneObjectNotToItsClone) {
  Mlp mlp(MlpOptions{.dim = 4});
  ForwardHooks hooks(*mlp);
  int calls = 0;
  hooks.observe("", [&](const at::Tensor&) { ++calls; });
  const auto copy = std::dynamic_pointer_cast<MlpImpl>(mlp->clone());
  copy->forward(at::randn({1, 4}));
  EXPECT_EQ(calls, 0);
  mlp->forward(at::randn({1, 4}));
  EXPECT_EQ(calls, 1);
}

TEST(ForwardHooks, TwoObjectsMayHookOneModuleAndThreadsMayRunIt) {
  Mlp mlp(MlpOptions{.dim = 4});
  std::atomic<int> first = 0, second = 0;
  ForwardHooks a(*mlp);
  a.observe("", [&](const at::Tensor&) { ++first; });
  {
    ForwardHooks b(*mlp);
    b.observe("", [&](const at::Tensor&) { ++second; });
    const auto run = [&] {
      for (int i = 0; i < 20; ++i) mlp->forward(at::randn({1, 4}));
    };
    std::thread one(run), two(run);
    one.join();
    two.join();
  }
  mlp->forward(at::randn({1, 4}));
  EXPECT_EQ(first.load(), 41);
  EXPECT_EQ(second.load(), 40);
}

TEST(ForwardHooks, SayWhatIsWrong) {
  auto stack = three_mlps();
  ForwardHooks hooks(*stack);
  EXPECT_ERROR(hooks.observe("0.fc3", [](const at::Tensor&) {}),
               "ForwardHooks: name must be that of a submodule, got '0.fc3'; did you mean 0.fc1?");
  EXPECT_ERROR(hooks.observe("", [](const at::Tensor&) {}),
               "ForwardHooks: name must be that of a winnow::Hookable module, got ''");
  EXPECT_ERROR(hooks.observe("0", nullptr), "ForwardHooks: observer must be callable");
  EXPECT_ERROR(hooks.replace("0", nullptr), "ForwardHooks: replacer must be callable");
  EXPECT_FALSE(hooks_active());
}

}  // namespace
}  // namespace winnow
