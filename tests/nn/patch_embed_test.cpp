#include "winnow/nn/patch_embed.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

PatchEmbed make(std::vector<int64_t> patch, int64_t channels, int64_t dim, bool bias = true) {
  torch::manual_seed(7);
  return PatchEmbed(PatchEmbedOptions{.patch = std::move(patch), .channels = channels, .dim = dim, .bias = bias});
}

// A convolution with kernel and stride of the patch, flattened to tokens.
at::Tensor by_convolution(PatchEmbed& embed, const at::Tensor& x) {
  const auto& w = embed->proj->weight;
  const auto& b = embed->proj->bias;
  const auto& p = embed->options.patch;
  at::Tensor y;
  if (p.size() == 1) y = at::conv1d(x, w, b, p);
  if (p.size() == 2) y = at::conv2d(x, w, b, p);
  if (p.size() == 3) y = at::conv3d(x, w, b, p);
  return y.flatten(2).transpose(1, 2);
}

TEST(PatchEmbed, IsTheConvolutionOfKernelAndStridePatchInOneTwoAndThreeDimensions) {
  struct Shape {
    std::vector<int64_t> patch, size;
  };
  const std::vector<Shape> shapes = {{{5}, {15}},
                                     {{1}, {7}},
                                     {{4, 4}, {8, 12}},
                                     {{2, 3}, {6, 9}},
                                     {{7, 1}, {7, 3}},
                                     {{2, 4, 4}, {4, 8, 4}},
                                     {{1, 3, 2}, {3, 3, 8}},
                                     {{3, 5, 2}, {3, 5, 2}}};
  for (const auto& shape : shapes) {
    for (const int64_t channels : {1, 2, 5}) {
      for (const bool bias : {true, false}) {
        auto embed = make(shape.patch, channels, 6, bias);
        embed->to(at::kDouble);
        std::vector<int64_t> size = {2, channels};
        size.insert(size.end(), shape.size.begin(), shape.size.end());
        const auto x = at::randn(size, at::kDouble);
        EXPECT_TENSOR_NEAR(embed->forward(x), by_convolution(embed, x), 1e-12);
      }
    }
  }
}

TEST(PatchEmbed, GradientsAreThoseOfTheConvolution) {
  auto embed = make({2, 3}, 3, 5);
  embed->to(at::kDouble);
  const auto x = at::randn({2, 3, 4, 9}, at::kDouble).requires_grad_();
  const auto cotangent = at::randn({2, 6, 5}, at::kDouble);
  const auto inputs = std::vector<at::Tensor>{x, embed->proj->weight, embed->proj->bias};
  const auto got = torch::autograd::grad({(embed->forward(x) * cotangent).sum()}, inputs);
  const auto wanted = torch::autograd::grad({(by_convolution(embed, x) * cotangent).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TENSOR_NEAR(got[i], wanted[i], 1e-12);
}

TEST(PatchEmbed, ProjectingASubsetOfThePatchesGivesTheSubsetOfTheTokens) {
  auto embed = make({4, 4}, 3, 8);
  const auto x = at::randn({2, 3, 12, 8});
  const auto rows = at::tensor({5, 0, 3}, at::kLong);
  EXPECT_TENSOR_NEAR(embed->project(embed->unfold(x).index_select(1, rows)), embed->forward(x).index_select(1, rows),
                     1e-6);
}

TEST(PatchEmbed, TakesAnEmptyBatchAndAnInputWithAnyStrides) {
  auto embed = make({4, 4}, 3, 8);
  EXPECT_EQ(embed->forward(at::empty({0, 3, 8, 8})).sizes(), (std::vector<int64_t>{0, 4, 8}));
  const auto channels_last = at::randn({2, 8, 8, 3}).permute({0, 3, 1, 2});
  EXPECT_TENSOR_NEAR(embed->forward(channels_last), embed->forward(channels_last.contiguous()), 1e-6);
}

TEST(PatchEmbed, ParametersOfViTBaseAreCountedAndNamedLikeAConvolution) {
  auto embed = make({16, 16}, 3, 768);
  const auto named = embed->named_parameters();
  EXPECT_EQ(named["proj.weight"].sizes(), (std::vector<int64_t>{768, 3, 16, 16}));
  EXPECT_EQ(named["proj.bias"].sizes(), (std::vector<int64_t>{768}));
  EXPECT_EQ(named.size(), 2U);
  EXPECT_EQ(make({2, 2}, 1, 4, false)->parameters().size(), 1U);
}

TEST(PatchEmbed, AcloneSharesNothing) {
  auto embed = make({2, 2}, 1, 4);
  PatchEmbed copy(std::dynamic_pointer_cast<PatchEmbedImpl>(embed->clone()));
  const auto x = at::randn({1, 1, 4, 4});
  const auto before = embed->forward(x);
  EXPECT_TENSOR_EQ(copy->forward(x), before);
  {
    const at::NoGradGuard no_grad;
    copy->proj->weight.zero_();
  }
  EXPECT_TENSOR_EQ(embed->forward(x), before);
  EXPECT_FALSE(at::equal(copy->forward(x), before));
}

TEST(PatchEmbed, SaysWhatIsWrong) {
  auto embed = make({4, 3}, 3, 8);
  EXPECT_ERROR(embed->forward(at::randn({1, 3, 10, 9})),
               "PatchEmbed: spatial size 0 of x must be a positive multiple of the patch size 4, got 10");
  EXPECT_ERROR(embed->forward(at::randn({1, 3, 8, 0})),
               "PatchEmbed: spatial size 1 of x must be a positive multiple of the patch size 3, got 0");
  EXPECT_ERROR(embed->forward(at::randn({1, 2, 8, 9})), "PatchEmbed: x must have 3 channels, got 2");
  EXPECT_ERROR(embed->forward(at::randn({3, 8, 9})),
               "PatchEmbed: x must have 4 dimensions [B, C, 2 spatial], got shape [3, 8, 9]");
  EXPECT_ERROR(embed->project(at::randn({2, 35})),
               "PatchEmbed: patches must have 36 as their last size, got shape [2, 35]");
  EXPECT_ERROR(make({1, 1, 1, 1}, 3, 8), "PatchEmbed: patch must have 1 to 3 sizes, got 4");
  EXPECT_ERROR(make({}, 3, 8), "PatchEmbed: patch must have 1 to 3 sizes, got 0");
  EXPECT_ERROR(make({0, 4}, 3, 8), "PatchEmbed: patch");
  EXPECT_ERROR(make({4, 4}, 0, 8), "PatchEmbed: channels must be >= 1, got 0");
  EXPECT_ERROR(make({4, 4}, 3, 0), "PatchEmbed: dim must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow
