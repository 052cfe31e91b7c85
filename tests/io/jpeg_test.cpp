#include "winnow/io/jpeg.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "jpeg_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::testing {
namespace {

// A picture of slow waves in colour: JPEG keeps it within a few steps.
at::Tensor smooth(int64_t height, int64_t width, int64_t channels) {
  const auto y = at::arange(height, at::kFloat).view({-1, 1, 1}) / 20,
             x = at::arange(width, at::kFloat).view({1, -1, 1}) / 15;
  const auto c = at::arange(channels, at::kFloat).view({1, 1, -1});
  return (127.5 + 100 * at::sin(y + 0.3 * c) * at::cos(x - c)).round().to(at::kByte);
}

const std::vector<JpegKind>& kinds() {
  static const std::vector<JpegKind> all = {{.horizontal = 1, .vertical = 1},
                                            {.horizontal = 2, .vertical = 1},
                                            {.horizontal = 2, .vertical = 2},
                                            {.horizontal = 1, .vertical = 2},
                                            {.horizontal = 4, .vertical = 1},
                                            {.space = JCS_RGB},
                                            {.horizontal = 2, .vertical = 2, .progressive = true},
                                            {.horizontal = 2, .vertical = 1, .progressive = true, .restart_rows = 1},
                                            {.horizontal = 2, .vertical = 2, .restart_rows = 2}};
  return all;
}

TEST(Jpeg, EveryKindIsReadCloseToThePicture) {
  const auto picture = smooth(45, 70, 3);
  for (const auto& kind : kinds()) {
    const auto bytes = make_jpeg(picture, kind, 95);
    EXPECT_TENSOR_NEAR(io::read_jpeg(bytes), picture, 14);
    EXPECT_LT((io::read_jpeg(bytes).to(at::kFloat) - picture.to(at::kFloat)).abs().mean().item<double>(), 3.0);
  }
  const auto grey = smooth(45, 70, 1);
  const auto bytes = make_jpeg(grey, {.space = JCS_GRAYSCALE}, 95);
  EXPECT_TENSOR_NEAR(io::read_jpeg(bytes), grey, 6);
  EXPECT_EQ(io::image_info(bytes).channels, 1);
  EXPECT_TENSOR_EQ(io::read_jpeg(bytes, {.channels = io::Channels::rgb}),
                   io::read_jpeg(bytes).expand({45, 70, 3}).contiguous());
}

TEST(Jpeg, WritingAndReadingKeepsThePicture) {
  const TemporaryFolder folder;
  for (const int64_t channels : {1, 3}) {
    const auto picture = smooth(33, 50, channels);
    io::write_jpeg(folder / "x.jpg", picture, 95);
    EXPECT_TENSOR_NEAR(io::read_jpeg(folder / "x.jpg"), picture, 6);
    EXPECT_TENSOR_EQ(io::read_jpeg(folder / "x.jpg"), io::read_jpeg(io::encode_jpeg(picture, 95)));
  }
  EXPECT_LT(io::encode_jpeg(smooth(64, 64, 3), 10).size(), io::encode_jpeg(smooth(64, 64, 3), 95).size());
}

TEST(Jpeg, GreyIsTheStoredLuma) {
  const auto picture = smooth(40, 40, 3);
  const auto grey =
      io::read_jpeg(make_jpeg(picture, {.horizontal = 1, .vertical = 1}, 98), {.channels = io::Channels::grey});
  const auto rgb = picture.to(at::kFloat);
  const auto luma = rgb.select(2, 0) * 0.299 + rgb.select(2, 1) * 0.587 + rgb.select(2, 2) * 0.114;
  EXPECT_EQ(grey.sizes(), (std::vector<int64_t>{40, 40, 1}));
  EXPECT_TENSOR_NEAR(grey.squeeze(2).to(at::kFloat), luma, 4);
}

TEST(Jpeg, ScaledDecodingIsTheMeanOfBlocks) {
  const auto picture = smooth(61, 90, 3);
  for (const auto& kind : kinds()) {
    const auto bytes = make_jpeg(picture, kind, 95);
    // At small scales libjpeg repeats colours that are stored once for two pixels in one direction only.
    const bool colour_kept = kind.space == JCS_RGB || kind.horizontal == kind.vertical;
    for (const auto channels : {io::Channels::grey, io::Channels::rgb}) {
      const auto whole = io::read_jpeg(bytes, {.channels = channels}).to(at::kFloat).permute({2, 0, 1});
      for (const int64_t scale : {2, 4, 8}) {
        const auto small = io::read_jpeg(bytes, {.channels = channels, .scale_denominator = scale});
        const auto height = (61 + scale - 1) / scale, width = (90 + scale - 1) / scale;
        EXPECT_EQ(small.sizes(), (std::vector<int64_t>{height, width, whole.size(0)}));
        if (channels == io::Channels::rgb && !colour_kept) continue;
        const auto mean = at::avg_pool2d(whole, {scale, scale}).permute({1, 2, 0});
        const auto inner = small.narrow(0, 0, mean.size(0)).narrow(1, 0, mean.size(1)).to(at::kFloat);
        EXPECT_LT((inner - mean).abs().mean().item<double>(), 2.5) << scale;
      }
    }
  }
}

TEST(Jpeg, ARegionEqualsTheWholePictureCut) {
  torch::manual_seed(7);
  // Noise, so that a wrong neighbour at the edge of the region would show.
  const auto picture = at::randint(0, 256, {83, 117, 3}, at::kByte);
  for (auto kind : kinds()) {
    const auto bytes = make_jpeg(picture, kind, 90);
    for (const int64_t scale : {1, 2, 4, 8}) {
      const auto whole = io::read_jpeg(bytes, {.scale_denominator = scale});
      const auto height = whole.size(0), width = whole.size(1);
      for (int trial = 0; trial < 12; ++trial) {
        const auto w = at::randint(1, width + 1, {}).item<int64_t>(),
                   h = at::randint(1, height + 1, {}).item<int64_t>();
        const auto x = at::randint(0, width - w + 1, {}).item<int64_t>(),
                   y = at::randint(0, height - h + 1, {}).item<int64_t>();
        const auto part = io::read_jpeg(bytes, {.scale_denominator = scale, .region = io::PixelBox{x, y, w, h}});
        ASSERT_TRUE(at::equal(part, whole.narrow(0, y, h).narrow(1, x, w)))
            << kind.horizontal << "x" << kind.vertical << " progressive " << kind.progressive << " scale " << scale
            << " box " << x << " " << y << " " << w << " " << h;
        EXPECT_TRUE(part.is_contiguous());
      }
    }
  }
  EXPECT_ERROR_KIND(
      io::read_jpeg(make_jpeg(picture), {.scale_denominator = 8, .region = io::PixelBox{0, 0, 16, 1}}, "p.jpg"),
      ErrorKind::argument, "p.jpg: region must lie inside 15 x 11 pixels, got x 0, y 0, 16 x 1");
}

TEST(Jpeg, FourInksBecomeRgb) {
  // Adobe's convention, which libjpeg writes as given: 255 - ink.
  const auto inks = at::tensor({255, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255, 0, 255, 128, 0, 255}, at::kByte)
                        .view({4, 1, 1, 4});
  const auto wanted = at::tensor({255, 255, 255, 0, 255, 255, 0, 0, 0, 255, 128, 0}, at::kByte).view({4, 1, 1, 3});
  for (const auto space : {JCS_CMYK, JCS_YCCK}) {
    for (int64_t i = 0; i < 4; ++i) {
      const auto bytes = make_jpeg(inks[i].expand({16, 16, 4}), {.space = space}, 100);
      EXPECT_TENSOR_NEAR(io::read_jpeg(bytes), wanted[i].expand({16, 16, 3}), 3);
    }
  }
}

TEST(Jpeg, OrientationIsReadAndHonouredOnRequest) {
  const auto picture = smooth(16, 24, 3);
  for (const bool big : {false, true}) {
    for (int orientation = 1; orientation <= 8; ++orientation) {
      const auto bytes = make_jpeg(picture, {.orientation = orientation, .big_endian_exif = big});
      EXPECT_EQ(io::image_info(bytes).orientation, orientation);
      EXPECT_EQ(io::read_jpeg(bytes).sizes(), (std::vector<int64_t>{16, 24, 3}));
      EXPECT_TENSOR_EQ(io::read_jpeg(bytes, {.exif_orientation = true}),
                       io::apply_orientation(io::read_jpeg(bytes), orientation));
    }
  }
  EXPECT_EQ(io::image_info(make_jpeg(picture, {.orientation = 9})).orientation, 1);
  EXPECT_EQ(io::image_info(make_jpeg(picture)).orientation, 1);
}

TEST(Jpeg, TruncationIsAnErrorNotAGreyArea) {
  for (const auto& kind : kinds()) {
    const auto good = make_jpeg(smooth(40, 40, 3), kind);
    for (std::size_t size = 0; size + 2 < good.size(); size += 7) {
      EXPECT_ERROR_KIND(io::read_jpeg(io::Bytes(good).first(size), {}, "p.jpg"), ErrorKind::file,
                        "p.jpg: damaged JPEG: ");
    }
  }
  const auto good = make_jpeg(smooth(40, 40, 3));
  EXPECT_ERROR(io::read_jpeg(io::Bytes(good).first(good.size() / 2), {}, "p.jpg"),
               "p.jpg: damaged JPEG: Premature end of JPEG file");
  const TemporaryFolder folder;
  EXPECT_ERROR_KIND(io::read_jpeg(folder / "none.jpg"), ErrorKind::file, "none.jpg");
}

TEST(Jpeg, ADamagedByteGivesAPictureOrOneError) {
  torch::manual_seed(8);
  const auto good = make_jpeg(smooth(40, 40, 3), {.restart_rows = 1});
  int refused = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto damaged = good;
    damaged[i] ^= 0x5a;
    try {
      io::read_jpeg(damaged, {.max_pixels = 1 << 16}, "p.jpg");
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find("p.jpg: "), 0u) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
  }
  EXPECT_GT(refused, 10);
}

