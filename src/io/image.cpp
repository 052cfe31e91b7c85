#include "winnow/io/image.h"

#include <ATen/ops/full.h>

#include <algorithm>

#include "pixels.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/io/jpeg.h"
#include "winnow/io/png.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

ImageFormat format_of(Bytes bytes, const std::string& name) {
  if (bytes.size() >= 8 && as_text(bytes.first(8)) == "\x89PNG\r\n\x1a\n") return ImageFormat::png;
  if (bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return ImageFormat::jpeg;
  fail(ErrorKind::file, "{}: {}", name, bytes.empty() ? "the file is empty" : "neither a PNG nor a JPEG image");
}

}  // namespace

at::Tensor read_image(const std::filesystem::path& path, const ImageOptions& options) {
  return read_image(as_bytes(winnow::read_file(path.string())), options, path.string());
}

at::Tensor read_image(Bytes bytes, const ImageOptions& options, const std::string& name) {
  if (format_of(bytes, name) == ImageFormat::png) return read_png(bytes, options, name);
  return read_jpeg(bytes, options, name);
}

ImageInfo image_info(const std::filesystem::path& path) {
  return image_info(as_bytes(winnow::read_file(path.string())), path.string());
}

ImageInfo image_info(Bytes bytes, const std::string& name) {
  return format_of(bytes, name) == ImageFormat::png ? png_info(bytes, name) : jpeg_info(bytes, name);
}

at::Tensor apply_orientation(const at::Tensor& image, int64_t orientation) {
  WINNOW_CHECK(image.defined() && image.dim() == 3, "apply_orientation: image must be [H, W, C], got {}", image);
  switch (orientation) {
    case 1: return image.contiguous();
    case 2: return image.flip({1});
    case 3: return image.flip({0, 1});
    case 4: return image.flip({0});
    case 5: return image.transpose(0, 1).contiguous();
    case 6: return image.transpose(0, 1).flip({1}).contiguous();     // a quarter turn clockwise
    case 7: return image.transpose(0, 1).flip({0, 1}).contiguous();  // mirrored along the other diagonal
    case 8: return image.transpose(0, 1).flip({0}).contiguous();     // a quarter turn anticlockwise
    default: fail(ErrorKind::argument, "apply_orientation: orientation must be in [1, 8], got {}", orientation);
  }
}

at::Tensor image_grid(const at::Tensor& images, const GridOptions& options) {
  WINNOW_CHECK(images.defined() && images.dim() == 4 && images.numel() > 0 && images.size(3) <= 4,
               "image_grid: images must be [N, H, W, C] with C in [1, 4] and not empty, got {}", images);
  const bool is_byte = images.scalar_type() == at::kByte;
  WINNOW_CHECK(is_byte || images.is_floating_point(), "image_grid: images must be uint8 or floating, got {}",
               images.scalar_type());
  WINNOW_CHECK(options.columns >= 1 && options.padding >= 0 && options.zoom >= 1,
               "image_grid: columns and zoom must be >= 1 and padding >= 0, got {}, {} and {}", options.columns,
               options.zoom, options.padding);
  auto pictures = images.detach().cpu();
  if (!is_byte) pictures = pictures.to(at::kFloat).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).mul(255).round().to(at::kByte);
  if (options.zoom > 1) pictures = pictures.repeat_interleave(options.zoom, 1).repeat_interleave(options.zoom, 2);

  const auto count = pictures.size(0), height = pictures.size(1), width = pictures.size(2);
  const auto columns = std::min(options.columns, count), rows = (count + columns - 1) / columns;
  const auto pad = options.padding;
  auto sheet = at::full({rows * (height + pad) + pad, columns * (width + pad) + pad, pictures.size(3)},
                        static_cast<int64_t>(options.fill), at::kByte);
  for (int64_t i = 0; i < count; ++i) {
    const auto y = pad + i / columns * (height + pad), x = pad + i % columns * (width + pad);
    sheet.narrow(0, y, height).narrow(1, x, width).copy_(pictures[i]);
  }
  return sheet;
}

}  // namespace winnow::io
