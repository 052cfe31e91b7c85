#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/layer_scale.h"
#include "winnow/nn/mlp.h"
#include "winnow/nn/norm.h"

namespace winnow {
namespace {

template <class Holder>
Holder clone_of(const Holder& module) {
  return Holder(std::dynamic_pointer_cast<typename Holder::ContainedType>(module->clone()));
}

void randomize(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (auto& p : module.parameters()) p.normal_();
}

at::Tensor norm_by_loops(const at::Tensor& rows, NormKind kind, double eps) {
  auto out = at::empty_like(rows);
  const auto n = rows.size(1);
  for (int64_t r = 0; r < rows.size(0); ++r) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; ++i) mean += rows[r][i].item<double>() / static_cast<double>(n);
    if (kind == NormKind::rms) mean = 0;
    for (int64_t i = 0; i < n; ++i) square += std::pow(rows[r][i].item<double>() - mean, 2) / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) out[r][i] = (rows[r][i].item<double>() - mean) / std::sqrt(square + eps);
  }
  return out;
}

TEST(Norm, FollowsItsFormulaInFloat32AndFloat64) {
  for (const auto kind : {NormKind::layer, NormKind::rms}) {
    for (const int64_t dim : {1, 2, 7, 16, 33}) {
      for (const double eps : {1e-6, 0.1}) {
        Norm norm(NormOptions{.dim = dim, .kind = kind, .eps = eps});
        randomize(*norm);
        const auto x = at::randn({3, dim}, at::kDouble) + 0.5;
        auto wanted = norm_by_loops(x, kind, eps) * norm->weight.to(at::kDouble);
        if (kind == NormKind::layer) wanted = wanted + norm->bias.to(at::kDouble);
        EXPECT_TENSOR_CLOSE(norm->forward(x.to(at::kFloat)).to(at::kDouble), wanted, 2e-5, 2e-5);
        norm->to(at::kDouble);
        EXPECT_TENSOR_CLOSE(norm->forward(x), wanted, 1e-9, 1e-9);
      }
    }
  }
}

TEST(Norm, ParametersFollowTheOptions) {
  const auto names = [](NormOptions o) { return Norm(o)->named_parameters().keys(); };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({.dim = 4}), (Names{"weight", "bias"}));
  EXPECT_EQ(names({.dim = 4, .bias = false}), (Names{"weight"}));
  EXPECT_EQ(names({.dim = 4, .kind = NormKind::rms}), (Names{"weight"}));
  EXPECT_EQ(names({.dim = 4, .affine = false}), (Names{}));
  const auto x = at::randn({2, 4}, at::kDouble);
  EXPECT_TENSOR_NEAR(Norm(NormOptions{.dim = 4, .affine = false})->forward(x), norm_by_loops(x, NormKind::layer, 1e-6),
                     1e-10);
}

TEST(Norm, OfEachHeadNormalisesEachHeadAlone) {
  Norm norm(NormOptions{.dim = 3, .kind = NormKind::rms});
  randomize(*norm);
  const auto x = at::randn({2, 5, 4, 3});
  EXPECT_TENSOR_NEAR(norm->forward(x)[1][2][3], norm->forward(x[1][2][3]), 1e-6);
}

TEST(Norm, HalfPrecisionIsNormalisedInFloat32AndEmptyAndStridedInputPass) {
  for (const auto kind : {NormKind::layer, NormKind::rms}) {
    Norm norm(NormOptions{.dim = 64, .kind = kind});
    const auto x = at::randn({5, 64}) * 300;  // squares overflow float16
    const auto wanted = norm->forward(x);
    const auto strided = at::empty({64, 5}).t().copy_(x);
    EXPECT_TENSOR_NEAR(norm->forward(strided), wanted, 1e-5);
    EXPECT_EQ(norm->forward(at::empty({0, 64})).sizes(), (std::vector<int64_t>{0, 64}));
    norm->to(at::kHalf);
    EXPECT_TENSOR_NEAR(norm->forward(x.to(at::kHalf)).to(at::kFloat), wanted, 5e-3);
  }
}

TEST(Norm, CloneAndErrors) {
  Norm norm(NormOptions{.dim = 4});
  randomize(*norm);
  const auto x = at::randn({2, 4});
  EXPECT_TENSOR_EQ(clone_of(norm)->forward(x), norm->forward(x));
  EXPECT_ERROR(norm->forward(at::randn({2, 5})), "Norm: x must have 4 as its last size, got shape [2, 5]");
  EXPECT_ERROR(norm->forward(at::randn({})), "Norm: x must have 4 as its last size, got shape []");
  EXPECT_ERROR(Norm(NormOptions{.dim = 0}), "Norm: dim must be >= 1, got 0");
  EXPECT_ERROR(Norm(NormOptions{.dim = 2, .eps = -1.0}), "Norm: eps must be >= 0, got -1");
}

double activation_by_formula(double x, Activation activation) {
  switch (activation) {
    case Activation::gelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_new: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::quick_gelu: return x / (1 + std::exp(-1.702 * x));
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::silu: return x / (1 + std::exp(-x));
  }
  return NAN;
}

