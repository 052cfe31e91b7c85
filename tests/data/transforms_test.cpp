#include "winnow/data/transforms.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include "support/devices.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/data/datasets.h"
#include "winnow/io/jpeg.h"

namespace winnow::data {
namespace {

// Soft hills with some noise: no overshoot beyond [0, 255], so that nothing is clipped between the passes.
at::Tensor hills(int64_t height, int64_t width, int64_t channels = 3) {
  auto image = at::empty({height, width, channels}, at::kByte);
  auto* bytes = image.mutable_data_ptr<uint8_t>();
  Random random(4);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        const double value =
            128 + 60 * std::sin(0.11 * static_cast<double>(x + 5 * c)) * std::cos(0.07 * static_cast<double>(y));
        *bytes++ = static_cast<uint8_t>(value + 20 * random.uniform());
      }
    }
  }
  return image;
}

// LibTorch's own resize in double precision of the box cut out, mirrored, normalised.
at::Tensor by_libtorch(const at::Tensor& image, const Box& box, int64_t height, int64_t width, Interpolation how,
                       bool flip, const Normalization& normalization) {
  const auto cut = image.narrow(0, box.top, box.height).narrow(1, box.left, box.width);
  auto x = cut.permute({2, 0, 1}).to(at::kDouble).unsqueeze(0).contiguous();
  x = how == Interpolation::bicubic ? at::_upsample_bicubic2d_aa(x, {height, width}, false)
                                    : at::_upsample_bilinear2d_aa(x, {height, width}, false);
  if (flip) x = x.flip({3});
  const auto mean = at::tensor(normalization.mean, at::kDouble).view({-1, 1, 1});
  const auto std = at::tensor(normalization.std, at::kDouble).view({-1, 1, 1});
  return ((x[0] / 255 - mean) / std).to(at::kFloat);
}

// Largest distance between the sample's distribution and the uniform one on [0, 1].
double distance_from_uniform(std::vector<double> sample) {
  std::sort(sample.begin(), sample.end());
  double worst = 0;
  for (size_t i = 0; i < sample.size(); ++i) {
    const auto n = static_cast<double>(sample.size()), rank = static_cast<double>(i);
    worst = std::max({worst, std::fabs(sample[i] - rank / n), std::fabs(sample[i] - (rank + 1) / n)});
  }
  return worst;
}
// Exceeded by a true sample once in a million (Kolmogorov).
double kolmogorov_bound(size_t n) {
  return 2.7 / std::sqrt(static_cast<double>(n));
}

TEST(RandomResizedCropBox, AreaRatioAndPlaceFollowTheirLaws) {
  const CropRange range{.scale_min = 0.2, .scale_max = 0.5};  // never too wide for a square
  const int64_t side = 20000;                                 // so that rounding is nothing
  Random random(1);
  std::vector<double> area, ratio, top, left;
  for (int i = 0; i < 20000; ++i) {
    const auto box = random_resized_crop_box(side, side, range, random);
    const auto h = static_cast<double>(box.height), w = static_cast<double>(box.width), s = static_cast<double>(side);
    area.push_back((h * w / (s * s) - 0.2) / 0.3);
    ratio.push_back((std::log(w / h) - std::log(0.75)) / (2 * std::log(4.0 / 3)));
    top.push_back((static_cast<double>(box.top) + 0.5) / (s - h + 1));
    left.push_back((static_cast<double>(box.left) + 0.5) / (s - w + 1));
  }
  for (const auto& sample : {area, ratio, top, left}) {
    EXPECT_LT(distance_from_uniform(sample), kolmogorov_bound(sample.size()));
  }
}

TEST(RandomResizedCropBox, StaysInsideThePicture) {
  Random random(2);
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{375, 500}, {1, 1}, {3, 200}, {200, 3}}) {
    for (int i = 0; i < 500; ++i) {
      const auto box = random_resized_crop_box(height, width, {}, random);
      ASSERT_TRUE(box.top >= 0 && box.left >= 0 && box.height >= 1 && box.width >= 1);
      ASSERT_TRUE(box.top + box.height <= height && box.left + box.width <= width);
    }
  }
}

