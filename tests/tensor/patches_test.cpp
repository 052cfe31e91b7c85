#include "winnow/tensor/patches.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/gradcheck.h"

namespace winnow {
namespace {

using testing::case_name;
using testing::DeviceTest;

class Patches : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Patches, testing::cpu_cases(), case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, Patches, testing::cuda_cases(), case_name);

// Value 100 c + 4 y + x at channel c, row y, column x.
at::Tensor numbered_image() {
  return (at::arange(2).view({2, 1, 1}) * 100 + at::arange(16).view({1, 4, 4})).unsqueeze(0).to(at::kDouble);
}

TEST_P(Patches, PatchifyPutsTheChannelLast) {
  const auto patches = patchify(numbered_image().to(options()), 2);
  EXPECT_TENSOR_NEAR(patches[0][0], at::tensor({0., 100., 1., 101., 4., 104., 5., 105.}), 0);
  EXPECT_TENSOR_NEAR(patches[0][1], at::tensor({2., 102., 3., 103., 6., 106., 7., 107.}), 0);
  EXPECT_TENSOR_NEAR(patches[0][2].narrow(0, 0, 4), at::tensor({8., 108., 9., 109.}), 0);
}

TEST_P(Patches, UnpatchifyIsTheInverseAlsoOfRectangles) {
  const auto images = randn({2, 3, 6, 9}, 1);
  EXPECT_TENSOR_EQ(unpatchify(patchify(images, 3), 3, 6, 9), images);
  const auto square = randn({2, 3, 6, 6}, 1);
  EXPECT_TENSOR_EQ(unpatchify(patchify(square, 2), 2), square);
}

TEST_P(Patches, GatherPatchesTakesPixelsInTheOrderOfAConvolutionWeight) {
  const auto images = randn({2, 3, 6, 9}, 1);
  const auto ids = on_device(at::tensor({5, 0, 3, 3, 2, 1}, at::kLong).view({2, 3}));
  const auto out = gather_patches(images, 3, ids);
  const auto all = images.reshape({2, 3, 2, 3, 3, 3}).permute({0, 2, 4, 1, 3, 5}).reshape({2, 6, 27});
  for (int64_t b = 0; b < 2; ++b) EXPECT_TENSOR_EQ(out[b], all[b].index_select(0, ids[b]));
}

TEST_P(Patches, TargetsOfOneTwoThreeFour) {
  const auto image = at::tensor({1., 2., 3., 4.}).view({1, 1, 2, 2}).to(options());
  EXPECT_TENSOR_NEAR(patch_targets(image, {.patch = 2, .norm_pix = true}),
                     at::tensor({-1.161895, -0.387298, 0.387298, 1.161895}).view({1, 1, 4}), 1e-6 + tolerance());
  const auto constant = patch_targets(at::full({1, 3, 4, 4}, 0.3, options()), {.patch = 4, .norm_pix = true});
  EXPECT_TENSOR_NEAR(constant, at::zeros({1, 1, 48}), 0.2 * tolerance() / 1e-5 * 1e-3);
}

TEST_P(Patches, TheLossCountsRemovedPatchesOnly) {
  // Patches are square: each pair of values is padded by two pixels that are predicted exactly.
  const auto targets = at::tensor({1., 3., 0., 2., 5., 5., 2., 6.}).view({1, 4, 2});
  const auto guesses = at::tensor({1., 1., 9., 9., 4., 7., 0., 0.}).view({1, 4, 2});
  const auto pad = [](const at::Tensor& x) { return at::cat({x, at::zeros({1, 4, 2}, x.options())}, 2); };
  const auto image = unpatchify(pad(targets), 2).to(options());
  const auto mask = on_device(at::tensor({1., 0., 1., 0.}).view({1, 4}));
  const auto loss = masked_patch_loss(pad(guesses).to(options()), image, mask, {.patch = 2});
  EXPECT_TENSOR_NEAR(loss, at::scalar_tensor(2.25 / 2), tolerance());  // the padding halves each mean
}

at::Tensor composed_loss(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& mask,
                         const MaskedPatchLossOptions& opts) {
  const auto each = (pred.to(at::kDouble) - patch_targets(images.to(at::kDouble), opts)).square().mean(-1);
  return (each * mask).sum() / mask.sum();
}

TEST_P(Patches, LossAndGradientAgreeWithTheComposition) {
  const bool wide = GetParam().dtype == at::kDouble;
  for (const auto& [C, p] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 7}, {2, 3}, {3, 16}, {4, 8}, {6, 5}}) {
    for (const bool norm_pix : {false, true}) {
      if (norm_pix && C * p * p == 1) continue;  // one pixel: the composition's variance is NaN
      SCOPED_TRACE("C " + std::to_string(C) + " p " + std::to_string(p));
      const auto images = randn({2, C, 2 * p, 3 * p}, 1).transpose(0, 1).contiguous().transpose(0, 1);
      auto pred = randn({2, 6, p * p * C}, 2).requires_grad_();
      const auto mask = on_device(at::rand({2, 6}, make_generator(3)).gt(0.4).to(at::kDouble));
      const MaskedPatchLossOptions opts{.patch = p, .norm_pix = norm_pix};
      const auto loss = masked_patch_loss(pred, images, mask, opts);
      EXPECT_EQ(loss.scalar_type(), wide ? at::kDouble : at::kFloat);
      const auto gradient = torch::autograd::grad({loss}, {pred})[0];
      auto reference = pred.detach().to(at::kDouble).requires_grad_();
      const auto wanted = composed_loss(reference, images, mask, opts);
      EXPECT_TENSOR_CLOSE(loss, wanted, wide ? 1e-12 : 1e-5, 0);
      EXPECT_TENSOR_NEAR(gradient, torch::autograd::grad({wanted}, {reference})[0], tolerance());
    }
  }
}

