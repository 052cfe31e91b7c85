// Images of any supported format as uint8 tensors, and sheets of pictures.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "winnow/io/bytes.h"

namespace winnow::io {

// Channels of the tensor that a reader gives. as_stored keeps the file's own: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA;
// a palette becomes RGB or RGBA. Grey of a colour image is its luma: round(0.299 R +
// 0.587 G + 0.114 B), or the Y that a JPEG stores. An opaque image asked
// for with alpha gets 255.
enum class Channels { as_stored, grey, grey_alpha, rgb, rgba };

// A box in pixels, inside the image.
struct PixelBox {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

// Images with more pixels than this are refused by default, before anything is allocated for them.
inline constexpr int64_t kMaxPixels = int64_t{16} << 20;

struct ImageOptions {
  Channels channels = Channels::as_stored;
  // Colour under the transparent parts when alpha is dropped. Without it the alpha channel is dropped as it is.
  std::optional<std::array<uint8_t, 3>> background{};
  int64_t max_pixels = kMaxPixels;
  // Turn and flip as the EXIF tag Orientation of a JPEG says, so that the picture stands upright.
  bool exif_orientation = false;
  // JPEG only: decode at 1/1, 1/2, 1/4 or 1/8 of the size (edges rounded up), which costs about that part of the time.
  int64_t scale_denominator = 1;
  // Only this part, in pixels of the (scaled, not yet turned) image; for JPEG the rest is not fully decoded.
  // The pixels equal those of the whole image, cut.
  std::optional<PixelBox> region{};
};

enum class ImageFormat { png, jpeg };

struct ImageInfo {
  ImageFormat format = ImageFormat::png;
  int64_t width = 0, height = 0;  // as stored
  int64_t channels = 0;           // as Channels::as_stored would give them
  int64_t orientation = 1;        // EXIF, 1 = upright, 1..8
};

// Reads PNG or JPEG by its first bytes: uint8 [H, W, C], contiguous. Throws Error(file) in one line that names the
// file for another format, a truncated or corrupted image, or one over max_pixels; Error(argument) for bad options.
at::Tensor read_image(const std::filesystem::path& path, const ImageOptions& options = {});
at::Tensor read_image(Bytes bytes, const ImageOptions& options = {}, const std::string& name = kMemoryName);

// From the headers alone.
ImageInfo image_info(const std::filesystem::path& path);
ImageInfo image_info(Bytes bytes, const std::string& name = kMemoryName);

// Turns and flips [H, W, C] by an EXIF orientation 1..8 so that it stands upright. Contiguous.
at::Tensor apply_orientation(const at::Tensor& image, int64_t orientation);

struct GridOptions {
  int64_t columns = 8;
  int64_t padding = 2;  // pixels between and around the pictures
  uint8_t fill = 255;
  int64_t zoom = 1;  // each pixel becomes zoom x zoom
};

// A sheet of equally large pictures, row by row: images [N, H, W, C] (N >= 1) of uint8, or of a floating dtype in
// [0, 1], which is clamped, scaled by 255 and rounded (NaN becomes 0). Gives uint8 [rows, columns, C].
at::Tensor image_grid(const at::Tensor& images, const GridOptions& options = {});

}  // namespace winnow::io
