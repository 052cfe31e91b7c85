#include "winnow/models/image_input.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/io/png.h"
#include "winnow/models/vit.h"

namespace winnow::models {
namespace {

// uint8 [height, width, channels] counting from 0.
at::Tensor counting(int64_t height, int64_t width, int64_t channels) {
  return at::arange(height * width * channels, at::kLong).remainder(256).to(at::kByte).view({height, width, channels});
}

const io::ProcessorConfig kPlain{.do_resize = false, .do_rescale = false, .do_normalize = false};

TEST(PrepareImage, RescalesAndNormalisesPerChannel) {
  const auto image = at::tensor({0, 255, 51, 102}, at::kByte).view({1, 2, 2});
  const io::ProcessorConfig config{.do_resize = false, .image_mean = {0.5, 0.2}, .image_std = {0.5, 0.1}};
  // Channel 0 holds 0 and 51 = 0.2, channel 1 holds 255 = 1 and 102 = 0.4.
  const auto wanted = at::tensor({-1.0f, -0.6f, 8.0f, 2.0f}).view({2, 1, 2});
  EXPECT_TENSOR_NEAR(prepare_image(image, config), wanted, 1e-5);
  EXPECT_ERROR(prepare_image(counting(2, 2, 3), config),
               "prepare_image: image_mean must have 3 values, one per channel, got 2");
}

TEST(PrepareImage, CropsTheCentreAndPadsWithZeros) {
  auto config = kPlain;
  config.do_center_crop = true;
  config.crop_height = 2;
  config.crop_width = 4;
  const auto image = counting(5, 3, 1);  // rows 0 1 2, 3 4 5, 6 7 8, 9 10 11, 12 13 14
  // Rows 1 and 2; one column is missing and stands on the left.
  const auto wanted = at::tensor({0.f, 3.f, 4.f, 5.f, 0.f, 6.f, 7.f, 8.f}).view({1, 2, 4});
  EXPECT_TENSOR_EQ(prepare_image(image, config), wanted);
}

TEST(PrepareImage, SizesOfTheResize) {
  auto config = kPlain;
  config.do_resize = true;
  const auto size_of = [&](int64_t height, int64_t width, io::ResizeSize size) {
    config.size = size;
    return prepare_image(counting(height, width, 3), config).sizes().vec();
  };
  EXPECT_EQ(size_of(10, 7, {.height = 4, .width = 6}), (std::vector<int64_t>{3, 4, 6}));
  EXPECT_EQ(size_of(10, 7, {.shortest_edge = 5}), (std::vector<int64_t>{3, 7, 5}));  // int(50 / 7) = 7
  EXPECT_EQ(size_of(7, 10, {.shortest_edge = 5}), (std::vector<int64_t>{3, 5, 7}));
  EXPECT_EQ(size_of(5, 20, {.shortest_edge = 5, .longest_edge = 10}), (std::vector<int64_t>{3, 2, 10}));
  config.resample = io::Resample::lanczos;
  EXPECT_ERROR_KIND(size_of(10, 7, {.height = 4, .width = 6}), ErrorKind::unsupported,
                    "resample must be bilinear (2) or bicubic (3), got 1");
  EXPECT_EQ(size_of(4, 6, {.height = 4, .width = 6}), (std::vector<int64_t>{3, 4, 6}));  // nothing to do
}

TEST(PrepareImage, AConstantPictureStaysConstant) {
  for (const auto filter : {io::Resample::bilinear, io::Resample::bicubic}) {
    const io::ProcessorConfig config{.size = {.height = 5, .width = 9}, .resample = filter};
    EXPECT_TENSOR_NEAR(prepare_image(at::full({20, 11, 3}, 255, at::kByte), config), at::ones({3, 5, 9}), 1e-6);
  }
}

ViT grey_network() {
  return ViT(ViTConfig{.trunk = {.image_height = 4,
                                 .image_width = 8,
                                 .patch_size = 4,
                                 .num_channels = 1,
                                 .hidden_size = 4,
                                 .num_hidden_layers = 1,
                                 .num_attention_heads = 1,
                                 .intermediate_size = 4}});
}

TEST(ReadInput, APictureBecomesTheInputOfTheNetworkWithoutAProcessorFile) {
  const testing::TemporaryFolder folder;
  const auto model = grey_network();
  io::write_png(folder.path() / "grey.png", at::full({9, 5, 1}, 255, at::kByte));
  io::write_png(folder.path() / "colour.png", at::full({9, 5, 3}, 255, at::kByte));
  const auto config = processor_of(folder.path(), *model);
  for (const auto* name : {"grey.png", "colour.png"}) {
    EXPECT_TENSOR_NEAR(read_input(folder.path() / name, *model, config), at::ones({1, 1, 4, 8}), 1e-6);
  }
  EXPECT_ERROR_KIND(read_input(folder.path() / "none.png", *model, config), ErrorKind::file, "none.png");
}

TEST(ReadInput, AProcessorThatIsSavedReadsBack) {
  const testing::TemporaryFolder folder;
  const auto model = grey_network();
  const io::ProcessorConfig plain{.size = {.height = 28, .width = 30},
                                  .resample = io::Resample::bicubic,
                                  .image_mean = {0.286},
                                  .image_std = {0.353}};
  const io::ProcessorConfig cropped{.size = {.shortest_edge = 256},
                                    .do_center_crop = true,
                                    .crop_height = 100,
                                    .crop_width = 120,
                                    .do_rescale = false};
  for (const auto& config : {plain, cropped}) {
    save_processor(config, folder.path());
    const auto again = processor_of(folder.path(), *model);
    EXPECT_EQ(again.size.height, config.size.height);
    EXPECT_EQ(again.size.width, config.size.width);
    EXPECT_EQ(again.size.shortest_edge, config.size.shortest_edge);
    EXPECT_EQ(again.resample, config.resample);
    EXPECT_EQ(again.do_center_crop, config.do_center_crop);
    if (config.do_center_crop) {
      EXPECT_EQ(again.crop_height, config.crop_height);
      EXPECT_EQ(again.crop_width, config.crop_width);
    }
    EXPECT_EQ(again.do_rescale, config.do_rescale);
    EXPECT_EQ(again.image_mean, config.image_mean);
    EXPECT_EQ(again.image_std, config.image_std);
  }
}

}  // namespace
}  // namespace winnow::models
