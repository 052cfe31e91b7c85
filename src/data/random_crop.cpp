#include <algorithm>
#include <cmath>

#include "winnow/core/error.h"
#include "winnow/data/transforms.h"

namespace winnow::data {
namespace {

// Python's round(): halves go to the even neighbour, which is nearbyint in the default rounding mode.
int64_t round_half_even(double x) {
  return static_cast<int64_t>(std::nearbyint(x));
}

}  // namespace

Fields<CropRange> CropRange::fields() {
  return Fields<CropRange>("CropRange")
      .add("scale_min", &CropRange::scale_min, "least share of the area", in_range(0, 1, Ends::left_open))
      .add("scale_max", &CropRange::scale_max, "largest share of the area", in_range(0, 1, Ends::left_open))
      .add("ratio_min", &CropRange::ratio_min, "least width / height", above(0))
      .add("ratio_max", &CropRange::ratio_max, "largest width / height", above(0))
      .rule([](const CropRange& o) {
        WINNOW_CHECK(o.scale_min <= o.scale_max, "CropRange: scale_min must be <= scale_max, got {} and {}",
                     o.scale_min, o.scale_max);
        WINNOW_CHECK(o.ratio_min <= o.ratio_max, "CropRange: ratio_min must be <= ratio_max, got {} and {}",
                     o.ratio_min, o.ratio_max);
      });
}

Box random_resized_crop_box(int64_t height, int64_t width, const CropRange& range, Random& random) {
  WINNOW_CHECK(height >= 1 && width >= 1, "random_resized_crop_box: the picture must have pixels, got {} x {}", height,
               width);
  const auto area = static_cast<double>(height * width);
  const double log_min = std::log(range.ratio_min), log_max = std::log(range.ratio_max);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(range.scale_min, range.scale_max);
    const double ratio = std::exp(random.uniform(log_min, log_max));
    const auto w = round_half_even(std::sqrt(target * ratio)), h = round_half_even(std::sqrt(target / ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const auto top = random.integer(height - h + 1), left = random.integer(width - w + 1);
    return {.top = top, .left = left, .height = h, .width = w};
  }
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  int64_t h = height, w = width;
  if (ratio < range.ratio_min) {
    h = round_half_even(static_cast<double>(width) / range.ratio_min);
  } else if (ratio > range.ratio_max) {
    w = round_half_even(static_cast<double>(height) * range.ratio_max);
  }
  h = std::clamp<int64_t>(h, 1, height), w = std::clamp<int64_t>(w, 1, width);
  return {.top = (height - h) / 2, .left = (width - w) / 2, .height = h, .width = w};
}

Box center_crop_box(int64_t height, int64_t width, int64_t box_height, int64_t box_width) {
  WINNOW_CHECK(box_height >= 1 && box_width >= 1 && box_height <= height && box_width <= width,
               "center_crop_box: the box must fit into the picture of {} x {}, got {} x {}", height, width, box_height,
               box_width);
  return {.top = round_half_even(static_cast<double>(height - box_height) / 2),
          .left = round_half_even(static_cast<double>(width - box_width) / 2),
          .height = box_height,
          .width = box_width};
}

Fields<RandomErasingOptions> RandomErasingOptions::fields() {
  return Fields<RandomErasingOptions>("RandomErasing")
      .add("probability", &RandomErasingOptions::probability, "of erasing at all", in_range(0, 1))
      .add("min_area", &RandomErasingOptions::min_area, "least share of the picture", in_range(0, 1))
      .add("max_area", &RandomErasingOptions::max_area, "largest share of the picture", in_range(0, 1))
      .add("min_aspect", &RandomErasingOptions::min_aspect, "least height / width", in_range(0, 1, Ends::left_open))
      .add("mode", &RandomErasingOptions::mode, "what is written into the hole")
      .rule([](const RandomErasingOptions& o) {
        WINNOW_CHECK(o.min_area <= o.max_area, "RandomErasing: min_area must be <= max_area, got {} and {}", o.min_area,
                     o.max_area);
      });
}

Box random_erase(const at::Tensor& image, const RandomErasingOptions& options, Random& random) {
  WINNOW_CHECK(image.defined() && image.dim() == 3 && image.scalar_type() == at::kFloat && image.is_contiguous() &&
                   image.is_cpu(),
               "random_erase: image must be float32 [C, H, W], contiguous, on the cpu");
  if (!random.chance(options.probability)) return {};
  const int64_t C = image.size(0), H = image.size(1), W = image.size(2);
  const auto area = static_cast<double>(H * W);
  const double log_aspect = std::log(options.min_aspect);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(options.min_area, options.max_area);
    const double aspect = std::exp(random.uniform(log_aspect, -log_aspect));
    const auto h = round_half_even(std::sqrt(target * aspect)), w = round_half_even(std::sqrt(target / aspect));
    if (h >= H || w >= W || h < 1 || w < 1) continue;
    const auto top = random.integer(H - h + 1), left = random.integer(W - w + 1);
    auto* pixels = image.mutable_data_ptr<float>();
    for (int64_t c = 0; c < C; ++c) {
      const auto flat = options.mode == ErasingMode::channel ? static_cast<float>(random.normal()) : 0.0F;
      for (int64_t y = top; y < top + h; ++y) {
        float* row = pixels + (c * H + y) * W + left;
        for (int64_t x = 0; x < w; ++x) {
          row[x] = options.mode == ErasingMode::pixel ? static_cast<float>(random.normal()) : flat;
        }
      }
    }
    return {.top = top, .left = left, .height = h, .width = w};
  }
  return {};
}

}  // namespace winnow::data
