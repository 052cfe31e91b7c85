#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/awkward_sizes.h"
#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/gradcheck.h"
#include "winnow/tensor/norm.h"

namespace winnow {
namespace {

using testing::case_name;
using testing::DeviceTest;

class Fused : public DeviceTest {
 protected:
  // Inputs of the half types are rounded, so that the reference is computed from what the function really gets.
  at::Tensor wide(const at::Tensor& x) const { return x.detach().to(at::kDouble); }
};
INSTANTIATE_TEST_SUITE_P(Cpu, Fused, testing::cpu_cases(), case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, Fused, testing::cuda_cases(), case_name);

TEST_P(Fused, AddLayerNormAgreesWithItsDefinition) {
  for (const auto D : {1, 3, 8, 17, 64, 65}) {
    const auto x = randn({D, 5}, 1).t(), delta = randn({5, D}, 4), weight = randn({D}, 2), bias = randn({D}, 3);
    const auto sum = wide(x + delta), mean = sum.mean(-1, true), variance = (sum - mean).square().mean(-1, true);
    const auto wanted = (sum - mean) / (variance + 1e-3).sqrt() * wide(weight) + wide(bias);
    const auto out = add_layer_norm(x, delta, weight, bias, 1e-3);
    EXPECT_TENSOR_NEAR(out.sum, sum, tolerance());
    EXPECT_TENSOR_NEAR(out.normalized, wanted, 8 * tolerance());
  }
}

TEST_P(Fused, AddLayerNormIsTheNormOfTheSumWithItsGradients) {
  auto x = randn({2, 35, 12}, 1).requires_grad_(), delta = randn({2, 35, 12}, 2).requires_grad_();
  auto weight = randn({12}, 3).requires_grad_(), bias = randn({12}, 4).requires_grad_();
  const auto to_sum = randn({2, 35, 12}, 5), to_norm = randn({2, 35, 12}, 6);
  const auto out = add_layer_norm(x, delta, weight, bias, 1e-3);
  ((out.sum * to_sum).sum() + (out.normalized * to_norm).sum()).backward();
  std::vector<at::Tensor> in;
  for (const auto& t : {x, delta, weight, bias}) in.push_back(wide(t).requires_grad_());
  const auto sum = in[0] + in[1];
  const auto normalized = at::layer_norm(sum, {12}, in[2], in[3], 1e-3);
  ((sum * wide(to_sum)).sum() + (normalized * wide(to_norm)).sum()).backward();
  EXPECT_TENSOR_NEAR(out.sum, sum, 2 * tolerance());
  EXPECT_TENSOR_NEAR(out.normalized, normalized, 4 * tolerance());
  EXPECT_TENSOR_NEAR(x.grad(), in[0].grad(), 8 * tolerance());
  EXPECT_TENSOR_NEAR(delta.grad(), in[1].grad(), 8 * tolerance());
  EXPECT_TENSOR_NEAR(weight.grad(), in[2].grad(), 40 * tolerance());
  EXPECT_TENSOR_NEAR(bias.grad(), in[3].grad(), 40 * tolerance());
}

TEST_P(Fused, NanStaysInItsRow) {
  auto x = randn({3, 8}, 1);
  x[1][2] = std::numeric_limits<double>::quiet_NaN();
  const auto ones = at::ones({8}, options()), zeros = at::zeros({8}, options());
  const auto normalized = add_layer_norm(x, at::zeros_like(x), ones, zeros).normalized.isnan();
  EXPECT_TRUE(normalized[1].all().item<bool>());
  EXPECT_EQ(normalized.sum().item<int64_t>(), 8);
}

TEST_P(Fused, EmptyBatchesGiveZeroParameterGradients) {
  auto weight = at::ones({4}, options()).requires_grad_(), bias = at::ones({4}, options()).requires_grad_();
  const auto x = randn({0, 4});
  const auto out = add_layer_norm(x, x, weight, bias);
  (out.normalized.sum() + out.sum.sum()).backward();
  EXPECT_TENSOR_NEAR(weight.grad(), at::zeros({4}), 0);
  EXPECT_TENSOR_NEAR(bias.grad(), at::zeros({4}), 0);
}

TEST(FusedGradients, AgreeWithDifferences) {
  auto generator = make_generator(5);
  const auto make = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::kDouble).requires_grad_(); };
  const auto add = gradcheck(
      [](const auto& in) {
        const auto out = add_layer_norm(in[0], in[1], in[2], in[3], 1e-2);
        return std::vector{out.sum, out.normalized};
      },
      {make({3, 5}), make({3, 5}), make({5}), make({5})});
  EXPECT_TRUE(add.passed) << add.message;
}

