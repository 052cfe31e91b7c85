#include "winnow/nn/relative_position.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

// The rule in words: exact small distances, then logarithmic, by plain arithmetic.
int64_t bucket_by_rule(int64_t distance, const RelativeBiasOptions& o) {
  int64_t buckets = o.buckets, first = 0;
  int64_t reach = std::max<int64_t>(-distance, 0);
  if (o.two_sided) {
    buckets /= 2;
    first = distance > 0 ? buckets : 0;
    reach = std::abs(distance);
  }
  const int64_t exact = buckets / 2;
  if (reach < exact) return first + reach;
  const double share = std::log(static_cast<double>(reach) / static_cast<double>(exact)) /
                       std::log(static_cast<double>(o.max_distance) / static_cast<double>(exact));
  // A hair is added because exact powers sit on the edge of a bucket.
  const auto step = static_cast<int64_t>(share * static_cast<double>(buckets - exact) + 1e-6);
  return first + std::min(exact + step, buckets - 1);
}

TEST(RelativeBias, BucketsAreExactNearbyAndLogarithmicFarAway) {
  for (const bool two_sided : {true, false}) {
    const RelativeBiasOptions options{.heads = 1, .buckets = 32, .max_distance = 128, .two_sided = two_sided};
    const auto distance = at::arange(-300, 301, at::kLong);
    const auto got = relative_position_bucket(distance, options);
    int differing = 0;
    for (int64_t i = 0; i < distance.size(0); ++i) {
      differing += got[i].item<int64_t>() != bucket_by_rule(distance[i].item<int64_t>(), options);
    }
    EXPECT_EQ(differing, 0);
  }
}

TEST(RelativeBias, HandWorkedBuckets) {
  const RelativeBiasOptions two{.heads = 1, .buckets = 32, .max_distance = 128, .two_sided = true};
  EXPECT_TENSOR_EQ(relative_position_bucket(at::tensor({0, -1, 1, -7, -8, 8, 500, -500}, at::kLong), two),
                   at::tensor({0, 1, 17, 7, 8, 24, 31, 15}, at::kLong));
  const RelativeBiasOptions one{.heads = 1, .buckets = 32, .max_distance = 128, .two_sided = false};
  EXPECT_TENSOR_EQ(relative_position_bucket(at::tensor({3, 0, -1, -15, -16, -500}, at::kLong), one),
                   at::tensor({0, 0, 1, 15, 16, 31}, at::kLong));
}

TEST(RelativeBias, EachPairReadsTheRowOfItsBucketAndACacheShiftsTheQueries) {
  const RelativeBiasOptions options{.heads = 3, .buckets = 8, .max_distance = 16, .two_sided = false};
  RelativeBias bias(options);
  const auto whole = bias->forward(6, 6);
  ASSERT_EQ(whole.sizes(), (std::vector<int64_t>{1, 3, 6, 6}));
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t j = 0; j < 6; ++j) {
      const auto row = relative_position_bucket(at::tensor({j - i}, at::kLong), options)[0].item<int64_t>();
      EXPECT_TENSOR_EQ(whole[0].select(1, i).select(1, j), bias->weight[row]);
    }
  }
  EXPECT_TENSOR_EQ(bias->forward(2, 6, 4), whole.slice(2, 4));
}

TEST(RelativeBias, CloneAndErrors) {
  RelativeBias bias(RelativeBiasOptions{.heads = 2});
  const auto copy = std::dynamic_pointer_cast<RelativeBiasImpl>(bias->clone());
  EXPECT_TENSOR_EQ(copy->forward(3, 4), bias->forward(3, 4));
  EXPECT_ERROR(RelativeBias(RelativeBiasOptions{.heads = 1, .buckets = 7}),
               "RelativeBias: buckets must be even and >= 4 when two-sided, got 7");
  EXPECT_ERROR(RelativeBias(RelativeBiasOptions{.heads = 1, .buckets = 32, .max_distance = 8}),
               "RelativeBias: max_distance must be above 8, got 8");
  EXPECT_ERROR(RelativeBias(RelativeBiasOptions{.heads = 0}), "RelativeBias: heads must be >= 1, got 0");
  EXPECT_ERROR(bias->forward(1, -1), "RelativeBias: queries, keys and offset must be >= 0, got 1, -1 and 0");
  EXPECT_ERROR(relative_position_bucket(at::zeros({2}), {}), "relative_position_bucket: distance must");
}

TEST(GridBias, PairsWithTheSameShiftShareARowAndAllRowsAreUsed) {
  GridBias bias(GridBiasOptions{.heads = 2, .rows = 2, .columns = 3});
  {
    const at::NoGradGuard no_grad;
    bias->weight.copy_(at::arange(bias->weight.numel(), at::kFloat).view_as(bias->weight));
  }
  const auto got = bias->forward();  // [1, 2, 6, 6]
  std::map<std::pair<int64_t, int64_t>, float> by_shift;
  for (int64_t a = 0; a < 6; ++a) {
    for (int64_t b = 0; b < 6; ++b) {
      const std::pair<int64_t, int64_t> shift{a / 3 - b / 3, a % 3 - b % 3};
      const auto value = got[0][1][a][b].item<float>();
      EXPECT_EQ(by_shift.try_emplace(shift, value).first->second, value);
    }
  }
  std::set<float> distinct;
  for (const auto& [shift, value] : by_shift) distinct.insert(value);
  EXPECT_EQ(distinct.size(), 15U);  // (2 * 2 - 1)(2 * 3 - 1)
  // Row-major in (row shift, column shift), from the most negative: query 0, key 5 is shift (-1, -2).
  EXPECT_EQ(got[0][0][0][5].item<float>(), bias->weight[0][0].item<float>());
  EXPECT_EQ(got[0][0][5][0].item<float>(), bias->weight[14][0].item<float>());
  const auto copy = std::dynamic_pointer_cast<GridBiasImpl>(bias->clone());
  EXPECT_TENSOR_EQ(copy->forward(), got);
  EXPECT_ERROR(GridBias(GridBiasOptions{.heads = 1, .rows = 0, .columns = 1}), "GridBias: rows must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow
