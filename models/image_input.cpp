#include "winnow/models/image_input.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/data/transforms.h"
#include "winnow/io/image.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow::models {
namespace {

data::Interpolation interpolation_of(io::Resample resample) {
  switch (resample) {
    case io::Resample::bilinear: return data::Interpolation::bilinear;
    case io::Resample::bicubic: return data::Interpolation::bicubic;
    default:
      fail(ErrorKind::unsupported, "prepare_image: resample must be bilinear (2) or bicubic (3), got {}",
           static_cast<int>(resample));
  }
}

// Height and width after the resize; a shortest edge keeps the ratio, the longer side rounded down.
std::pair<int64_t, int64_t> resized_size(const io::ResizeSize& size, int64_t height, int64_t width) {
  if (size.height && size.width) return {*size.height, *size.width};
  WINNOW_CHECK(size.shortest_edge.has_value(), "prepare_image: size must have height and width or shortest_edge");
  const auto small = std::min(height, width), large = std::max(height, width);
  auto new_small = *size.shortest_edge, new_large = new_small * large / small;
  if (size.longest_edge && new_large > *size.longest_edge) {
    new_small = *size.longest_edge * new_small / new_large;
    new_large = *size.longest_edge;
  }
  new_small = std::max<int64_t>(new_small, 1);
  return height <= width ? std::pair{new_small, new_large} : std::pair{new_large, new_small};
}

// Where the crop begins, rounded down; negative where the picture is smaller.
int64_t crop_begin(int64_t size, int64_t crop) {
  const auto room = size - crop;
  return room >= 0 ? room / 2 : -((-room + 1) / 2);
}

at::Tensor center_crop(const at::Tensor& image, int64_t height, int64_t width) {
  const auto top = crop_begin(image.size(0), height), left = crop_begin(image.size(1), width);
  if (top >= 0 && left >= 0) return image.slice(0, top, top + height).slice(1, left, left + width);
  auto canvas = at::zeros({height, width, image.size(2)}, image.options());
  const auto y = std::max<int64_t>(top, 0), x = std::max<int64_t>(left, 0);
  const auto part =
      image.slice(0, y, std::min(top + height, image.size(0))).slice(1, x, std::min(left + width, image.size(1)));
  const auto to_y = std::max<int64_t>(-top, 0), to_x = std::max<int64_t>(-left, 0);
  canvas.slice(0, to_y, to_y + part.size(0)).slice(1, to_x, to_x + part.size(1)).copy_(part);
  return canvas;
}

}  // namespace

at::Tensor prepare_image(const at::Tensor& image, const io::ProcessorConfig& config) {
  check_dtype("prepare_image: image", image, at::kByte);
  check_dim("prepare_image: image", image, 3);
  auto pixels = image;  // [H, W, C]
  if (config.do_resize) {
    const auto [height, width] = resized_size(config.size, image.size(0), image.size(1));
    if (height != image.size(0) || width != image.size(1)) {
      pixels = data::resize(image.contiguous(), height, width, interpolation_of(config.resample));
    }
  }
  if (config.do_center_crop) pixels = center_crop(pixels, config.crop_height, config.crop_width);
  auto x = pixels.permute({2, 0, 1}).to(at::kFloat);  // [C, H, W]
  if (config.do_rescale) x = x * config.rescale_factor;
  if (config.do_normalize) {
    const auto channel_values = [&](const std::vector<double>& values, const char* name) {
      const auto count = static_cast<int64_t>(values.size());
      WINNOW_CHECK(count == 1 || count == x.size(0), "prepare_image: {} must have {} values, one per channel, got {}",
                   name, x.size(0), count);
      return at::tensor(values, at::kFloat).view({count, 1, 1});
    };
    x = (x - channel_values(config.image_mean, "image_mean")) / channel_values(config.image_std, "image_std");
  }
  return x.contiguous();
}

at::Tensor read_input(const std::filesystem::path& file, const Pretrained& model, const io::ProcessorConfig& config) {
  const auto channels = model.image_shape().channels;
  WINNOW_CHECK_KIND(channels == 1 || channels == 3 || channels == 4, ErrorKind::unsupported,
                    "read_input: the network takes {} channels; a picture has 1, 3 or 4", channels);
  const io::ImageOptions options{.channels = channels == 1   ? io::Channels::grey
                                             : channels == 3 ? io::Channels::rgb
                                                             : io::Channels::rgba,
                                 .exif_orientation = true};
  return prepare_image(io::read_image(file, options), config).unsqueeze(0);
}

io::ProcessorConfig processor_of(const std::filesystem::path& folder, const Pretrained& model) {
  if (std::filesystem::exists(folder / "preprocessor_config.json")) return io::read_processor_config(folder);
  const auto shape = model.image_shape();
  return {.size = {.height = shape.height, .width = shape.width}, .image_mean = {0.5}, .image_std = {0.5}};
}

void save_processor(const io::ProcessorConfig& config, const std::filesystem::path& folder) {
  io::Json size = io::Json::object();
  const auto put = [&](const char* key, const std::optional<int64_t>& value) {
    if (value) size[key] = *value;
  };
  put("height", config.size.height);
  put("width", config.size.width);
  put("shortest_edge", config.size.shortest_edge);
  put("longest_edge", config.size.longest_edge);
  io::Json json = {{"image_processor_type", "ViTImageProcessor"},
                   {"do_resize", config.do_resize},
                   {"size", size},
                   {"resample", static_cast<int>(config.resample)},
                   {"do_rescale", config.do_rescale},
                   {"rescale_factor", config.rescale_factor},
                   {"do_normalize", config.do_normalize},
                   {"image_mean", config.image_mean},
                   {"image_std", config.image_std},
                   {"do_convert_rgb", config.do_convert_rgb}};
  if (config.do_center_crop) {
    // The processor of that type crops nothing.
    json["image_processor_type"] = "BitImageProcessor";
    json["do_center_crop"] = true;
    json["crop_size"] = {{"height", config.crop_height}, {"width", config.crop_width}};
  }
  io::write_json(folder / "preprocessor_config.json", json);
}

}  // namespace winnow::models
