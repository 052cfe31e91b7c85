#include "winnow/nn/linear.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/init.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

// W = left right, kept as its two factors.
struct FactoredStorage : LinearStorage {
  FactoredStorage(at::Tensor left_factor, at::Tensor right_factor) {
    left = register_parameter("left", std::move(left_factor));
    right = register_parameter("right", std::move(right_factor));
  }
  int64_t in() const override { return right.size(1); }
  int64_t out() const override { return left.size(0); }
  int64_t bytes() const override { return static_cast<int64_t>(left.nbytes() + right.nbytes()); }
  bool trainable() const override { return true; }
  at::Tensor matmul(const at::Tensor& x) override {
    EXPECT_EQ(x.dim(), 2);
    return at::matmul(at::matmul(x, right.t()), left.t());
  }
  at::Tensor dense() const override { return at::matmul(left.detach(), right.detach()).to(at::kFloat); }
  std::vector<std::pair<std::string, at::Tensor>> tensors() const override {
    return {{"left", left.detach()}, {"right", right.detach()}};
  }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>&) const override {
    return std::make_shared<FactoredStorage>(left.detach().clone(), right.detach().clone());
  }
  at::Tensor left, right;
};

Linear clone_of(const Linear& module) {
  return Linear(std::dynamic_pointer_cast<LinearImpl>(module->clone()));
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  auto y = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
  return bias.defined() ? y + bias.to(at::kDouble) : y;
}

TEST(Linear, IsAProductWithTheTransposedWeightForEveryLeadingShape) {
  for (const bool bias : {true, false}) {
    Linear linear(7, 5, bias);
    EXPECT_EQ(linear->bias.defined(), bias);
    for (const auto& shape : std::vector<std::vector<int64_t>>{{7}, {3, 7}, {2, 4, 7}, {0, 7}, {2, 0, 7}, {70, 7}}) {
      for (const bool grad : {true, false}) {
        const at::AutoGradMode mode(grad);
        const auto x = at::randn(shape);
        const auto y = linear->forward(x);
        EXPECT_TENSOR_NEAR(y.to(at::kDouble), product(x, linear->weight, linear->bias), 1e-5);
        EXPECT_EQ(y.scalar_type(), at::kFloat);
      }
    }
  }
}

