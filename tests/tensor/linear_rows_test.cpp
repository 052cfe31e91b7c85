#include "winnow/tensor/linear_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

TEST(LinearRows, IsTheLinearLayerInEveryStorageAndShape) {
  for (const auto dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const auto weight = at::randn({37, 70}, make_generator(1)).to(dtype), bias = at::randn({37}, make_generator(2));
    for (const auto& sizes : std::vector<std::vector<int64_t>>{{70}, {1, 70}, {2, 3, 70}, {64, 70}}) {
      const auto x = at::randn(sizes, make_generator(3));
      for (const auto& b : {bias, at::Tensor()}) {
        ASSERT_TRUE(fits_linear_rows(x, weight, b));
        const auto y = linear_rows(x, weight, b);
        EXPECT_TENSOR_NEAR(
            y,
            at::linear(x.to(at::kDouble), weight.to(at::kDouble), b.defined() ? b.to(at::kDouble) : at::Tensor())
                .to(at::kFloat),
            2e-5);
      }
    }
  }
}

TEST(LinearRows, ARowDoesNotDependOnItsNeighbours) {
  const auto weight = at::randn({100, 130}, make_generator(1)), x = at::randn({64, 130}, make_generator(2));
  const auto all = linear_rows(x, weight);
  for (int64_t row = 0; row < 64; row += 9) EXPECT_TENSOR_EQ(linear_rows(x[row], weight), all[row]);
  EXPECT_TENSOR_EQ(linear_rows(x.t().contiguous().t(), weight), all);
}

TEST(LinearRows, SaysWhatDoesNotFit) {
  const auto x = at::ones({2, 8}), weight = at::ones({3, 8});
  EXPECT_FALSE(fits_linear_rows(at::ones({65, 8}), weight, {}));
  EXPECT_FALSE(fits_linear_rows(at::ones({0, 8}), weight, {}));
  EXPECT_FALSE(fits_linear_rows(x.to(at::kDouble), weight, {}));
  EXPECT_FALSE(fits_linear_rows(x, weight.to(at::kDouble), {}));
  EXPECT_FALSE(fits_linear_rows(x, at::ones({8, 3}).t(), {}));
  EXPECT_EQ(linear_rows(at::ones({0, 8}), weight).sizes(), at::IntArrayRef({0, 3}));
  EXPECT_ERROR(linear_rows(at::ones({65, 8}), weight), "linear_rows: x must have at most 64 rows, got 65");
  EXPECT_ERROR(linear_rows(x, at::ones({3, 7})), "linear_rows: x must have shape [..., 7], got [2, 8]");
  EXPECT_ERROR(linear_rows(x, weight.to(at::kDouble)),
               "linear_rows: weight must be float32, float16 or bfloat16, got float64");
  EXPECT_ERROR(linear_rows(x, weight, at::ones({4})), "linear_rows: bias must");
  EXPECT_ERROR_KIND(linear_rows(x, weight.clone().requires_grad_()), ErrorKind::unsupported,
                    "linear_rows: nothing may require a gradient (it has none)");
  const at::NoGradGuard no_grad;
  EXPECT_TENSOR_EQ(linear_rows(x, weight.clone().requires_grad_()), at::full({2, 3}, 8.0F));
}

}  // namespace
}  // namespace winnow
