#include "winnow/tensor/blocked_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

// The definition, in the dtype of q.
at::Tensor by_formula(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal, double scale) {
  const auto group = q.size(1) / k.size(1), L = q.size(2);
  auto scores = at::matmul(q, k.repeat_interleave(group, 1).transpose(2, 3)) * scale;
  if (causal) {
    scores = scores.masked_fill(at::ones({L, L}, at::kBool).triu(1), -std::numeric_limits<double>::infinity());
  }
  return at::matmul(at::softmax(scores, -1), v.repeat_interleave(group, 1));
}

struct Case {
  int64_t batch, heads, kv_heads, length, width;
};

const std::vector<Case> kCases = {{1, 1, 1, 1, 1},   {2, 3, 3, 5, 7},    {1, 4, 2, 33, 8},  {2, 2, 1, 64, 32},
                                  {1, 2, 2, 70, 64}, {1, 3, 1, 129, 40}, {2, 8, 8, 31, 16}, {1, 1, 1, 200, 128}};

TEST(BlockedAttention, FollowsTheDefinitionForwardAndBackward) {
  for (const auto& c : kCases) {
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {} {} {} {} {}", c.batch, c.heads, c.kv_heads, c.length, c.width, causal));
      const double scale = 1.3 / std::sqrt(static_cast<double>(c.width));
      auto generator = make_generator(3);
      // Heads that are cut from one row of projections, as in a network.
      const auto flat = at::randn({c.batch, c.length, (c.heads + 2 * c.kv_heads) * c.width}, generator);
      const auto cut = [&](int64_t first, int64_t heads) {
        return flat.narrow(2, first * c.width, heads * c.width).unflatten(2, {heads, c.width}).transpose(1, 2);
      };
      const auto q = cut(0, c.heads).detach().requires_grad_(), k = cut(c.heads, c.kv_heads).detach().requires_grad_(),
                 v = cut(c.heads + c.kv_heads, c.kv_heads).detach().requires_grad_();
      const auto out = blocked_attention(q, k, v, causal, scale);
      std::vector<at::Tensor> wide;
      for (const auto& x : {q, k, v}) wide.push_back(x.detach().to(at::kDouble).requires_grad_());
      const auto wanted = by_formula(wide[0], wide[1], wide[2], causal, scale);
      EXPECT_TENSOR_NEAR(out.to(at::kDouble), wanted, 3e-6);
      const auto cotangent = at::randn(out.sizes(), generator);
      const auto ours = torch::autograd::grad({out}, {q, k, v}, {cotangent});
      const auto theirs = torch::autograd::grad({wanted}, wide, {cotangent.to(at::kDouble)});
      for (size_t i = 0; i < 3; ++i) EXPECT_TENSOR_NEAR(ours[i].to(at::kDouble), theirs[i], 2e-5) << i;
    }
  }
}

TEST(BlockedAttention, LargeScoresStayFinite) {
  const auto q = at::full({1, 1, 9, 4}, 60.0F), k = at::randn({1, 1, 9, 4}) * 10, v = at::randn({1, 1, 9, 4});
  const auto out = blocked_attention(q, k, v, true, 1.0);
  EXPECT_TRUE(out.isfinite().all().item<bool>());
  EXPECT_TENSOR_NEAR(out, by_formula(q, k, v, true, 1.0), 1e-4);
}

TEST(BlockedAttention, TheFutureHasNoInfluenceAndNoGradient) {
  const auto q = at::randn({1, 2, 40, 8}), k = at::randn({1, 2, 40, 8}).requires_grad_(),
             v = at::randn({1, 2, 40, 8}).requires_grad_();
  const auto out = blocked_attention(q, k, v, true, 0.3);
  auto later = v.detach().clone();
  later.slice(2, 21).fill_(1e3);
  const auto seen = blocked_attention(q, k.detach(), later, true, 0.3);
  EXPECT_TENSOR_EQ(seen.slice(2, 0, 21), out.detach().slice(2, 0, 21));
  EXPECT_GT((seen - out).slice(2, 21).abs().max().item<double>(), 1.0);
  const auto grads = torch::autograd::grad({out.slice(2, 0, 21).sum()}, {k, v});
  for (const auto& g : grads) EXPECT_TENSOR_EQ(g.slice(2, 21), at::zeros({1, 2, 19, 8}));
}

TEST(BlockedAttention, TheResultDoesNotDependOnTheThreads) {
  const auto q = at::randn({3, 4, 50, 16}).requires_grad_();
  const auto run = [&](int threads) {
    const auto before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto out = blocked_attention(q, q, q, true, 0.25);
    const auto grad = torch::autograd::grad({out.square().sum()}, {q})[0];
    at::set_num_threads(before);
    return std::pair(out.detach(), grad);
  };
  const auto one = run(1), two = run(2);
  EXPECT_TENSOR_EQ(one.first, two.first);
  EXPECT_TENSOR_EQ(one.second, two.second);
}

TEST(BlockedAttention, ProductsAreCounted) {
  const auto q = at::randn({1, 2, 10, 4}).requires_grad_();
  OpCounter counter;
  const auto out = blocked_attention(q, q, q, false, 0.5);
  EXPECT_EQ(counter.counts().multiply_adds, 2 * 2 * 10 * 10 * 4);
  out.sum().backward();
  EXPECT_EQ(counter.counts().multiply_adds, 7 * 2 * 10 * 10 * 4);
}

TEST(BlockedAttention, EmptyBatchesAndWhatIsWrong) {
  const auto x = at::randn({0, 2, 10, 4});
  EXPECT_EQ(blocked_attention(x, x, x, true, 0.5).sizes(), x.sizes());
  const auto q = at::randn({1, 3, 10, 4});
  EXPECT_ERROR(blocked_attention(q, at::randn({1, 2, 10, 4}), at::randn({1, 2, 10, 4}), true, 1),
               "blocked_attention: heads of k must divide those of q = 3, got 2");
  EXPECT_ERROR(blocked_attention(q, at::randn({1, 3, 9, 4}), q, true, 1), "blocked_attention: k must have shape");
  EXPECT_ERROR(blocked_attention(q.to(at::kDouble), q, q, true, 1),
               "blocked_attention: q must be float32, got float64");
  EXPECT_TRUE(fits_blocked_attention(q, q, q));
  EXPECT_FALSE(fits_blocked_attention(q.to(at::kDouble), q, q));
  EXPECT_FALSE(fits_blocked_attention(q.transpose(2, 3), q, q));
  EXPECT_FALSE(fits_blocked_attention(q.slice(2, 0, 3), q, q));
}

}  // namespace
}  // namespace winnow
