#include "winnow/io/png.h"

#include <gtest/gtest.h>
#include <png.h>
#include <torch/torch.h>

#include <fstream>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/file.h"

namespace winnow::testing {
namespace {

struct Kind {
  int colour, depth;
  bool interlaced = false, transparent = false;
};

// A PNG of any kind with packed rows given as they stand in the file (16 bits: high byte first). Palette: entry i is
// (i, 2 i, 255 - i).
std::vector<uint8_t> make_png(const Kind& kind, uint32_t width, uint32_t height,
                              std::vector<std::vector<uint8_t>> rows) {
  std::vector<uint8_t> out;
  auto* png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  auto* info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep data, size_t n) {
        auto* to = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(p));
        to->insert(to->end(), data, data + n);
      },
      nullptr);
  png_set_IHDR(png, info, width, height, kind.depth, kind.colour,
               kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (kind.colour == PNG_COLOR_TYPE_PALETTE) {
    std::vector<png_color> palette;
    for (int i = 0; i < 1 << kind.depth; ++i) {
      palette.push_back({static_cast<png_byte>(i), static_cast<png_byte>(2 * i), static_cast<png_byte>(255 - i)});
    }
    png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  }
  png_byte alpha[] = {0, 128};
  png_color_16 clear{};
  clear.gray = clear.red = clear.green = clear.blue = 1;
  if (kind.transparent) png_set_tRNS(png, info, alpha, kind.colour == PNG_COLOR_TYPE_PALETTE ? 2 : 0, &clear);
  png_write_info(png, info);
  std::vector<png_bytep> pointers;
  for (auto& row : rows) pointers.push_back(row.data());
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

at::Tensor bytes(std::vector<int64_t> values, at::IntArrayRef shape) {
  return at::tensor(values).to(at::kByte).view(shape);
}

TEST(Png, GreyOfEveryDepthIsScaledToTheFullRange) {
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 1}, 4, 1, {{0b10110000}})),
                   bytes({255, 0, 255, 255}, {1, 4, 1}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 2}, 4, 1, {{0b00011011}})),
                   bytes({0, 85, 170, 255}, {1, 4, 1}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 4}, 3, 1, {{0x0f, 0x10}})),
                   bytes({0, 255, 17}, {1, 3, 1}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 8}, 2, 1, {{3, 250}})), bytes({3, 250}, {1, 2, 1}));
  // 16 bits: round(value / 257)
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 16}, 4, 1, {{0, 128, 0, 129, 0xff, 0xff, 0x12, 0x34}})),
                   bytes({0, 1, 255, 18}, {1, 4, 1}));
}

TEST(Png, PalettesBecomeRgbAndTransparentOnesRgba) {
  for (const int depth : {1, 2, 4, 8}) {
    const auto packed = static_cast<uint8_t>(depth == 8 ? 1 : 1 << (8 - depth));
    EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_PALETTE, depth}, 1, 1, {{packed}})),
                     bytes({1, 2, 254}, {1, 1, 3}));
    EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_PALETTE, depth, false, true}, 1, 1, {{packed}})),
                     bytes({1, 2, 254, 128}, {1, 1, 4}));
  }
}

TEST(Png, ColourAndAlphaOfBothDepths) {
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_RGB, 8}, 1, 1, {{1, 2, 3}})), bytes({1, 2, 3}, {1, 1, 3}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_RGB, 16}, 1, 1, {{1, 1, 2, 2, 255, 255}})),
                   bytes({1, 2, 255}, {1, 1, 3}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY_ALPHA, 8}, 1, 1, {{1, 2}})), bytes({1, 2}, {1, 1, 2}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_RGB_ALPHA, 16}, 1, 1, {{1, 1, 2, 2, 3, 3, 4, 4}})),
                   bytes({1, 2, 3, 4}, {1, 1, 4}));
  // One colour declared transparent is an alpha channel too.
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 8, false, true}, 2, 1, {{1, 2}})),
                   bytes({1, 0, 2, 255}, {1, 2, 2}));
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_RGB, 8, false, true}, 2, 1, {{1, 1, 1, 1, 1, 2}})),
                   bytes({1, 1, 1, 0, 1, 1, 2, 255}, {1, 2, 4}));
}

TEST(Png, InterlacedPicturesAreTheSamePicture) {
  torch::manual_seed(3);
  const auto picture = at::randint(0, 256, {13, 17, 3}, at::kByte);
  std::vector<std::vector<uint8_t>> rows;
  for (int64_t y = 0; y < 13; ++y) {
    const auto* start = picture.const_data_ptr<uint8_t>() + y * 17 * 3;
    rows.emplace_back(start, start + 17 * 3);
  }
  EXPECT_TENSOR_EQ(io::read_png(make_png({PNG_COLOR_TYPE_RGB, 8, true}, 17, 13, rows)), picture);
}

