#include "winnow/tensor/count.h"

#include <gtest/gtest.h>
#include <torch/nn/modules.h>
#include <torch/torch.h>

#include <functional>
#include <vector>

namespace winnow {
namespace {

int64_t adds_of(const std::function<void()>& fn) {
  const OpCounter counter;
  fn();
  return counter.counts().multiply_adds;
}

TEST(CountParameters, TellsTrainableFrozenAndBuffers) {
  torch::nn::Sequential model(torch::nn::Linear(3, 4), torch::nn::BatchNorm1d(4));
  EXPECT_EQ(count_parameters(*model).trainable, 3 * 4 + 4 + 4 + 4);
  EXPECT_EQ(count_parameters(*model).buffers, 8);  // running mean and variance; the step count is no float
  model[0]->as<torch::nn::Linear>()->weight.requires_grad_(false);
  const auto count = count_parameters(*model);
  EXPECT_EQ(count.trainable, 12);
  EXPECT_EQ(count.frozen, 12);
  EXPECT_EQ(count.total(), 32);
}

struct Tied : torch::nn::Module {
  Tied() {
    const auto x = torch::ones({5});
    register_parameter("a", x);
    register_parameter("b", x);
  }
};

TEST(CountParameters, ATensorRegisteredTwiceCountsOnce) {
  EXPECT_EQ(count_parameters(Tied()).trainable, 5);
}

TEST(OpCounter, CountsTheMultiplyAddsOfMatrixProducts) {
  const torch::NoGradGuard no_grad;
  const auto a = torch::ones({6, 5}), b = torch::ones({5, 7}), batch = torch::ones({3, 6, 5});
  EXPECT_EQ(adds_of([&] { at::mm(a, b); }), 6 * 5 * 7);
  EXPECT_EQ(adds_of([&] { at::addmm(torch::ones({7}), a, b); }), 6 * 5 * 7);
  EXPECT_EQ(adds_of([&] { at::bmm(batch, batch.transpose(1, 2)); }), 3 * 6 * 5 * 6);
  EXPECT_EQ(adds_of([&] { at::baddbmm(torch::ones({3, 6, 6}), batch, batch.transpose(1, 2)); }), 3 * 6 * 5 * 6);
  EXPECT_EQ(adds_of([&] { at::mv(a, torch::ones({5})); }), 6 * 5);
  EXPECT_EQ(adds_of([&] { at::linear(batch, b.t().contiguous(), torch::ones({7})); }), 3 * 6 * 5 * 7);
  EXPECT_EQ(adds_of([&] { at::linear(batch, b.t().contiguous()); }), 3 * 6 * 5 * 7);
  EXPECT_EQ(adds_of([&] { at::matmul(batch, b); }), 3 * 6 * 5 * 7);
  EXPECT_EQ(adds_of([&] { at::add(a, a); }), 0);
}

TEST(OpCounter, CountsConvolutionsForwardAndBackward) {
  const auto x = torch::ones({2, 4, 9, 11}, torch::requires_grad());
  const auto weight = torch::ones({6, 2, 3, 5}, torch::requires_grad());  // two groups
  const auto run = [&] {
    return at::conv2d(x, weight, {}, {2, 1}, {1, 2}, {1, 2}, 2);  // 5 x 7 places
  };
  const int64_t forward = 2 * 6 * 5 * 7 * (2 * 3 * 5);
  ASSERT_EQ(run().sizes(), at::IntArrayRef({2, 6, 5, 7}));
  EXPECT_EQ(adds_of([&] { run(); }), forward);
  EXPECT_EQ(adds_of([&] { run().sum().backward(); }), 3 * forward);
}

TEST(OpCounter, CountsAttentionByItsTwoProductsAndFiveBackward) {
  const auto q = torch::randn({2, 3, 10, 8}, torch::requires_grad()), k = torch::randn({2, 3, 12, 8});
  const int64_t one = 2 * 3 * 10 * 12 * 8;
  EXPECT_EQ(adds_of([&] { at::scaled_dot_product_attention(q, k, k); }), 2 * one);
  EXPECT_EQ(adds_of([&] { at::scaled_dot_product_attention(q, k, k).sum().backward(); }), 7 * one);
}

TEST(OpCounter, ATransformerBlockFollowsTheFormula) {
  // Per block 12 N D^2 + 2 N^2 D multiply-adds: the three linear parts and the attention of one image.
  constexpr int64_t kN = 50, kD = 64;
  const torch::NoGradGuard no_grad;
  const auto x = torch::randn({1, kN, kD});
  const auto qkv = torch::randn({3 * kD, kD}), proj = torch::randn({kD, kD});
  const auto fc1 = torch::randn({4 * kD, kD}), fc2 = torch::randn({kD, 4 * kD});
  const auto adds = adds_of([&] {
    const auto parts = at::linear(x, qkv).view({1, kN, 3, 4, kD / 4}).permute({2, 0, 3, 1, 4});
    const auto z = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]).transpose(1, 2).reshape({1, kN, kD});
    at::linear(at::gelu(at::linear(at::linear(z, proj), fc1)), fc2);
  });
  EXPECT_EQ(adds, 12 * kN * kD * kD + 2 * kN * kN * kD);
}

TEST(OpCounter, CountsDispatchesByNameOnlyWhileItLives) {
  const auto a = torch::ones({2});
  const OpCounter outer;
  {
    const OpCounter inner;
    at::add(a, a);
    at::add(a, a);
    at::mul(a, a);
    const auto counts = inner.counts();
    EXPECT_EQ(counts.by_name.at("aten::add"), 2);
    EXPECT_EQ(counts.by_name.at("aten::mul"), 1);
    EXPECT_EQ(counts.dispatches, 3);
  }
  at::add(a, a);
  EXPECT_EQ(outer.counts().by_name.at("aten::add"), 3);
}

TEST(PeakMemory, GrowsWithWhatIsTouched) {
  const auto before = peak_memory_bytes();
  ASSERT_GT(before, 0);
  const std::vector<char> block(size_t{256} << 20, 1);
  EXPECT_GE(peak_memory_bytes(), before);
  EXPECT_GE(peak_memory_bytes(), int64_t{256} << 20);
  EXPECT_EQ(block.back(), 1);
}

}  // namespace
}  // namespace winnow
