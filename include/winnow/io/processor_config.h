// What published models say about their inputs and labels: preprocessor_config.json and the id2label of config.json.
#pragma once

#include <array>
#include <optional>

#include "winnow/io/json.h"

namespace winnow::io {

// The numbers are those of the files (and of the Pillow package).
enum class Resample { nearest = 0, lanczos = 1, bilinear = 2, bicubic = 3, box = 4, hamming = 5 };

// How large an image becomes. Either height and width, or the shortest edge (the aspect ratio is kept, and the longest
// edge, if given, is a bound).
struct ResizeSize {
  std::optional<int64_t> height{}, width{};
  std::optional<int64_t> shortest_edge{}, longest_edge{};
};

struct ProcessorConfig {
  bool do_resize = true;
  ResizeSize size{.height = 224, .width = 224};
  Resample resample = Resample::bilinear;
  bool do_center_crop = false;
  int64_t crop_height = 224, crop_width = 224;
  bool do_rescale = true;
  double rescale_factor = 1.0 / 255.0;
  bool do_normalize = true;
  std::vector<double> image_mean{0.5, 0.5, 0.5};  // one per channel, in units of rescaled pixels
  std::vector<double> image_std{0.5, 0.5, 0.5};
  bool do_convert_rgb = false;
};

// Reads `preprocessor_config.json` (or a folder that holds one). Accepted forms of size and crop_size: 224 (both edges;
// with do_center_crop the shortest edge, as the older classes meant it), {"height", "width"}, {"shortest_edge"[,
// "longest_edge"]}, {"longest_edge"} is refused. Absent keys keep the defaults above, which are those of ViT.
// Throws Error(file) naming file and key for a wrong type, a size < 1, an unknown resample, an std of 0, or mean and
// std of different lengths.
ProcessorConfig read_processor_config(const std::filesystem::path& path);
ProcessorConfig parse_processor_config(const JsonObject& config);

// The class names of a config.json, index by index, or an empty list where it has no id2label. Throws Error(file) if
// the ids are not 0..n-1.
std::vector<std::string> read_id2label(const JsonObject& config);

}  // namespace winnow::io