TEST(Png, EveryPictureComesBackFromMemoryAndDisk) {
  const TemporaryFolder folder;
  torch::manual_seed(4);
  for (const int64_t channels : {1, 2, 3, 4}) {
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {1, 33}, {64, 7}}) {
      const auto picture = at::randint(0, 256, {height, width, channels}, at::kByte);
      EXPECT_TENSOR_EQ(io::read_png(io::encode_png(picture)), picture);
      io::write_png(folder / "x.png", picture, 0);
      EXPECT_TENSOR_EQ(io::read_png(folder / "x.png"), picture);
      EXPECT_TENSOR_EQ(io::read_png(io::encode_png(picture.transpose(0, 1), 9)), picture.transpose(0, 1).contiguous());
    }
  }
  EXPECT_TENSOR_EQ(io::read_png(io::encode_png(at::ones({2, 3}, at::kByte))), at::ones({2, 3, 1}, at::kByte));
}

TEST(Png, ARegionIsThePictureCut) {
  torch::manual_seed(5);
  const auto picture = at::randint(0, 256, {10, 12, 3}, at::kByte);
  const auto png = io::encode_png(picture);
  EXPECT_TENSOR_EQ(io::read_png(png, {.region = io::PixelBox{3, 2, 5, 7}}), picture.narrow(0, 2, 7).narrow(1, 3, 5));
  for (const io::PixelBox& box : {io::PixelBox{8, 2, 5, 7}, {-1, 0, 2, 2}, {0, 0, 0, 1}, {0, 4, 1, 7}}) {
    EXPECT_ERROR_KIND(io::read_png(png, {.region = box}, "p.png"), ErrorKind::argument,
                      "p.png: region must lie inside 12 x 10 pixels");
  }
}

TEST(Png, DamageIsOneErrorThatNamesTheFile) {
  torch::manual_seed(6);
  const auto good = io::encode_png(at::randint(0, 256, {9, 9, 3}, at::kByte));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_ERROR_KIND(io::read_png(io::Bytes(good).first(size), {}, "p.png"), ErrorKind::file, "p.png: damaged PNG: ");
  }
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto damaged = good;
    damaged[i] ^= 0x40;
    EXPECT_ERROR_KIND(io::read_png(damaged, {}, "p.png"), ErrorKind::file, "p.png: ");
  }
  const TemporaryFolder folder;
  EXPECT_ERROR_KIND(io::read_png(folder / "none.png"), ErrorKind::file, "none.png");
}

TEST(Png, TooManyPixelsAreRefusedBeforeTheyAreDecoded) {
  const auto png = io::encode_png(at::zeros({4, 5, 1}, at::kByte));
  EXPECT_ERROR_KIND(io::read_png(png, {.max_pixels = 19}, "p.png"), ErrorKind::file,
                    "p.png: 5 x 4 pixels are more than the limit of 19");
  EXPECT_NO_THROW(io::read_png(png, {.max_pixels = 20}));
  // A header that promises 60000 x 60000 pixels, without any data.
  EXPECT_ERROR(io::read_png(make_png({PNG_COLOR_TYPE_GRAY, 1}, 5000, 4000,
                                     std::vector<std::vector<uint8_t>>(4000, std::vector<uint8_t>(625))),
                            {}, "big.png"),
               "big.png: 5000 x 4000 pixels are more than the limit of 16777216");
}

TEST(Png, WrongArgumentsAreNamed) {
  const TemporaryFolder folder;
  EXPECT_ERROR_KIND(io::encode_png(at::zeros({2, 2})), ErrorKind::argument,
                    "write_png: image must be uint8 [H, W] or [H, W, C] and not empty, got float32 [2, 2]");
  EXPECT_ERROR(io::encode_png(at::zeros({0, 2, 3}, at::kByte)), "write_png: image must be uint8");
  EXPECT_ERROR(io::encode_png(at::zeros({2, 2, 5}, at::kByte)), "write_png: image must have 1 to 4 channels, got 5");
  EXPECT_ERROR(io::encode_png(at::zeros({2, 2}, at::kByte), 10), "write_png: compression must be in [0, 9], got 10");
  EXPECT_ERROR(io::read_png(io::encode_png(at::zeros({2, 2}, at::kByte)), {.scale_denominator = 2}),
               "read_png: scale_denominator must be 1, got 2");
  EXPECT_ERROR(io::read_png(io::encode_png(at::zeros({2, 2}, at::kByte)), {.max_pixels = 0}),
               "read_image: max_pixels must be >= 1, got 0");
  EXPECT_ERROR_KIND(io::write_png(folder / "no/folder/x.png", at::zeros({2, 2}, at::kByte)), ErrorKind::file,
                    "no/folder/x.png");
}

}  // namespace
}  // namespace winnow::testing