TEST(RandomResizedCropBox, FallsBackToTheCentre) {
  Random random(3);
  const CropRange all{.scale_min = 1, .scale_max = 1};
  EXPECT_EQ(random_resized_crop_box(100, 1000, all, random), (Box{0, 433, 100, 133}));
  EXPECT_EQ(random_resized_crop_box(1000, 100, all, random), (Box{433, 0, 133, 100}));
}

TEST(RandomResizedCropBox, HalvesRoundToEven) {
  Random random(3);
  const CropRange wide{.scale_min = 1, .scale_max = 1, .ratio_min = 1.5, .ratio_max = 1.5};
  EXPECT_EQ(random_resized_crop_box(3, 100, wide, random).width, 4);  // 4.5
  EXPECT_EQ(random_resized_crop_box(5, 100, wide, random).width, 8);  // 7.5
}

TEST(CenterCropBox, HalvesRoundToEven) {
  EXPECT_EQ(center_crop_box(5, 7, 2, 2), (Box{2, 2, 2, 2}));  // 1.5 and 2.5
  EXPECT_ERROR(center_crop_box(5, 7, 6, 2), "center_crop_box: the box must fit into the picture of 5 x 7, got 6 x 2");
}

TEST(CropResize, AgreesWithLibTorchWithinAGreyLevel) {
  const auto normalization = imagenet_normalization();
  for (const auto how : {Interpolation::bilinear, Interpolation::bicubic}) {
    for (const bool flip : {false, true}) {
      for (const auto& box : {Box{0, 0, 120, 160}, Box{7, 11, 90, 60}, Box{100, 20, 20, 30}}) {
        const auto image = hills(120, 160);
        const auto got = crop_resize(image, box, 48, 40, how, flip, normalization);
        const auto wanted = by_libtorch(image, box, 48, 40, how, flip, normalization);
        EXPECT_TENSOR_NEAR(got, wanted, 1.0 / 255 / 0.224);
        EXPECT_LT((got - wanted).abs().mean().item<double>(), 0.3 / 255 / 0.224);
      }
    }
  }
}

TEST(CropResize, AWindowOfAPictureNeedsNoCopy) {
  const auto image = hills(60, 80);
  const auto window = image.narrow(0, 10, 40).narrow(1, 20, 50);
  EXPECT_TENSOR_EQ(crop_resize(window, {5, 6, 30, 40}, 24, 24, Interpolation::bicubic),
                   crop_resize(image, {15, 26, 30, 40}, 24, 24, Interpolation::bicubic));
}

TEST(CropResize, WithoutChangeOfSizeIsTheNormalisedPicture) {
  const auto image = hills(30, 40);
  const auto [mean, std] = imagenet_normalization();
  const auto got = crop_resize(image, {2, 3, 20, 30}, 20, 30, Interpolation::bicubic, true, {mean, std});
  EXPECT_TENSOR_NEAR(got, by_libtorch(image, {2, 3, 20, 30}, 20, 30, Interpolation::bicubic, true, {mean, std}), 1e-5);
}

TEST(CropResize, BadArgumentsAreNamed) {
  const auto image = hills(30, 40);
  const auto call = [&](const at::Tensor& x, const Box& box, const Normalization& n = {}) {
    return crop_resize(x, box, 8, 8, Interpolation::bicubic, false, n);
  };
  EXPECT_ERROR(call(image.to(at::kFloat), {0, 0, 1, 1}),
               "crop_resize: image must be uint8 [H, W, C] and not empty, got float32");
  EXPECT_ERROR(call(image, {0, 0, 31, 1}),
               "crop_resize: box must lie inside the picture of 30 x 40, got rows 0 + 31, columns 0 + 1");
  EXPECT_ERROR(call(image, {0, 0, 0, 1}), "crop_resize: box must lie inside");
  EXPECT_ERROR(call(image, {0, 0, 5, 5}, {{0.5}, {0.5}}),
               "crop_resize: mean and std must be empty or hold 3 value(s), got 1 and 1");
  EXPECT_ERROR(call(image, {0, 0, 5, 5}, {{0, 0, 0}, {1, 0, 1}}), "crop_resize: std must be > 0, got 0");
  EXPECT_ERROR(call(hills(4, 4, 5), {0, 0, 2, 2}), "crop_resize: image must have 1 to 4 channels, got 5");
  EXPECT_ERROR(crop_resize(image, {0, 0, 5, 5}, 0, 8, Interpolation::bicubic),
               "crop_resize: height and width must be >= 1, got 0 and 8");
}

