#include "pixels.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

// round(0.299 r + 0.587 g + 0.114 b) in 16-bit fixed point.
uint8_t luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
}

// value over background, weighted by alpha / 255, rounded.
uint8_t over(unsigned value, unsigned background, unsigned alpha) {
  return static_cast<uint8_t>((value * alpha + background * (255u - alpha) + 127u) / 255u);
}

int64_t channel_count(Channels channels) {
  return static_cast<int64_t>(channels);
}

}  // namespace

void check_pixels(int64_t width, int64_t height, const ImageOptions& options, const std::string& name) {
  WINNOW_CHECK(options.max_pixels >= 1, "read_image: max_pixels must be >= 1, got {}", options.max_pixels);
  WINNOW_CHECK_KIND(width >= 1 && height >= 1, ErrorKind::file, "{}: an image of {} x {} pixels", name, width, height);
  WINNOW_CHECK_KIND(width <= options.max_pixels / height, ErrorKind::file,
                    "{}: {} x {} pixels are more than the limit of {}", name, width, height, options.max_pixels);
}

void check_region(int64_t width, int64_t height, const ImageOptions& options, const std::string& name) {
  if (!options.region) return;
  const auto [x, y, w, h] = *options.region;
  WINNOW_CHECK(w >= 1 && h >= 1 && x >= 0 && y >= 0 && x <= width - w && y <= height - h,
               "read_image: {}: region must lie inside {} x {} pixels, got x {}, y {}, {} x {}", name, width, height, x,
               y, w, h);
}

at::Tensor convert_channels(const at::Tensor& image, const ImageOptions& options) {
  static_assert(static_cast<int>(Channels::grey) == 1 && static_cast<int>(Channels::rgba) == 4);
  const int64_t from = image.size(2);
  const int64_t to = options.channels == Channels::as_stored ? from : channel_count(options.channels);
  if (from == to) return image;

  const bool from_colour = from >= 3, to_colour = to >= 3, from_alpha = from % 2 == 0, to_alpha = to % 2 == 0;
  const bool compose = from_alpha && !to_alpha && options.background.has_value();
  auto result = at::empty({image.size(0), image.size(1), to}, at::kByte);
  const auto* in = image.const_data_ptr<uint8_t>();
  auto* out = result.mutable_data_ptr<uint8_t>();
  const auto pixels = image.size(0) * image.size(1);
  for (int64_t i = 0; i < pixels; ++i, in += from, out += to) {
    uint8_t rgb[3] = {in[0], from_colour ? in[1] : in[0], from_colour ? in[2] : in[0]};
    const uint8_t alpha = from_alpha ? in[from - 1] : uint8_t{255};
    if (compose) {
      for (std::size_t c = 0; c < 3; ++c) rgb[c] = over(rgb[c], (*options.background)[c], alpha);
    }
    if (to_colour) {
      std::copy_n(rgb, 3, out);
    } else {
      out[0] = luma(rgb);
    }
    if (to_alpha) out[to - 1] = alpha;
  }
  return result;
}

at::Tensor check_picture(const at::Tensor& image, const char* function) {
  WINNOW_CHECK(image.defined() && image.scalar_type() == at::kByte && (image.dim() == 2 || image.dim() == 3) &&
                   image.numel() > 0,
               "{}: image must be uint8 [H, W] or [H, W, C] and not empty, got {}", function, image);
  auto picture = image.dim() == 2 ? image.unsqueeze(2) : image;
  WINNOW_CHECK(picture.size(2) <= 4, "{}: image must have 1 to 4 channels, got {}", function, picture.size(2));
  return picture.cpu().contiguous();
}

int64_t exif_orientation(Bytes tiff) {
  if (tiff.size() < 8) return 1;
  const bool little = tiff[0] == 'I' && tiff[1] == 'I';
  if (!little && !(tiff[0] == 'M' && tiff[1] == 'M')) return 1;
  const auto number = [&](std::size_t at, std::size_t bytes) {
    uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) value |= uint64_t{tiff[at + i]} << (8 * (little ? i : bytes - 1 - i));
    return value;
  };
  const auto directory = static_cast<std::size_t>(number(4, 4));
  if (directory > tiff.size() - 2) return 1;
  const auto count = number(directory, 2);
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) return 1;
    constexpr uint64_t kOrientation = 0x0112, kShort = 3;
    if (number(entry, 2) != kOrientation || number(entry + 2, 2) != kShort) continue;
    const auto value = static_cast<int64_t>(number(entry + 8, 2));
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

}  // namespace winnow::io
