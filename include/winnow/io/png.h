// PNG by libpng.
#pragma once

#include "winnow/io/image.h"

namespace winnow::io {

// Any PNG (grey, grey and alpha, palette, RGB, RGBA; 1 to 16 bits; interlaced) as uint8 [H, W, C]. 16-bit values are
// scaled to 8 by rounding; no gamma is applied. Errors: see read_image. scale_denominator must be 1.
at::Tensor read_png(const std::filesystem::path& path, const ImageOptions& options = {});
at::Tensor read_png(Bytes bytes, const ImageOptions& options = {}, const std::string& name = kMemoryName);

// Writes uint8 [H, W] or [H, W, C] with C in 1..4, atomically. compression is 0 (none) to 9 (smallest).
void write_png(const std::filesystem::path& path, const at::Tensor& image, int64_t compression = 6);
std::vector<uint8_t> encode_png(const at::Tensor& image, int64_t compression = 6);

}  // namespace winnow::io
