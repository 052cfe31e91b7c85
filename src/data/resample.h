// The way from a decoded picture to the image_resize kernel. Inside src/data only.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "winnow/data/transforms.h"

namespace winnow::data {

// `box` of the picture is resized to resized_height x resized_width, of which height x width pixels at (top, left) are
// wanted, then mirrored.
struct Resampling {
  Box box;  // relative to the pixels given
  int64_t resized_height = 0, resized_width = 0;
  int64_t top = 0, left = 0, height = 0, width = 0;
  bool flip = false;
  Interpolation interpolation = Interpolation::bicubic;
};

// value * scale[c] + shift[c] is (value / 255 - mean) / std.
struct ChannelFactors {
  std::array<float, 4> scale{};
  std::array<float, 4> shift{};
};
// Throws winnow::Error, in the name of `what`, unless mean and std are empty or have one entry a channel, std > 0.
ChannelFactors channel_factors(const char* what, const std::vector<double>& mean, const std::vector<double>& std,
                               int64_t channels);

// pixels uint8 [H, W, C], rows of any stride, on the CPU or a GPU; out float [C, height, width], contiguous, on the
// same device. Everything has been checked.
void resample(const at::Tensor& pixels, const Resampling& how, const ChannelFactors& factors, const at::Tensor& out);

}  // namespace winnow::data
