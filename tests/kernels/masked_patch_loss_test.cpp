#include "winnow/kernels/masked_patch_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/targets.h"

namespace winnow::kernels {
namespace {

struct Shape {
  int64_t batch, channels, rows, cols, patch;
};

// Every patch size and channel count that takes a path of its own: vectors, short vectors, remainders, any channel
// count.
const std::vector<Shape> kShapes = {{1, 1, 1, 1, 1}, {2, 3, 2, 3, 2},  {2, 1, 2, 2, 7},
                                    {1, 2, 1, 3, 5}, {1, 4, 2, 1, 9},  {2, 3, 2, 2, 16},
                                    {1, 5, 2, 2, 8}, {1, 3, 1, 2, 17}, {1, 1, 2, 1, 33}};

// The pixel of the target, by its definition.
template <typename T>
double pixel(const MaskedPatchLoss<T>& a, int64_t i, int64_t j) {
  const int64_t cols = a.width / a.patch, per_image = a.height / a.patch * cols;
  const int64_t b = i / per_image, c = j % a.channels;
  const int64_t y = i % per_image / cols * a.patch + j / (a.channels * a.patch);
  const int64_t x = i % cols * a.patch + j / a.channels % a.patch;
  return static_cast<double>(a.image[((b * a.channels + c) * a.height + y) * a.width + x]);
}

struct Expected {
  double loss = 0;
  std::vector<double> difference;
};

template <typename T>
Expected plain(const MaskedPatchLoss<T>& a, int64_t i) {
  const int64_t size = a.patch * a.patch * a.channels;
  double mean = 0, deviation = 1;
  if (a.normalize) {
    for (int64_t j = 0; j < size; ++j) mean += pixel(a, i, j) / static_cast<double>(size);
    double square = 0;
    for (int64_t j = 0; j < size; ++j) square += std::pow(pixel(a, i, j) - mean, 2);
    deviation = std::sqrt((size > 1 ? square / static_cast<double>(size - 1) : 0) + 1e-6);
  }
  Expected expected;
  for (int64_t j = 0; j < size; ++j) {
    const double d = static_cast<double>(a.prediction[i * size + j]) - (pixel(a, i, j) - mean) / deviation;
    expected.difference.push_back(d);
    expected.loss += d * d / static_cast<double>(size);
  }
  return expected;
}

template <typename T>
void check_all_shapes(double tolerance) {
  for (const auto& s : kShapes) {
    for (const bool normalize : {false, true}) {
      SCOPED_TRACE("channels " + std::to_string(s.channels) + ", patch " + std::to_string(s.patch));
      const int64_t count = s.batch * s.rows * s.cols, size = s.patch * s.patch * s.channels;
      const auto image = normal_values<T>(count * size, 1), prediction = normal_values<T>(count * size, 2);
      std::vector<T> weight(static_cast<size_t>(count), T{1});
      for (size_t i = 1; i < weight.size(); i += 2) weight[i] = 0;
      const MaskedPatchLoss<T> args{image.data(),     prediction.data(), weight.data(), s.channels,
                                    s.rows * s.patch, s.cols * s.patch,  s.patch,       normalize};
      std::vector<T> loss(weight.size(), T{-1}), mean(weight), inverse(weight), gradient(prediction.size(), T{-1});
      cpu::masked_patch_loss(args, loss.data(), mean.data(), inverse.data(), 0, count);
      cpu::masked_patch_loss_backward(args, mean.data(), inverse.data(), T{3}, gradient.data(), 0, count);
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i);
        const auto expected = plain(args, i);
        EXPECT_NEAR(static_cast<double>(loss[at]), i % 2 == 0 ? expected.loss : 0.0, tolerance * (1 + expected.loss));
        for (int64_t j = 0; j < size; ++j) {
          const double wanted =
              i % 2 == 0 ? 3 * 2.0 / static_cast<double>(size) * expected.difference[static_cast<size_t>(j)] : 0.0;
          ASSERT_NEAR(static_cast<double>(gradient[static_cast<size_t>(i * size + j)]), wanted, 10 * tolerance) << j;
        }
      }
    }
  }
}