TEST(Resize, RoundsToBytes) {
  const auto image = hills(64, 48);
  const auto wanted = by_libtorch(image, {0, 0, 64, 48}, 20, 30, Interpolation::bicubic, false, {{0, 0, 0}, {1, 1, 1}});
  const auto got = resize(image, 20, 30, Interpolation::bicubic);
  EXPECT_EQ(got.scalar_type(), at::kByte);
  EXPECT_TENSOR_NEAR(got.to(at::kFloat), wanted.permute({1, 2, 0}).mul(255), 1.5);
}

TEST(ToFloat, NormalisesPerChannel) {
  const auto images = hills(6, 5).unsqueeze(0);
  const auto [mean, std] = imagenet_normalization();
  const auto m = at::tensor(mean, at::kFloat).view({1, 3, 1, 1}), s = at::tensor(std, at::kFloat).view({1, 3, 1, 1});
  EXPECT_TENSOR_NEAR(to_float(images, {mean, std}), (images.permute({0, 3, 1, 2}).to(at::kFloat) / 255 - m) / s, 1e-5);
  EXPECT_TRUE(to_float(images).is_contiguous());
  EXPECT_ERROR(to_float(images.to(at::kFloat)),
               "to_float: images must be uint8 [N, H, W, C], got float32 [1, 6, 5, 3]");
}

TEST(RandomErase, AreaAndRatioStayInTheirRanges) {
  const RandomErasingOptions options{.probability = 1, .mode = ErasingMode::constant};
  Random random(5);
  double sum = 0;
  for (int i = 0; i < 500; ++i) {
    const auto image = at::ones({3, 200, 300});
    const auto box = random_erase(image, options, random);
    ASSERT_GT(box.height, 0);
    const auto h = static_cast<double>(box.height), w = static_cast<double>(box.width), area = h * w / 60000;
    EXPECT_GE(area, 0.02 * 0.95);
    EXPECT_LE(area, 1.0 / 3 * 1.02);
    EXPECT_GE(h / w, 0.3 * 0.95);
    EXPECT_LE(h / w, 1 / 0.3 * 1.05);
    sum += area;
    // Exactly the box is zero, in every channel.
    EXPECT_EQ(image.sum().item<double>(), 3 * (60000 - h * w));
    EXPECT_EQ(image.narrow(1, box.top, box.height).narrow(2, box.left, box.width).abs().max().item<double>(), 0);
  }
  EXPECT_NEAR(sum / 500, (0.02 + 1.0 / 3) / 2, 0.02);
}

TEST(RandomErase, PixelsAreNormalDraws) {
  const RandomErasingOptions options{.probability = 1, .min_area = 0.3};
  Random random(6);
  const auto image = at::full({3, 300, 300}, 50.0);
  const auto box = random_erase(image.to(at::kFloat), options, random);
  EXPECT_GT(box.height, 0);
  const auto floats = at::full({3, 300, 300}, 50.0F);
  const auto hole = random_erase(floats, options, random);
  const auto values = floats.narrow(1, hole.top, hole.height).narrow(2, hole.left, hole.width);
  const auto n = static_cast<double>(values.numel());
  EXPECT_NEAR(values.mean().item<double>(), 0, 5 / std::sqrt(n));
  EXPECT_NEAR(values.var().item<double>(), 1, 10 / std::sqrt(n));
}

