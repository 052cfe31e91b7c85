#include "winnow/io/image.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/io/jpeg.h"
#include "winnow/io/png.h"

namespace winnow::testing {
namespace {

at::Tensor bytes(std::vector<int64_t> values, at::IntArrayRef shape) {
  return at::tensor(values).to(at::kByte).view(shape);
}

TEST(Image, TheFormatIsToldByTheFirstBytesNotTheName) {
  const TemporaryFolder folder;
  const auto picture = at::full({8, 8, 3}, 100, at::kByte);
  io::write_jpeg(folder / "a.png", picture);
  io::write_png(folder / "b.jpg", picture);
  EXPECT_EQ(io::image_info(folder / "a.png").format, io::ImageFormat::jpeg);
  EXPECT_EQ(io::image_info(folder / "b.jpg").format, io::ImageFormat::png);
  EXPECT_TENSOR_NEAR(io::read_image(folder / "a.png"), picture, 2);
  EXPECT_TENSOR_EQ(io::read_image(folder / "b.jpg"), picture);
}

TEST(Image, OtherFilesAreRefusedByName) {
  const TemporaryFolder folder;
  std::ofstream(folder / "x.png") << "GIF89a, or so";
  EXPECT_ERROR_KIND(io::read_image(folder / "x.png"), ErrorKind::file, "x.png: neither a PNG nor a JPEG image");
  std::ofstream(folder / "empty.png") << "";
  EXPECT_ERROR(io::read_image(folder / "empty.png"), "empty.png: the file is empty");
  EXPECT_ERROR(io::image_info(folder / "none.png"), "none.png");
}

TEST(Image, ChannelsAreConvertedByRule) {
  const auto rgba = bytes({200, 100, 50, 128, 10, 20, 30, 255}, {1, 2, 4});
  const auto png = io::encode_png(rgba);
  EXPECT_TENSOR_EQ(io::read_png(png), rgba);
  EXPECT_TENSOR_EQ(io::read_png(png, {.channels = io::Channels::rgb}), rgba.narrow(2, 0, 3));
  // 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2, 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
  EXPECT_TENSOR_EQ(io::read_png(png, {.channels = io::Channels::grey}), bytes({124, 18}, {1, 2, 1}));
  EXPECT_TENSOR_EQ(io::read_png(png, {.channels = io::Channels::grey_alpha}), bytes({124, 128, 18, 255}, {1, 2, 2}));
  // Over white: 200 * 128/255 + 255 * 127/255 = 227.4, 177.2, 152.1
  const io::ImageOptions white{.channels = io::Channels::rgb, .background = {{255, 255, 255}}};
  EXPECT_TENSOR_EQ(io::read_png(png, white), bytes({227, 177, 152, 10, 20, 30}, {1, 2, 3}));

  const auto grey = io::encode_png(bytes({7, 9}, {1, 2, 1}));
  EXPECT_TENSOR_EQ(io::read_png(grey, {.channels = io::Channels::rgb}), bytes({7, 7, 7, 9, 9, 9}, {1, 2, 3}));
  EXPECT_TENSOR_EQ(io::read_png(grey, {.channels = io::Channels::rgba}),
                   bytes({7, 7, 7, 255, 9, 9, 9, 255}, {1, 2, 4}));
}

TEST(Image, EveryOrientationStandsUprightAfterwards) {
  const auto upright = bytes({1, 2, 3, 4, 5, 6}, {2, 3, 1});
  // How a camera stores the upright picture under each tag: EXIF says where its first row and column are.
  const std::vector<std::pair<int64_t, at::Tensor>> stored = {
      {1, bytes({1, 2, 3, 4, 5, 6}, {2, 3, 1})}, {2, bytes({3, 2, 1, 6, 5, 4}, {2, 3, 1})},
      {3, bytes({6, 5, 4, 3, 2, 1}, {2, 3, 1})}, {4, bytes({4, 5, 6, 1, 2, 3}, {2, 3, 1})},
      {5, bytes({1, 4, 2, 5, 3, 6}, {3, 2, 1})}, {6, bytes({3, 6, 2, 5, 1, 4}, {3, 2, 1})},
      {7, bytes({6, 3, 5, 2, 4, 1}, {3, 2, 1})}, {8, bytes({4, 1, 5, 2, 6, 3}, {3, 2, 1})}};
  for (const auto& [orientation, picture] : stored) {
    EXPECT_TENSOR_EQ(io::apply_orientation(picture, orientation), upright) << orientation;
    EXPECT_TRUE(io::apply_orientation(picture, orientation).is_contiguous());
  }
  EXPECT_ERROR_KIND(io::apply_orientation(upright, 9), ErrorKind::argument,
                    "apply_orientation: orientation must be in [1, 8], got 9");
}

TEST(ImageGrid, PicturesStandRowByRowWithPadding) {
  const auto sheet = io::image_grid(bytes({1, 2, 3}, {3, 1, 1, 1}), {.columns = 2, .padding = 1, .fill = 9});
  EXPECT_TENSOR_EQ(sheet.squeeze(2),
                   bytes({9, 9, 9, 9, 9, 9, 1, 9, 2, 9, 9, 9, 9, 9, 9, 9, 3, 9, 9, 9, 9, 9, 9, 9, 9}, {5, 5}));
  EXPECT_TENSOR_EQ(io::image_grid(bytes({1, 2}, {1, 1, 2, 1}), {.padding = 0, .zoom = 2}).squeeze(2),
                   bytes({1, 1, 2, 2, 1, 1, 2, 2}, {2, 4}));
}

TEST(ImageGrid, FloatsAreClampedScaledAndRounded) {
  const auto values = at::tensor({-1.0f, 0.0f, 0.5f, 1.0f, 7.0f, std::nanf("")}).view({1, 1, 6, 1});
  EXPECT_TENSOR_EQ(io::image_grid(values, {.padding = 0}).view({-1}), bytes({0, 0, 128, 255, 255, 0}, {6}));
}

TEST(ImageGrid, WrongArgumentsAreNamed) {
  EXPECT_ERROR(io::image_grid(at::zeros({2, 3, 4})),
               "image_grid: images must be [N, H, W, C] with C in [1, 4] and not empty, got float32 [2, 3, 4]");
  EXPECT_ERROR(io::image_grid(at::zeros({0, 3, 4, 1})), "image_grid: images must be [N, H, W, C]");
  EXPECT_ERROR(io::image_grid(at::zeros({1, 3, 4, 1}, at::kLong)),
               "image_grid: images must be uint8 or floating, got int64");
  EXPECT_ERROR(io::image_grid(at::zeros({1, 3, 4, 1}), {.columns = 0}),
               "image_grid: columns and zoom must be >= 1 and padding >= 0, got 0, 1 and 2");
}

}  // namespace
}  // namespace winnow::testing
