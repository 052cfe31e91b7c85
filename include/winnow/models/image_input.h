// From a decoded picture to the input of a published network, as its preprocessor_config.json says.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "winnow/io/processor_config.h"
#include "winnow/models/pretrained.h"

namespace winnow::models {

// image uint8 [H, W, C] -> float [C, height, width]: resize (bilinear or bicubic with antialiasing, to whole numbers as
// Pillow does), central crop (zeros around a picture that is smaller), times rescale_factor, minus mean, over std.
// Throws Error(unsupported) for another filter, Error(argument) if mean has neither one nor C values.
at::Tensor prepare_image(const at::Tensor& image, const io::ProcessorConfig& config);

// A file, upright and with the network's number of channels (1 grey, 3 RGB, 4 with alpha), prepared: [1, C, height,
// width].
at::Tensor read_input(const std::filesystem::path& file, const Pretrained& model, const io::ProcessorConfig& config);

// preprocessor_config.json of the folder; where there is none, a resize to the network's own size and mean and std 0.5.
io::ProcessorConfig processor_of(const std::filesystem::path& folder, const Pretrained& model);

// Writes preprocessor_config.json into the folder, so that processor_of and transformers read the same back.
void save_processor(const io::ProcessorConfig& config, const std::filesystem::path& folder);

}  // namespace winnow::models