TEST(Jpeg, LimitsAndArgumentsAreChecked) {
  const auto bytes = make_jpeg(smooth(10, 20, 3));
  EXPECT_ERROR_KIND(io::read_jpeg(bytes, {.max_pixels = 199}, "p.jpg"), ErrorKind::file,
                    "p.jpg: 20 x 10 pixels are more than the limit of 199");
  EXPECT_ERROR_KIND(io::read_jpeg(bytes, {.scale_denominator = 3}), ErrorKind::argument,
                    "read_jpeg: scale_denominator must be 1, 2, 4 or 8, got 3");
  EXPECT_ERROR(io::encode_jpeg(smooth(4, 4, 2)), "write_jpeg: image must have 1 or 3 channels, got 2");
  EXPECT_ERROR(io::encode_jpeg(smooth(4, 4, 3), 0), "write_jpeg: quality must be in [1, 100], got 0");
  EXPECT_ERROR(io::encode_jpeg(at::zeros({4, 4, 3})),
               "write_jpeg: image must be uint8 [H, W] or [H, W, C] and not empty, got float32 [4, 4, 3]");
  EXPECT_ERROR(io::encode_jpeg(at::zeros({1, 70000}, at::kByte)),
               "write_jpeg: image must have at most 65500 rows and columns, got 1 x 70000");
}

}  // namespace
}  // namespace winnow::testing