TEST(RandomErase, ChannelModeWritesOneValueAChannel) {
  const auto image = at::full({3, 50, 50}, 50.0F);
  Random random(7);
  const auto box = random_erase(image, {.probability = 1, .mode = ErasingMode::channel}, random);
  const auto hole = image.narrow(1, box.top, box.height).narrow(2, box.left, box.width).flatten(1);
  EXPECT_TENSOR_EQ(std::get<0>(hole.max(1)), std::get<0>(hole.min(1)));
  EXPECT_NE(hole[0][0].item<float>(), hole[1][0].item<float>());
}

TEST(RandomErase, HappensWithItsProbability) {
  Random random(8);
  int erased = 0;
  for (int i = 0; i < 4000; ++i)
    erased += random_erase(at::ones({1, 16, 16}), {.probability = 0.25}, random).height > 0;
  EXPECT_NEAR(erased / 4000.0, 0.25, 0.035);  // five deviations
}

TEST(RandomErase, BadArgumentsAreNamed) {
  Random random(0);
  EXPECT_ERROR(random_erase(at::ones({3, 4, 4}).transpose(1, 2), {}, random),
               "random_erase: image must be float32 [C, H, W], contiguous");
  EXPECT_ERROR(check(RandomErasingOptions{.min_area = 0.5, .max_area = 0.4}),
               "min_area must be <= max_area, got 0.5 and 0.4");
}

TEST(ImageTransform, TheSeedDecidesEverything) {
  auto options = mae_pretraining_transform(32);
  options.erasing.probability = 1;
  const ImageTransform transform(options);
  const auto image = hills(60, 80);
  EXPECT_TENSOR_EQ(transform(image, 3), transform(image, 3));
  EXPECT_GT((transform(image, 3) - transform(image, 4)).abs().max().item<double>(), 0.1);
}

TEST(ImageTransform, IsItsPlanCarriedOut) {
  const ImageTransform transform(mae_pretraining_transform(32));
  const auto image = hills(60, 80);
  int flips = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto plan = transform.plan(60, 80, seed);
    flips += plan.flip;
    EXPECT_TENSOR_NEAR(
        transform(image, seed),
        by_libtorch(image, plan.box, 32, 32, Interpolation::bicubic, plan.flip, imagenet_normalization()),
        1.0 / 255 / 0.224);
  }
  EXPECT_GT(flips, 2);
  EXPECT_LT(flips, 18);
}

TEST(ImageTransform, OneDrawDoesNotMoveAnother) {
  auto options = mae_pretraining_transform(32);
  const ImageTransform flipping(options);
  options.flip_probability = 0;
  options.erasing.probability = 1;
  const ImageTransform other(options);
  for (uint64_t seed = 0; seed < 10; ++seed) EXPECT_EQ(flipping.plan(60, 80, seed).box, other.plan(60, 80, seed).box);
}

TEST(ImageTransform, FlipsWithItsProbability) {
  const ImageTransform transform({.height = 8, .width = 8, .flip_probability = 0.3});
  int flips = 0;
  for (uint64_t seed = 0; seed < 4000; ++seed) flips += transform.plan(8, 8, seed).flip;
  EXPECT_NEAR(flips / 4000.0, 0.3, 0.04);
}

TEST(ImageTransform, CenterResizesTheShorterSideThenCuts) {
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{90, 121}, {121, 90}}) {
    for (const double flip : {0.0, 1.0}) {
      ImageTransformOptions options{.crop = CropKind::center, .height = 28, .width = 24, .shortest_edge = 32};
      options.flip_probability = flip;
      const auto image = hills(height, width);
      // 32 * 121 / 90 = 43.02
      const auto h = height < width ? 32 : 43, w = height < width ? 43 : 32;
      auto wanted =
          by_libtorch(image, {0, 0, height, width}, h, w, Interpolation::bicubic, false, {{0, 0, 0}, {1, 1, 1}});
      const auto top = static_cast<int64_t>(std::nearbyint((h - 28) / 2.0)),
                 left = static_cast<int64_t>(std::nearbyint((w - 24) / 2.0));
      wanted = wanted.narrow(1, top, 28).narrow(2, left, 24);
      if (flip > 0) wanted = wanted.flip({2});
      EXPECT_TENSOR_NEAR(ImageTransform(options)(image, 0), wanted, 1.0 / 255);
    }
  }
}

