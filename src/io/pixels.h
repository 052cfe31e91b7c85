// Steps that PNG and JPEG share: limits, channels, cutting.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "winnow/io/image.h"

namespace winnow::io {

// Throws Error(file) for more pixels than allowed.
void check_pixels(int64_t width, int64_t height, const ImageOptions& options, const std::string& name);

// Throws Error(argument) unless the region, if any, is a non-empty box inside the image.
void check_region(int64_t width, int64_t height, const ImageOptions& options, const std::string& name);

// uint8 [H, W, C] with the channels that the options ask for; the tensor itself where nothing has to change.
at::Tensor convert_channels(const at::Tensor& image, const ImageOptions& options);

// uint8 [H, W] or [H, W, C] as contiguous [H, W, C] on the CPU; throws Error(argument) for anything else.
at::Tensor check_picture(const at::Tensor& image, const char* function);

// The Orientation of EXIF data (what follows "Exif\0\0" in a JPEG's APP1 segment), or 1 if there is none or the data
// are malformed.
int64_t exif_orientation(Bytes tiff);

// The header of a format.
ImageInfo png_info(Bytes bytes, const std::string& name);
ImageInfo jpeg_info(Bytes bytes, const std::string& name);

}  // namespace winnow::io
