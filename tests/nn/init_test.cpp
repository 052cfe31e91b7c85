#include "winnow/nn/init.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/mlp.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/patch_embed.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

// Largest entry near the bound, variance that of the uniform distribution.
void expect_uniform(const at::Tensor& w, double bound) {
  const auto x = w.detach().to(at::kDouble);
  const auto n = static_cast<double>(w.numel());
  EXPECT_LE(x.abs().max().item<double>(), bound * (1 + 1e-6));
  EXPECT_GT(x.abs().max().item<double>(), bound * (1 - 20 / n));
  EXPECT_NEAR(x.square().mean().item<double>() / (bound * bound / 3), 1.0, 5 * std::sqrt(0.8 / n));
  EXPECT_NEAR(x.mean().item<double>() / bound, 0.0, 5 / std::sqrt(3 * n));
}

TEST(Init, XavierCountsAFusedQkvAsOneMatrixAndAPatchProjectionByItsRows) {
  const auto qkv = at::empty({3 * 64, 64});
  xavier_uniform_(qkv, make_generator(1));
  expect_uniform(qkv, std::sqrt(6.0 / (4 * 64)));
  const auto patches = at::empty({96, 3, 8, 8});
  xavier_uniform_(patches, make_generator(1));
  expect_uniform(patches, std::sqrt(6.0 / (96 + 3 * 64)));
}

TEST(Init, TruncatedNormalHasTheMomentsOfTheCutDistribution) {
  const auto w = at::empty({200000});
  trunc_normal_(w, make_generator(2), 0.5, 0.0, -0.5, 0.5);  // cut at one deviation
  EXPECT_LE(w.abs().max().item<double>(), 0.5);
  // Variance of a normal cut at +-1 deviation: 1 - 2 phi(1) / (2 Phi(1) - 1) = 0.29112.
  EXPECT_NEAR(w.to(at::kDouble).square().mean().item<double>() / 0.25, 0.29112, 0.005);
  trunc_normal_(w, make_generator(2), 0.02);
  EXPECT_NEAR(w.to(at::kDouble).square().mean().sqrt().item<double>(), 0.02, 2e-4);
  trunc_normal_(w, make_generator(2), 1.0, 3.0, 0.0, 10.0);
  EXPECT_NEAR(w.to(at::kDouble).mean().item<double>(), 3.0044, 0.01);
}

TEST(Init, NumbersDependOnTheSeedNotOnTheDtype) {
  const auto a = at::empty({7, 5}), b = at::empty({7, 5}, at::kDouble);
  normal_(a, make_generator(3), 0.1);
  normal_(b, make_generator(3), 0.1);
  EXPECT_TENSOR_EQ(a.to(at::kDouble), b);
  normal_(b, make_generator(4), 0.1);
  EXPECT_FALSE(at::equal(a.to(at::kDouble), b));
}

struct TreeImpl : torch::nn::Module {
  TreeImpl() {
    embed = register_module("embed", PatchEmbed(PatchEmbedOptions{.patch = {8, 8}, .channels = 3, .dim = 96}));
    mlp = register_module("mlp", Mlp(MlpOptions{.dim = 96}));
    norm = register_module("norm", Norm(NormOptions{.dim = 96}));
    token = register_parameter("token", at::full({96}, 5.0));
    const at::NoGradGuard no_grad;
    norm->weight.fill_(3);
    norm->bias.fill_(3);
  }
  PatchEmbed embed{nullptr};
  Mlp mlp{nullptr};
  Norm norm{nullptr};
  at::Tensor token;
};

TEST(Init, OfMaeSetsEveryKindOfModuleAndLeavesTokensAlone) {
  TreeImpl tree;
  init_mae_weights(tree, make_generator(5));
  expect_uniform(tree.embed->proj->weight, std::sqrt(6.0 / (96 + 192)));
  EXPECT_LE(tree.embed->proj->bias.abs().max().item<double>(), 1 / std::sqrt(192.0));
  EXPECT_GT(tree.embed->proj->bias.abs().max().item<double>(), 0.9 / std::sqrt(192.0));
  expect_uniform(tree.mlp->fc1->weight, std::sqrt(6.0 / (96 + 384)));
  EXPECT_TENSOR_EQ(tree.mlp->fc1->bias, at::zeros({384}));
  EXPECT_TENSOR_EQ(tree.norm->weight, at::ones({96}));
  EXPECT_TENSOR_EQ(tree.norm->bias, at::zeros({96}));
  EXPECT_TENSOR_EQ(tree.token, at::full({96}, 5.0));
  EXPECT_TRUE(tree.mlp->fc1->weight.requires_grad());
}

TEST(Init, OfTimmDrawsLinearsFromTheCutNormal) {
  TreeImpl tree;
  init_trunc_normal_weights(tree, make_generator(5));
  EXPECT_NEAR(tree.mlp->fc1->weight.to(at::kDouble).square().mean().sqrt().item<double>(), 0.02, 5e-4);
  expect_uniform(tree.embed->proj->weight, 1 / std::sqrt(192.0));
  EXPECT_TENSOR_EQ(tree.mlp->fc2->bias, at::zeros({96}));
  TreeImpl again;
  init_trunc_normal_weights(again, make_generator(5));
  EXPECT_TENSOR_EQ(again.mlp->fc2->weight, tree.mlp->fc2->weight);
}

TEST(Init, SaysWhatIsWrong) {
  EXPECT_ERROR(xavier_uniform_(at::empty({3}), make_generator(0)),
               "xavier_uniform_: weight must have at least 2 dimensions and be not empty, got shape [3]");
  EXPECT_ERROR(normal_(at::empty({3}), make_generator(0), -1), "normal_: deviation must be >= 0, got -1");
  EXPECT_ERROR(uniform_(at::empty({3}), make_generator(0), 1, 0), "uniform_: low must be <= high 0, got 1");
  EXPECT_ERROR(trunc_normal_(at::empty({3}), make_generator(0), 0), "trunc_normal_: deviation must be > 0, got 0");
  EXPECT_ERROR(trunc_normal_(at::empty({3}), make_generator(0), 1, 0, 2, 2),
               "trunc_normal_: low must be < high 2, got 2");
  EXPECT_ERROR(normal_(at::empty({3}), {}), "normal_: weight must be drawn by a CPU generator");
  EXPECT_ERROR(normal_(at::empty({3}, at::kLong), make_generator(0)), "normal_: weight must");
}

}  // namespace
}  // namespace winnow