TEST(Activation, EveryNameFollowsItsFormula) {
  const auto x = at::linspace(-6, 6, 101, at::kDouble);
  for (const auto& [name, activation] : enum_names(Activation{})) {
    const auto got = activate(x, activation);
    for (int64_t i = 0; i < x.size(0); ++i) {
      EXPECT_NEAR(got[i].item<double>(), activation_by_formula(x[i].item<double>(), activation), 1e-9) << name;
    }
  }
}

TEST(Mlp, IsTwoLinearLayersAroundAnActivation) {
  for (const auto& [name, activation] : enum_names(Activation{})) {
    for (const bool bias : {true, false}) {
      Mlp mlp(MlpOptions{.dim = 5, .hidden = 7, .out = 3, .activation = activation, .bias = bias});
      const auto x = at::randn({2, 4, 5});
      const auto f = [&](Linear& l, const at::Tensor& y) {
        auto z = at::matmul(y, l->weight.to(at::kDouble).t());
        return bias ? z + l->bias.to(at::kDouble) : z;
      };
      const auto wanted = f(mlp->fc2, activate(f(mlp->fc1, x.to(at::kDouble)), activation));
      EXPECT_TENSOR_NEAR(mlp->forward(x).to(at::kDouble), wanted, 1e-5) << name;
    }
  }
}

TEST(Mlp, GatedMultipliesTheActivatedGateWithFc1) {
  Mlp mlp(MlpOptions{.dim = 4, .hidden = 6, .kind = MlpKind::gated, .activation = Activation::silu, .bias = false});
  EXPECT_EQ(mlp->named_parameters().keys(), (std::vector<std::string>{"fc1.weight", "gate.weight", "fc2.weight"}));
  const auto x = at::randn({3, 4});
  const auto gate = at::matmul(x, mlp->gate->weight.t());
  const auto wanted = at::matmul(gate * at::sigmoid(gate) * at::matmul(x, mlp->fc1->weight.t()), mlp->fc2->weight.t());
  EXPECT_TENSOR_NEAR(mlp->forward(x), wanted, 1e-6);
}

TEST(Mlp, GradientsOfTheFusedFloat32PathAreThoseOfFloat64) {
  Mlp mlp(MlpOptions{.dim = 6, .hidden = 11});
  Mlp exact = clone_of(mlp);
  exact->to(at::kDouble);
  const auto x = at::randn({9, 6}), cotangent = at::randn({9, 6});
  (mlp->forward(x) * cotangent).sum().backward();
  (exact->forward(x.to(at::kDouble)) * cotangent.to(at::kDouble)).sum().backward();
  for (const auto& p : exact->named_parameters()) {
    EXPECT_TENSOR_NEAR(mlp->named_parameters()[p.key()].grad().to(at::kDouble), p.value().grad(), 2e-5);
  }
}

TEST(Mlp, DefaultsEmptyInputCloneAndErrors) {
  Mlp mlp(MlpOptions{.dim = 8, .dropout = 0.5});
  EXPECT_EQ(mlp->fc1->weight.sizes(), (std::vector<int64_t>{32, 8}));
  EXPECT_EQ(mlp->fc2->weight.sizes(), (std::vector<int64_t>{8, 32}));
  mlp->eval();
  const auto x = at::randn({2, 8});
  EXPECT_TENSOR_EQ(clone_of(mlp)->forward(x), mlp->forward(x));
  mlp->train();
  EXPECT_FALSE(at::equal(mlp->forward(x), mlp->forward(x)));
  EXPECT_EQ(mlp->forward(at::empty({0, 3, 8})).sizes(), (std::vector<int64_t>{0, 3, 8}));
  EXPECT_ERROR(mlp->forward(at::randn({2, 7})), "Mlp: x must have 8 as its last size, got shape [2, 7]");
  EXPECT_ERROR(Mlp(MlpOptions{}), "Mlp: dim must be >= 1, got 0");
  EXPECT_ERROR(Mlp(MlpOptions{.dim = 2, .hidden = -1}), "Mlp: hidden must be >= 0, got -1");
  EXPECT_ERROR(Mlp(MlpOptions{.dim = 2, .dropout = 1.0}), "Mlp: dropout must be in [0, 1), got 1");
}

TEST(LayerScale, MultipliesEachChannel) {
  LayerScale scale(LayerScaleOptions{.dim = 3, .init = 0.25});
  EXPECT_TENSOR_EQ(scale->forward(at::ones({2, 3})), at::full({2, 3}, 0.25));
  randomize(*scale);
  const auto x = at::randn({2, 5, 3});
  EXPECT_TENSOR_EQ(scale->forward(x).select(2, 1), x.select(2, 1) * scale->gamma[1]);
  EXPECT_EQ(scale->named_parameters().keys(), std::vector<std::string>{"gamma"});
  EXPECT_TENSOR_EQ(clone_of(scale)->forward(x), scale->forward(x));
  EXPECT_ERROR(scale->forward(at::randn({2, 4})), "LayerScale: x must have 3 as its last size, got shape [2, 4]");
  EXPECT_ERROR(LayerScale(LayerScaleOptions{.dim = 0}), "LayerScale: dim must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow
