#include "winnow/attention/capture.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

TEST(AttentionCapture, ColumnSumsDoNotDependOnTheChunk) {
  const auto q = at::randn({2, 4, 11, 3}), k = at::randn({2, 2, 9, 3});
  const auto allowed = at::rand({2, 1, 11, 9}) < 0.6;
  const auto bias = at::randn({1, 4, 11, 9});
  const auto wanted = attention_pattern(q, k, allowed, bias, 0.5).sum(2);
  for (const int64_t chunk : {1, 4, 11, 100}) {
    EXPECT_TENSOR_NEAR(attention_column_sums(q, k, allowed, bias, 0.5, chunk), wanted, 1e-5);
  }
  EXPECT_ERROR(attention_column_sums(q, k, allowed, bias, 0.5, 0), "attention_column_sums: chunk must be >= 1, got 0");
  EXPECT_ERROR(attention_pattern(q, at::randn({2, 3, 9, 3}), {}, {}, 0.5),
               "attention_pattern: k must have shape [2, divisor of 4, *, 3], got [2, 3, 9, 3]");
}

TEST(AttentionCapture, AFullyMaskedRowHasZeroProbabilitiesAndFiniteGradients) {
  auto q = at::randn({1, 1, 3, 2}).requires_grad_();
  auto allowed = at::ones({3, 4}, at::kBool);
  allowed[1].fill_(false);
  const auto pattern = attention_pattern(q, at::randn({1, 1, 4, 2}), allowed, {}, 1.0);
  EXPECT_TENSOR_EQ(pattern[0][0][1], at::zeros({4}));
  pattern.square().sum().backward();
  EXPECT_TRUE(at::isfinite(q.grad()).all().item<bool>());
}

}  // namespace
}  // namespace winnow