TEST(MaskedPatchLossKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    check_all_shapes<float>(3e-6);
    check_all_shapes<double>(1e-12);
  });
}

TEST(MaskedPatchLossKernel, ARangeTouchesOnlyItsOwnPatches) {
  const auto image = normal_values<float>(4 * 4, 3), prediction = normal_values<float>(4 * 4, 4);
  const std::vector<float> weight(4, 1.0F);
  const MaskedPatchLoss<float> args{image.data(), prediction.data(), weight.data(), 1, 4, 4, 2, false};
  std::vector<float> loss(4, -1.0F), mean(4, -1.0F), inverse(4, -1.0F);
  cpu::masked_patch_loss(args, loss.data(), mean.data(), inverse.data(), 1, 3);
  EXPECT_EQ(loss[0], -1.0F);
  EXPECT_EQ(loss[3], -1.0F);
  EXPECT_GE(loss[1], 0.0F);
  EXPECT_GE(loss[2], 0.0F);
}

TEST(MaskedPatchLossKernel, APatchNumberSaysWhichPatchAPredictionIsOf) {
  on_every_target([] {
    const auto image = normal_values<float>(2 * 4 * 6, 3), prediction = normal_values<float>(2 * 6 * 4, 4);
    const std::vector<float> ones(12, 1.0F);
    const std::vector<int64_t> patches{7, 0, 11, 7};
    MaskedPatchLoss<float> args{image.data(), prediction.data(), ones.data(), 1, 4, 6, 2, true};
    std::vector<float> chosen_prediction;
    for (const auto i : patches) {
      chosen_prediction.insert(chosen_prediction.end(), prediction.begin() + i * 4, prediction.begin() + i * 4 + 4);
    }
    std::vector<float> all(12), chosen(4), mean(12), inverse(12);
    cpu::masked_patch_loss(args, all.data(), mean.data(), inverse.data(), 0, 12);
    args.prediction = chosen_prediction.data();
    args.patches = patches.data();
    cpu::masked_patch_loss(args, chosen.data(), mean.data(), inverse.data(), 0, 4);
    for (size_t i = 0; i < patches.size(); ++i) EXPECT_EQ(chosen[i], all[static_cast<size_t>(patches[i])]);
  });
}

TEST(MaskedPatchLossKernel, AConstantPatchHasExactlyZeroTargets) {
  on_every_target([] {
    const std::vector<float> image(3 * 16 * 16, 0.1F), prediction(3 * 16 * 16, 0.0F), weight(1, 1.0F);
    const MaskedPatchLoss<float> args{image.data(), prediction.data(), weight.data(), 3, 16, 16, 16, true};
    float loss = -1, mean = 0, inverse = 0;
    cpu::masked_patch_loss(args, &loss, &mean, &inverse, 0, 1);
    EXPECT_EQ(loss, 0.0F);
    EXPECT_EQ(mean, 0.1F);
    EXPECT_FLOAT_EQ(inverse, 1000.0F);
  });
}

TEST(MaskedPatchLossKernel, NanInACountedPatchStaysThereAndASkippedPatchIsNotRead) {
  on_every_target([] {
    auto image = normal_values<float>(2 * 8 * 8, 5);
    const auto prediction = normal_values<float>(2 * 8 * 8, 6);
    image[3] = std::numeric_limits<float>::quiet_NaN();  // row 0, column 3: patch 0 of two
    std::vector<float> weight{1.0F, 1.0F}, loss(2), mean(2), inverse(2);
    const MaskedPatchLoss<float> args{image.data(), prediction.data(), weight.data(), 1, 8, 16, 8, true};
    cpu::masked_patch_loss(args, loss.data(), mean.data(), inverse.data(), 0, 2);
    EXPECT_TRUE(std::isnan(loss[0]));
    EXPECT_TRUE(std::isfinite(loss[1]));
    weight[0] = 0;
    cpu::masked_patch_loss(args, loss.data(), mean.data(), inverse.data(), 0, 2);
    EXPECT_EQ(loss[0], 0.0F);
  });
}

}  // namespace
}  // namespace winnow::kernels