TEST(FusedGradients, FlowThroughEitherResultAlone) {
  const auto x = at::randn({2, 4}).requires_grad_(), delta = at::randn({2, 4}).requires_grad_();
  const auto weight = at::ones({4}).requires_grad_(), bias = at::zeros({4});
  const auto sum_only = torch::autograd::grad({add_layer_norm(x, delta, weight, bias).sum.sum()}, {x, delta});
  EXPECT_TENSOR_EQ(sum_only[0], at::ones({2, 4}));
  EXPECT_TENSOR_EQ(sum_only[1], at::ones({2, 4}));
  // The norm of a row has the same sum whatever the row: no gradient.
  const auto norm_only = torch::autograd::grad({add_layer_norm(x, delta, weight, bias).normalized.sum()}, {x, delta});
  EXPECT_TENSOR_NEAR(norm_only[0], at::zeros({2, 4}), 1e-5);
  EXPECT_TENSOR_EQ(norm_only[0], norm_only[1]);
}

TEST(FusedGradients, DoNotDependOnTheThreadsAndRefuseDoubleBackward) {
  const auto x = at::randn({300, 24}, make_generator(1)).requires_grad_();
  const auto weight = at::randn({24}, make_generator(2)).requires_grad_(), bias = at::randn({24}).requires_grad_();
  const auto gradients = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto y = add_layer_norm(x, x, weight, bias).normalized.square().sum();
    const auto grads = torch::autograd::grad({y}, {x, weight, bias});
    at::set_num_threads(before);
    return grads;
  };
  const auto one = gradients(1), two = gradients(2);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TENSOR_EQ(one[i], two[i]);
  const auto twice = [&](const at::Tensor& y) {
    torch::autograd::grad({y.square().sum()}, {x}, {}, std::nullopt, /*create_graph=*/true);
  };
  EXPECT_ERROR(twice(add_layer_norm(x, x, weight, bias).normalized),
               "add_layer_norm: double backward is not supported");
}

TEST(FusedErrors, NameTheArgumentTheWantedAndTheFound) {
  const auto x = at::zeros({2, 4}), four = at::zeros({4}), five = at::zeros({5});
  EXPECT_ERROR(add_layer_norm({}, x, four, four), "add_layer_norm: x must be a tensor, got none");
  EXPECT_ERROR(add_layer_norm(x, x, five, four), "add_layer_norm: weight must have shape [4], got [5]");
  EXPECT_ERROR(add_layer_norm(x, x, four, five), "add_layer_norm: bias must have shape [4], got [5]");
  EXPECT_ERROR(add_layer_norm(x, x, four, four, -1), "add_layer_norm: eps must be >= 0, got -1");
  EXPECT_ERROR(add_layer_norm(at::zeros({2, 0}), at::zeros({2, 0}), at::zeros({0}), at::zeros({0})),
               "add_layer_norm: x must have a last dimension >= 1, got shape [2, 0]");
  EXPECT_ERROR(add_layer_norm(x, {}, four, four), "add_layer_norm: delta must be a tensor, got none");
  EXPECT_ERROR(add_layer_norm(x, at::zeros({1, 4}), four, four),
               "add_layer_norm: delta must have shape [2, 4], got [1, 4]");
}

}  // namespace
}  // namespace winnow