TEST(ImageTransform, DecodingOnlyTheBoxChangesNothing) {
  const testing::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  io::write_jpeg(folder / "a/1.jpg", hills(150, 200), 85);
  const ImageFolder data(folder.string());
  auto options = mae_pretraining_transform(48);
  options.erasing.probability = 0.5;
  for (const auto crop : {CropKind::random_resized, CropKind::center, CropKind::none}) {
    options.crop = crop;
    const ImageTransform transform(options);
    for (uint64_t seed = 0; seed < 12; ++seed) {
      const auto out = at::empty({3, 48, 48});
      EXPECT_EQ(transform.apply(data, 0, seed, out), 0);
      EXPECT_TENSOR_EQ(out, transform(data.get(0, 0).image, seed));
    }
  }
}

TEST(ImageTransform, BadOptionsAreNamed) {
  EXPECT_ERROR(ImageTransform({.height = 0}), "ImageTransform: height must be >= 1, got 0");
  EXPECT_ERROR(ImageTransform({.flip_probability = 2}), "ImageTransform: flip_probability must be in [0, 1], got 2");
  EXPECT_ERROR(ImageTransform({.mean = {0.5}}), "ImageTransform: mean and std must have one length, got 1 and 0");
  EXPECT_ERROR(ImageTransform({.crop = CropKind::center, .height = 64, .width = 64, .shortest_edge = 32}),
               "ImageTransform: shortest_edge must be at least height and width, got 32 for 64 x 64");
  EXPECT_ERROR(ImageTransform({.range = {.scale_min = 0.9, .scale_max = 0.5}}),
               "scale_min must be <= scale_max, got 0.9 and 0.5");
  EXPECT_ERROR(ImageTransform({.range = {.ratio_min = 3}}), "ratio_min must be <= ratio_max");
  const ImageTransform transform(mae_pretraining_transform(32));
  EXPECT_ERROR(transform(at::zeros({3, 4}, at::kByte), 0),
               "ImageTransform: image must be uint8 [H, W, C] and not empty, got uint8 [3, 4]");
  EXPECT_ERROR(transform(hills(8, 8, 1), 0),
               "ImageTransform: mean and std must be empty or hold 1 value(s), got 3 and 3");
  const TensorDataset grey(hills(8, 8, 1).unsqueeze(0), {});
  EXPECT_ERROR(transform.apply(grey, 0, 0, at::empty({3, 32, 32})),
               "ImageTransform: out must be float32 [1, 32, 32] for tensor, record 0");
}

TEST(CropResizeCuda, AgreesWithTheCpuKernel) {
  if (!winnow::testing::cuda_usable()) GTEST_SKIP() << "no GPU";
  for (const int64_t channels : {1, 2, 3, 4}) {
    for (const auto how : {Interpolation::bilinear, Interpolation::bicubic}) {
      for (const auto& box : {Box{0, 0, 301, 403}, Box{7, 11, 90, 60}, Box{300, 20, 1, 30}, Box{5, 5, 3, 2}}) {
        for (const auto& [height, width] : {std::pair<int64_t, int64_t>{224, 224}, {1, 1}, {33, 65}, {3, 2}}) {
          const auto image = hills(301, 403, channels);
          const auto wanted = crop_resize(image, box, height, width, how, true);
          const auto got = crop_resize(image.cuda(), box, height, width, how, true);
          EXPECT_TRUE(got.is_cuda());
          EXPECT_TENSOR_NEAR(got.cpu(), wanted, 1e-6);
        }
      }
    }
  }
}

}  // namespace
}  // namespace winnow::data