TEST_P(Patches, PredictionsOfChosenPatchesGiveTheLossOfAllThatAreRemoved) {
  const auto images = randn({2, 3, 4, 6}, 1);
  const auto ids = on_device(at::tensor({5, 0, 3, 2, 4, 1}, at::kLong).view({2, 3}));
  const auto mask = on_device(at::zeros({2, 6}, at::kDouble)).scatter(1, ids, 1.0);
  for (const bool norm_pix : {false, true}) {
    auto all = randn({2, 6, 12}, 2).requires_grad_();
    auto chosen = all.detach().gather(1, ids.unsqueeze(2).expand({2, 3, 12})).requires_grad_();
    const MaskedPatchLossOptions opts{.patch = 2, .norm_pix = norm_pix};
    const auto whole = masked_patch_loss(all, images, mask, opts);
    const auto part = masked_patch_loss(chosen, images, on_device(at::ones({2, 3}, at::kDouble)), opts, ids);
    EXPECT_TENSOR_NEAR(part, whole, tolerance());
    whole.backward();
    part.backward();
    EXPECT_TENSOR_NEAR(chosen.grad(), all.grad().gather(1, ids.unsqueeze(2).expand({2, 3, 12})), tolerance());
  }
}

TEST_P(Patches, KeptPatchesGetExactlyZeroGradientAndAreNotRead) {
  auto images = randn({1, 3, 4, 8}, 1);
  images.narrow(3, 4, 4).fill_(std::numeric_limits<double>::quiet_NaN());
  auto pred = randn({1, 2, 48}, 2).requires_grad_();
  const auto loss = masked_patch_loss(pred, images, on_device(at::tensor({1., 0.}).view({1, 2})), {.patch = 4});
  loss.backward();
  EXPECT_TRUE(std::isfinite(loss.item<double>()));
  EXPECT_TENSOR_EQ(pred.grad()[0][1], at::zeros({48}, pred.options()));
}

TEST(PatchesGradients, AgreeWithDifferences) {
  auto generator = make_generator(3);
  const auto images = at::randn({2, 3, 4, 6}, generator, at::kDouble);
  const auto pred = at::randn({2, 6, 12}, generator, at::kDouble).requires_grad_();
  const auto mask = at::tensor({1., 0., 1., 1., 0., 0., 0., 1., 0.5, 1., 0., 1.}, at::kDouble).view({2, 6});
  for (const bool norm_pix : {false, true}) {
    const MaskedPatchLossOptions opts{.patch = 2, .norm_pix = norm_pix};
    const auto result =
        gradcheck([&](const auto& in) { return std::vector{masked_patch_loss(in[0], images, mask, opts)}; }, {pred});
    EXPECT_TRUE(result.passed) << result.message;
  }
  const auto source = images.clone().requires_grad_();
  const auto patches = gradcheck([](const auto& in) { return std::vector{patchify(in[0], 2)}; }, {source});
  EXPECT_TRUE(patches.passed) << patches.message;
  const auto back = gradcheck([](const auto& in) { return std::vector{unpatchify(in[0], 2, 4, 6)}; }, {pred});
  EXPECT_TRUE(back.passed) << back.message;
}

