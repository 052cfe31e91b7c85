#include "winnow/tensor/gradcheck.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>

#include "support/error.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x squared, with a gradient that is wrong by the factor given.
struct WrongSquare : torch::autograd::Function<WrongSquare> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, double factor) {
    ctx->save_for_backward({x});
    ctx->saved_data["factor"] = factor;
    return x * x;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {grads[0] * ctx->get_saved_variables()[0] * 2 * ctx->saved_data["factor"].toDouble(), {}};
  }
};

struct Restless : torch::autograd::Function<Restless> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& x) { return x.clone(); }
  static variable_list backward(AutogradContext*, const variable_list& grads) {
    static double drift = 0;
    return {grads[0] + (drift += 1e-9)};
  }
};

at::Tensor input() {
  return at::tensor({1.5, -2.0, 0.25}).requires_grad_();
}

TEST(Gradcheck, AcceptsARightGradient) {
  const auto result = gradcheck([](const auto& in) { return std::vector{in[0].exp() * in[1]}; },
                                {input(), at::tensor({2.0}).requires_grad_()});
  EXPECT_TRUE(result.passed) << result.message;
  EXPECT_LT(result.worst_error, 1e-8);
}

TEST(Gradcheck, FindsAWrongGradientAndSaysWhere) {
  const auto result =
      gradcheck([](const auto& in) { return std::vector{WrongSquare::apply(in[0], 1.001)}; }, {input()});
  EXPECT_FALSE(result.passed);
  EXPECT_EQ(result.worst_input, 0);
  EXPECT_NEAR(result.analytic / result.numeric, 1.001, 1e-6);
  EXPECT_NE(result.message.find("gradient of inputs[0] at "), std::string::npos) << result.message;
}

TEST(Gradcheck, FindsAMissingGradient) {
  const auto result = gradcheck([](const auto& in) { return std::vector{in[0] * in[0].detach()}; }, {input()});
  EXPECT_FALSE(result.passed);
}

TEST(Gradcheck, FindsGradientsThatDifferBetweenRuns) {
  const auto run = [](const auto& in) { return std::vector<at::Tensor>{Restless::apply(in[0])}; };
  EXPECT_EQ(gradcheck(run, {input()}).message, "gradient number 0 differs between two runs");
  EXPECT_TRUE(gradcheck(run, {input()}, {.deterministic = false}).passed);
}

TEST(Gradcheck, StridedInputsAndOtherArgumentsAreLeftAsTheyAre) {
  const auto x = at::arange(6, at::kDouble).view({2, 3}).t().requires_grad_();
  const auto index = at::tensor({2, 0});
  const auto result = gradcheck(
      [&](const auto& in) {
        EXPECT_EQ(in[0].sizes(), at::IntArrayRef({3, 2}));
        return std::vector{in[0].index_select(0, in[1]).square(), in[1]};
      },
      {x, index});
  EXPECT_TRUE(result.passed) << result.message;
}

TEST(Gradcheck, BadArgumentsAreErrors) {
  const auto same = [](const auto& in) { return std::vector{in[0]}; };
  EXPECT_ERROR(gradcheck(same, {at::zeros({2})}), "gradcheck: inputs must hold one that requires a gradient, got none");
  EXPECT_ERROR(gradcheck(same, {at::zeros({2}).requires_grad_()}), "gradcheck: inputs[0] must be float64, got float32");
  EXPECT_ERROR(gradcheck([](const auto& in) { return std::vector{in[0].detach()}; }, {input()}),
               "gradcheck: fn must give an output with a gradient, got none");
}

}  // namespace
}  // namespace winnow
