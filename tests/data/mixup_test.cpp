#include "winnow/data/mixup.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow::data {
namespace {

// Picture i is i everywhere, label i.
at::Tensor flat_pictures(int64_t n) {
  return at::arange(n).to(at::kFloat).view({n, 1, 1, 1}).expand({n, 3, 20, 30}).contiguous();
}

TEST(SoftTargets, RowsSumToOne) {
  const auto targets = soft_targets(at::tensor({2, 0}, at::kLong), 4, 0.1);
  EXPECT_TENSOR_NEAR(targets, at::tensor({0.025F, 0.025F, 0.925F, 0.025F, 0.925F, 0.025F, 0.025F, 0.025F}).view({2, 4}),
                     1e-6);
  EXPECT_TENSOR_EQ(soft_targets(at::tensor({1}, at::kLong), 2, 0), at::tensor({0.0F, 1.0F}).view({1, 2}));
}

TEST(SoftTargets, BadArgumentsAreNamed) {
  const auto labels = at::tensor({0, 4}, at::kLong);
  EXPECT_ERROR(soft_targets(labels, 4, 0), "soft_targets: labels");
  EXPECT_ERROR(soft_targets(labels, 0, 0), "soft_targets: classes must be >= 1, got 0");
  EXPECT_ERROR(soft_targets(labels, 5, 1), "soft_targets: label_smoothing must be in [0, 1), got 1");
  EXPECT_ERROR(soft_targets(at::zeros({2}), 5, 0), "soft_targets: labels must be int64 [N], got float32 [2]");
}

TEST(MixBatch, MixupBlendsPicturesAndTargetsAlike) {
  const auto labels = at::arange(4);
  double sum = 0, squares = 0;
  const int rounds = 2000;
  for (int seed = 0; seed < rounds; ++seed) {
    const auto mixed = mix_batch(flat_pictures(4), labels, 4, {.mixup_alpha = 0.8}, static_cast<uint64_t>(seed));
    EXPECT_EQ(mixed.box.height, 0);
    sum += mixed.lambda, squares += mixed.lambda * mixed.lambda;
    if (seed > 20) continue;
    // The value of a picture is the mean of its targets' numbers.
    const auto expected = mixed.targets.matmul(at::arange(4).to(at::kFloat));
    EXPECT_TENSOR_NEAR(mixed.images.select(1, 0).select(1, 0).select(1, 0), expected, 1e-5);
    EXPECT_TENSOR_NEAR(mixed.targets.sum(1), at::ones({4}), 1e-6);
    EXPECT_NEAR(mixed.targets[0][3].item<double>(), 1 - mixed.lambda, 1e-6);
  }
  // Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
  const double mean = sum / rounds;
  EXPECT_NEAR(mean, 0.5, 0.035);  // five deviations
  EXPECT_NEAR(squares / rounds - mean * mean, 1 / (4 * 2.6), 0.01);
}

TEST(MixBatch, CutmixPastesARectangleAndCountsItsPixels) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto mixed =
        mix_batch(flat_pictures(4), at::arange(4), 4, {.cutmix_alpha = 1.0, .label_smoothing = 0.1}, seed);
    const auto& box = mixed.box;
    EXPECT_NEAR(mixed.lambda, 1 - static_cast<double>(box.height * box.width) / 600, 1e-12);
    for (int64_t i = 0; i < 4; ++i) {
      const auto picture = mixed.images[i];
      EXPECT_EQ(picture.eq(static_cast<double>(3 - i)).sum().item<int64_t>(), 3 * box.height * box.width);
      EXPECT_EQ(picture.eq(static_cast<double>(i)).sum().item<int64_t>(), 3 * (600 - box.height * box.width));
      EXPECT_NEAR(mixed.targets[i].sum().item<double>(), 1, 1e-6);
      EXPECT_NEAR(mixed.targets[i][i].item<double>(), 0.025 + 0.9 * mixed.lambda, 1e-6);
    }
  }
}

TEST(MixBatch, SwitchAndProbabilityAreFrequencies) {
  int cut = 0, blended = 0;
  const MixupOptions options{.mixup_alpha = 1, .cutmix_alpha = 1, .probability = 0.6, .switch_probability = 0.25};
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    const auto mixed = mix_batch(flat_pictures(2).narrow(2, 0, 8).narrow(3, 0, 8), at::arange(2), 2, options, seed);
    const bool untouched = mixed.lambda == 1.0 && mixed.box.height == 0;
    const bool is_cut = !untouched && mixed.images.frac().abs().max().item<float>() == 0.0F;
    cut += is_cut;
    blended += !untouched && !is_cut;
  }
  EXPECT_NEAR(blended / 3000.0, 0.6 * 0.75, 0.05);
  EXPECT_NEAR(cut / 3000.0, 0.6 * 0.25, 0.05);
}

TEST(MixBatch, OffLeavesTheBatchAlone) {
  const auto images = flat_pictures(3);
  const auto mixed = mix_batch(images, at::arange(3), 3, {.label_smoothing = 0.1}, 1);
  EXPECT_TENSOR_EQ(mixed.images, images);
  EXPECT_NE(mixed.images.data_ptr(), images.data_ptr());
  EXPECT_TENSOR_EQ(mixed.targets, soft_targets(at::arange(3), 3, 0.1));
}

TEST(MixBatch, TheSeedDecides) {
  const MixupOptions options{.mixup_alpha = 0.8, .cutmix_alpha = 1};
  const auto mix = [&](uint64_t seed) { return mix_batch(flat_pictures(4), at::arange(4), 4, options, seed); };
  EXPECT_TENSOR_EQ(mix(5).images, mix(5).images);
  EXPECT_NE(mix(5).lambda, mix(6).lambda);
}

TEST(MixBatch, BadArgumentsAreNamed) {
  const auto labels = at::arange(4);
  EXPECT_ERROR(mix_batch(at::zeros({4, 3, 2, 2}, at::kByte), labels, 4, {}, 0),
               "mix_batch: images must be floating [N, C, H, W], got uint8");
  EXPECT_ERROR(mix_batch(at::zeros({3, 3, 2, 2}), labels, 4, {}, 0),
               "mix_batch: labels must be int64 [3], got int64 [4]");
  EXPECT_ERROR(mix_batch(flat_pictures(4), labels, 4, {.mixup_alpha = -1}, 0),
               "Mixup: mixup_alpha must be >= 0, got -1");
}

}  // namespace
}  // namespace winnow::data