TEST(PatchesGradients, ExistForTheWantedArgumentOnly) {
  const auto images = at::randn({1, 1, 4, 4}), mask = at::ones({1, 4});
  const auto pred = at::randn({1, 4, 4}).requires_grad_();
  const auto image = images.clone().requires_grad_(), weight = mask.clone().requires_grad_();
  EXPECT_ERROR(masked_patch_loss(pred, image, mask, {.patch = 2}),
               "masked_patch_loss: images must not require a gradient, only pred has one");
  EXPECT_ERROR(masked_patch_loss(pred, images, weight, {.patch = 2}),
               "masked_patch_loss: mask must not require a gradient, only pred has one");
  EXPECT_ERROR(gather_patches(image, 2, at::zeros({1, 1}, at::kLong)),
               "gather_patches: images must not require a gradient");
  const auto loss = masked_patch_loss(pred, images, mask, {.patch = 2});
  EXPECT_ERROR(torch::autograd::grad({loss}, {pred}, {}, std::nullopt, /*create_graph=*/true),
               "masked_patch_loss: double backward is not supported");
}

TEST(PatchesErrors, NameTheArgumentTheWantedAndTheFound) {
  const auto images = at::zeros({1, 3, 4, 6});
  EXPECT_ERROR(patchify(images[0], 2), "patchify: images must have 4 dimensions, got shape [3, 4, 6]");
  EXPECT_ERROR(patchify(images, 0), "patchify: patch must be >= 1, got 0");
  EXPECT_ERROR(patchify(images, 4), "patchify: images must have height and width divisible by patch = 4, got 4 x 6");
  EXPECT_ERROR(unpatchify(at::zeros({1, 6, 12}), 2),
               "unpatchify: patches must be a square number for a square image, got 6");
  EXPECT_ERROR(unpatchify(at::zeros({1, 6, 13}), 2, 4, 6),
               "unpatchify: patches must have shape [*, 6, C*4], got [1, 6, 13]");
  EXPECT_ERROR(unpatchify(at::zeros({1, 6, 12}), 2, 5, 6),
               "unpatchify: height and width must be divisible by patch = 2, got 5 x 6");
  EXPECT_ERROR(gather_patches(images, 2, at::full({1, 1}, 6, at::kLong)),
               "gather_patches: ids must be in [0, 6), got 6");
  EXPECT_ERROR(gather_patches(images, 2, at::zeros({2, 1}, at::kLong)),
               "gather_patches: ids must have shape [1, *], got [2, 1]");
  const auto pred = at::zeros({1, 6, 12}), mask = at::ones({1, 6});
  EXPECT_ERROR(masked_patch_loss({}, images, mask, {.patch = 2}), "masked_patch_loss: pred must be a tensor, got none");
  EXPECT_ERROR(masked_patch_loss(pred, images, {}, {.patch = 2}), "masked_patch_loss: mask must be a tensor, got none");
  EXPECT_ERROR(masked_patch_loss(pred, images.to(at::kByte), mask, {.patch = 2}),
               "masked_patch_loss: images must be float64, float32, float16 or bfloat16, got uint8");
  EXPECT_ERROR(masked_patch_loss(pred, images, mask, {.patch = 4}),
               "masked_patch_loss: images must have height and width divisible by patch = 4, got 4 x 6");
  EXPECT_ERROR(masked_patch_loss(at::zeros({1, 6, 4}), images, mask, {.patch = 2}),
               "masked_patch_loss: pred must have shape [1, 6, 12], got [1, 6, 4]");
  EXPECT_ERROR(masked_patch_loss(pred, images, at::ones({6}), {.patch = 2}),
               "masked_patch_loss: mask must have shape [1, 6], got [6]");
  EXPECT_ERROR(masked_patch_loss(pred, images, mask, {.patch = 2}, at::full({1, 6}, 6, at::kLong)),
               "masked_patch_loss: ids must be in [0, 6), got 6");
  EXPECT_ERROR(masked_patch_loss(pred, images, mask, {.patch = 2}, at::zeros({1, 2}, at::kLong)),
               "masked_patch_loss: pred must have shape [1, 2, 12], got [1, 6, 12]");
  EXPECT_ERROR(masked_patch_loss(pred, images, mask * 0, {.patch = 2}),
               "masked_patch_loss: mask must count at least one patch, got none");
  EXPECT_ERROR(masked_patch_loss(pred, images, -mask, {.patch = 2}),
               "masked_patch_loss: mask must hold finite weights >= 0, got another");
}

}  // namespace
}  // namespace winnow