TEST(Linear, DrawsItsParametersWithinOneOverTheRootOfItsInputs) {
  Linear linear(16, 4000);
  EXPECT_LE(linear->weight.abs().max().item<double>(), 0.25);
  EXPECT_NEAR(linear->weight.std().item<double>(), 0.25 / std::sqrt(3.0), 0.002);
  EXPECT_GT(linear->bias.abs().max().item<double>(), 0.2);
  EXPECT_EQ(linear->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
}

TEST(Linear, AHalfPrecisionWeightMultipliesWiderInputsWithoutRoundingThem) {
  for (const auto stored : {at::kHalf, at::kBFloat16}) {
    for (const auto computed : {at::kFloat, at::kDouble}) {
      Linear linear(33, 6);
      linear->to(stored);
      EXPECT_EQ(linear->weight.scalar_type(), stored);
      for (const int64_t rows : {1, 5, 80}) {
        const auto x = at::randn({rows, 33}, computed);
        const auto wanted = product(x, linear->weight, linear->bias);
        const at::NoGradGuard no_grad;
        const auto y = linear->forward(x);
        EXPECT_EQ(y.scalar_type(), computed);
        EXPECT_TENSOR_NEAR(y.to(at::kDouble), wanted, computed == at::kFloat ? 1e-5 : 1e-12);
      }
    }
  }
}

TEST(Linear, AHalfPrecisionWeightGetsItsGradient) {
  Linear linear(4, 3);
  linear->to(at::kBFloat16);
  const auto x = at::randn({5, 4});
  linear->forward(x).sum().backward();
  EXPECT_EQ(linear->weight.grad().scalar_type(), at::kBFloat16);
  EXPECT_TENSOR_CLOSE(linear->weight.grad().to(at::kFloat), x.sum(0).expand({3, 4}), 1e-2, 1e-2);
}

TEST(Linear, ARowDoesNotDependOnItsNeighboursOnFewRows) {
  const at::NoGradGuard no_grad;
  Linear linear(131, 67);
  const auto x = at::randn({64, 131});
  const auto all = linear->forward(x);
  for (const int64_t rows : {1, 2, 3, 7, 16, 33}) {
    EXPECT_TENSOR_EQ(linear->forward(x.slice(0, 11, 11 + rows)), all.slice(0, 11, 11 + rows));
  }
  // A transposed input has strides that no kernel takes as they are.
  EXPECT_TENSOR_EQ(linear->forward(x.t().contiguous().t()), all);
}

TEST(Linear, TheGradientIsThatOfLibTorch) {
  Linear linear(6, 4);
  torch::nn::Linear other(6, 4);
  {
    const at::NoGradGuard no_grad;
    other->weight.copy_(linear->weight);
    other->bias.copy_(linear->bias);
  }
  const auto x = at::randn({3, 6}).requires_grad_(), cotangent = at::randn({3, 4});
  const auto ours = torch::autograd::grad({linear->forward(x)}, {x, linear->weight, linear->bias}, {cotangent});
  const auto theirs = torch::autograd::grad({other->forward(x)}, {x, other->weight, other->bias}, {cotangent});
  for (size_t i = 0; i < 3; ++i) EXPECT_TENSOR_EQ(ours[i], theirs[i]);
}

TEST(Linear, AnotherBiasTakesThePlaceOfItsOwn) {
  Linear linear(3, 2);
  const auto x = at::randn({4, 3}), bias = at::randn({2});
  EXPECT_TENSOR_NEAR(linear->forward_with_bias(x, bias).to(at::kDouble), product(x, linear->weight, bias), 1e-6);
  EXPECT_TENSOR_NEAR(linear->forward_with_bias(x, {}).to(at::kDouble), product(x, linear->weight, {}), 1e-6);
}

TEST(Linear, AStorageStandsInForTheWeight) {
  Linear linear(6, 4);
  const auto left = at::randn({4, 2}), right = at::randn({2, 6});
  linear->set_storage(std::make_shared<FactoredStorage>(left, right));
  EXPECT_FALSE(linear->weight.defined());
  EXPECT_EQ(linear->named_parameters().keys(), (std::vector<std::string>{"bias", "storage.left", "storage.right"}));
  EXPECT_EQ(linear->weight_bytes(), (8 + 12) * 4);
  EXPECT_TENSOR_NEAR(linear->dense_weight(), at::matmul(left, right), 1e-6);
  const auto x = at::randn({2, 3, 6});
  const auto y = linear->forward(x);
  EXPECT_TENSOR_NEAR(y.to(at::kDouble), product(x, at::matmul(left, right), linear->bias), 1e-5);
  y.sum().backward();
  EXPECT_TRUE(linear->storage->parameters()[0].grad().defined());
  std::vector<float> rows(8);
  linear->storage->rows(x.data_ptr<float>(), 2, rows.data());
  EXPECT_TENSOR_NEAR(at::from_blob(rows.data(), {2, 4}, at::kFloat).to(at::kDouble),
                     product(x[0].slice(0, 0, 2), at::matmul(left, right), {}), 1e-5);

  linear->set_weight(linear->dense_weight());
  EXPECT_EQ(linear->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_TRUE(linear->weight.requires_grad());
  EXPECT_FALSE(linear->storage);
  EXPECT_TENSOR_NEAR(linear->forward(x), y, 1e-6);
}

TEST(Linear, ACloneIsDeepWithAndWithoutAStorage) {
  for (const bool stored : {false, true}) {
    Linear linear(6, 4);
    if (stored) linear->set_storage(std::make_shared<FactoredStorage>(at::randn({4, 2}), at::randn({2, 6})));
    auto copy = clone_of(linear);
    EXPECT_EQ(copy->named_parameters().keys(), linear->named_parameters().keys());
    const auto x = at::randn({2, 6});
    const auto before = linear->forward(x);
    EXPECT_TENSOR_EQ(copy->forward(x), before);
    {
      const at::NoGradGuard no_grad;
      for (auto& p : linear->parameters()) p.zero_();
    }
    EXPECT_TENSOR_EQ(copy->forward(x), before);
  }
}

TEST(Linear, InitialisersLeaveAStorageAloneAndZeroTheBias) {
  Linear linear(6, 4);
  linear->set_storage(std::make_shared<FactoredStorage>(at::ones({4, 2}), at::ones({2, 6})));
  init_mae_weights(*linear, make_generator(1));
  EXPECT_TENSOR_EQ(linear->dense_weight(), at::full({4, 6}, 2.0F));
  EXPECT_TENSOR_EQ(linear->bias.detach(), at::zeros({4}));
}

TEST(Linear, ErrorsNameWhatDoesNotFit) {
  Linear linear(6, 4);
  EXPECT_ERROR(linear->forward(at::ones({2, 5})), "Linear: x must have 6 as its last size, got shape [2, 5]");
  EXPECT_ERROR(linear->set_storage(nullptr), "Linear: storage must not be null");
  EXPECT_ERROR(linear->set_storage(std::make_shared<FactoredStorage>(at::ones({4, 2}), at::ones({2, 5}))),
               "Linear: storage must be of shape [4, 6], got [4, 5]");
  EXPECT_ERROR(linear->set_weight(at::ones({6, 4})), "Linear: weight must have shape [4, 6], got [6, 4]");
  EXPECT_ERROR(Linear(-1, 4), "Linear: in and out must be >= 0, got -1 and 4");
}

}  // namespace
}  // namespace winnow
