#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/targets.h"
#include "support/awkward_sizes.h"
#include "winnow/kernels/layer_norm.h"

namespace winnow::kernels {
namespace {

template <typename T>
void check_layer_norm(int64_t width, bool with_grad_sum, double tolerance) {
  constexpr int64_t kRows = kLayerNormBlock + 2;
  const auto x = normal_values<T>(kRows * width, 1), delta = normal_values<T>(kRows * width, 2);
  const auto weight = normal_values<T>(width, 3), bias = normal_values<T>(width, 4);
  const auto grad = normal_values<T>(kRows * width, 5), grad_sum = normal_values<T>(kRows * width, 6);
  std::vector<T> sum(x), y(x.size()), mean(static_cast<size_t>(kRows)), rstd(mean), grad_x(x.size());
  std::vector<T> dweight(static_cast<size_t>(2 * width)), dbias(dweight);
  const AddLayerNorm<T> args{x.data(), delta.data(), weight.data(), bias.data(), kRows, width, 1e-6};
  cpu::add_layer_norm(args, sum.data(), y.data(), mean.data(), rstd.data(), 0, kRows);
  const AddLayerNormGrad<T> back{grad.data(), with_grad_sum ? grad_sum.data() : nullptr,
                                 sum.data(),  mean.data(),
                                 rstd.data(), weight.data(),
                                 kRows,       width};
  cpu::add_layer_norm_backward(back, grad_x.data(), dweight.data(), dbias.data(), 0, 2);
  std::vector<double> wanted_weight(static_cast<size_t>(width)), wanted_bias(wanted_weight);
  const auto n = static_cast<double>(width);
  for (int64_t r = 0; r < kRows; ++r) {
    std::vector<double> row(static_cast<size_t>(width)), g(row);
    double m = 0, v = 0, c1 = 0, c2 = 0;
    for (size_t j = 0; j < row.size(); ++j) {
      const auto at = static_cast<size_t>(r * width) + j;
      row[j] = static_cast<double>(x[at] + delta[at]);
      m += row[j] / n;
    }
    for (const double value : row) v += (value - m) * (value - m) / n;
    const double s = 1 / std::sqrt(v + 1e-6);
    for (size_t j = 0; j < row.size(); ++j) {
      row[j] = (row[j] - m) * s;
      const auto upper = static_cast<double>(grad[static_cast<size_t>(r * width) + j]);
      g[j] = upper * static_cast<double>(weight[j]);
      c1 += g[j] / n;
      c2 += g[j] * row[j] / n;
      wanted_weight[j] += upper * row[j];
      wanted_bias[j] += upper;
    }
    for (size_t j = 0; j < row.size(); ++j) {
      const auto at = static_cast<size_t>(r * width) + j;
      ASSERT_NEAR(static_cast<double>(y[at]), row[j] * static_cast<double>(weight[j]) + static_cast<double>(bias[j]),
                  tolerance);
      const double wanted = s * (g[j] - c1 - row[j] * c2) + (with_grad_sum ? static_cast<double>(grad_sum[at]) : 0.0);
      ASSERT_NEAR(static_cast<double>(grad_x[at]), wanted, tolerance * (1 + s));
    }
  }
  for (size_t j = 0; j < wanted_weight.size(); ++j) {
    const auto second = static_cast<size_t>(width) + j;
    ASSERT_NEAR(static_cast<double>(dweight[j] + dweight[second]), wanted_weight[j], 30 * tolerance);
    ASSERT_NEAR(static_cast<double>(dbias[j] + dbias[second]), wanted_bias[j], 30 * tolerance);
  }
}

TEST(LayerNormKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    for (const auto width : testing::awkward_sizes()) {
      SCOPED_TRACE(width);
      for (const bool with_grad_sum : {false, true}) {
        check_layer_norm<float>(width, with_grad_sum, width == 2 ? 2e-3 : 2e-5);  // two values: 1/deviation can be 1000
        check_layer_norm<double>(width, with_grad_sum, 1e-11);
      }
    }
  });
}

TEST(LayerNormKernel, ARowFarFromZeroKeepsItsVariance) {
  on_every_target([] {
    std::vector<float> x(64), ones(64, 1.0F), zeros(64, 0.0F), sum(64), y(64);
    for (size_t j = 0; j < 64; ++j) x[j] = 4096.0F + (j % 2 == 0 ? 1.0F : -1.0F);
    float mean = 0, rstd = 0;
    const AddLayerNorm<float> args{x.data(), zeros.data(), ones.data(), zeros.data(), 1, 64, 0.0};
    cpu::add_layer_norm(args, sum.data(), y.data(), &mean, &rstd, 0, 1);
    EXPECT_EQ(mean, 4096.0F);
    EXPECT_FLOAT_EQ(y[0], 1.0F);
    EXPECT_FLOAT_EQ(y[1], -1.0F);
  });
}

}  // namespace
}  // namespace winnow::kernels
