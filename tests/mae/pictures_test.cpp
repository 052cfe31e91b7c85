#include "winnow/mae/pictures.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/patches.h"

namespace winnow::mae {
namespace {

TEST(Pictures, NormalisedPredictionsComeBackInTheScaleOfEachPatch) {
  const auto images = at::randn({2, 3, 8, 12}, make_generator(1)) * 5 + 2;
  const auto targets = patch_targets(images, {.patch = 4, .norm_pix = true});
  EXPECT_TENSOR_NEAR(predicted_pixels(targets, images, 4, true), images, 1e-4);
  EXPECT_TENSOR_EQ(predicted_pixels(patchify(images, 4), images, 4, false), images);
}

// One grey image of 2 x 4 pixels in two patches; the right one is removed and predicted as 0.2.
MaeOutput half_hidden() {
  MaeOutput out;
  out.mask = at::tensor({0.f, 1.f}).view({1, 2});
  out.pred = at::tensor({0.9f, 0.9f, 0.9f, 0.9f, 0.2f, 0.2f, 0.2f, 0.2f}).view({1, 2, 4});
  return out;
}

TEST(Pictures, ASheetShowsOriginalMaskedAndRebuilt) {
  const auto image = at::full({1, 1, 2, 4}, 0.6f);
  const auto sheet = picture_sheet(image, half_hidden(), {.patch = 2});
  ASSERT_EQ(sheet.sizes(), (std::vector<int64_t>{6, 20, 1}));
  EXPECT_EQ(sheet.scalar_type(), at::kByte);
  const auto row = sheet.select(0, 2).select(1, 0);  // [20]: gap 2, then three pictures of 4 pixels with gaps of 2
  const auto pixels = [&](int64_t from) { return row.slice(0, from, from + 4); };
  const auto bytes = [](std::initializer_list<int> v) { return at::tensor(std::vector<int>(v)).to(at::kByte); };
  EXPECT_TENSOR_EQ(pixels(2), bytes({153, 153, 153, 153}));
  EXPECT_TENSOR_EQ(pixels(8), bytes({153, 153, 128, 128}));
  EXPECT_TENSOR_EQ(pixels(14), bytes({153, 153, 51, 51}));  // the kept patch is the original, not its prediction
  EXPECT_TENSOR_EQ(sheet.select(0, 0), at::full({20, 1}, 255, at::kByte));
}

TEST(Pictures, TheNormalisationOfTheImagesIsUndone) {
  const auto plain = picture_sheet(at::full({1, 1, 2, 4}, 0.6f), half_hidden(), {.patch = 2});
  auto out = half_hidden();
  out.pred = (out.pred - 0.25) / 0.5;
  const auto sheet =
      picture_sheet((at::full({1, 1, 2, 4}, 0.6f) - 0.25) / 0.5, out, {.patch = 2, .mean = {0.25}, .std = {0.5}});
  EXPECT_TENSOR_EQ(sheet, plain);
}

TEST(Pictures, ColumnsAndScaleSetTheSize) {
  MaeOutput out;
  out.mask = at::ones({3, 6});
  out.pred = at::zeros({3, 6, 48});
  const auto images = at::zeros({3, 3, 8, 12});
  const auto sheet = picture_sheet(images, out, {.patch = 4, .scale = 2, .columns = 2});
  EXPECT_EQ(sheet.sizes(), (std::vector<int64_t>{2 * 18 + 2, 2 * 3 * 26 + 2, 3}));
  EXPECT_ERROR(picture_sheet(at::zeros({3, 2, 8, 12}), out, {.patch = 4}), "images must have 1 or 3 channels, got 2");
  EXPECT_ERROR(picture_sheet(images, out, {.patch = 4, .mean = {0.5}}), "mean and std must have 3 values each");
  EXPECT_ERROR(picture_sheet(images, out, {.patch = 4, .scale = 0}), "scale and columns must be >= 1");
}

}  // namespace
}  // namespace winnow::mae
