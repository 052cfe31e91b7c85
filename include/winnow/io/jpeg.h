// JPEG by libjpeg-turbo, with scaled and partial decoding for data loaders.
#pragma once

#include "winnow/io/image.h"

namespace winnow::io {

// Baseline and progressive JPEG, grey, YCbCr or RGB, as uint8 [H, W, C]. CMYK and YCCK (four inks, as Adobe writes
// them) are converted to RGB without a colour profile. A truncated or damaged scan is an error, not a grey area.
// Errors: see read_image.
at::Tensor read_jpeg(const std::filesystem::path& path, const ImageOptions& options = {});
at::Tensor read_jpeg(Bytes bytes, const ImageOptions& options = {}, const std::string& name = kMemoryName);

// Writes uint8 [H, W] or [H, W, C] with C = 1 or 3, atomically; quality 1..100. Chroma is subsampled 2x2 below
// quality 90 and kept whole from there.
void write_jpeg(const std::filesystem::path& path, const at::Tensor& image, int64_t quality = 90);
std::vector<uint8_t> encode_jpeg(const at::Tensor& image, int64_t quality = 90);

}  // namespace winnow::io
