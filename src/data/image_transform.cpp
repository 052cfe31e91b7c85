#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "resample.h"
#include "winnow/core/error.h"
#include "winnow/data/transforms.h"
#include "winnow/tensor/format.h"

namespace winnow::data {
namespace {

// Streams of derive_seed: each draw has its own, so that switching one thing on does not change another.
constexpr uint64_t kCropStream = 1, kFlipStream = 2, kErasingStream = 3;

void check_picture(const char* what, const at::Tensor& image) {
  WINNOW_CHECK(image.defined() && image.dim() == 3 && image.scalar_type() == at::kByte && image.numel() > 0,
               "{}: image must be uint8 [H, W, C] and not empty, got {}", what, image);
}

void check_box(const char* what, const at::Tensor& image, const Box& box) {
  WINNOW_CHECK(box.top >= 0 && box.left >= 0 && box.height >= 1 && box.width >= 1 &&
                   box.top + box.height <= image.size(0) && box.left + box.width <= image.size(1),
               "{}: box must lie inside the picture of {} x {}, got rows {} + {}, columns {} + {}", what, image.size(0),
               image.size(1), box.top, box.height, box.left, box.width);
}

// Rows may have any stride, pixels must be dense.
at::Tensor dense_pixels(const at::Tensor& image) {
  return image.stride(2) == 1 && image.stride(1) == image.size(2) ? image : image.contiguous();
}

}  // namespace

Normalization imagenet_normalization() {
  return {.mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}};
}
Normalization fashion_mnist_normalization() {
  return {.mean = {0.2860}, .std = {0.3530}};
}

at::Tensor crop_resize(const at::Tensor& image, const Box& box, int64_t height, int64_t width,
                       Interpolation interpolation, bool flip, const Normalization& normalization) {
  check_picture("crop_resize", image);
  WINNOW_CHECK(image.is_cpu() || image.is_cuda(), "crop_resize: image must be on cpu or cuda, got {}", image.device());
  check_box("crop_resize", image, box);
  WINNOW_CHECK(height >= 1 && width >= 1, "crop_resize: height and width must be >= 1, got {} and {}", height, width);
  const auto factors = channel_factors("crop_resize", normalization.mean, normalization.std, image.size(2));
  auto out = at::empty({image.size(2), height, width}, image.options().dtype(at::kFloat));
  resample(dense_pixels(image),
           {.box = box,
            .resized_height = height,
            .resized_width = width,
            .height = height,
            .width = width,
            .flip = flip,
            .interpolation = interpolation},
           factors, out);
  return out;
}

at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width, Interpolation interpolation) {
  check_picture("resize", image);
  const Box whole{0, 0, image.size(0), image.size(1)};
  const auto values = crop_resize(image, whole, height, width, interpolation);  // [C, height, width] in [0, 1]
  return values.permute({1, 2, 0}).mul(255).round().to(at::kByte).contiguous();
}

at::Tensor to_float(const at::Tensor& images, const Normalization& normalization) {
  WINNOW_CHECK(images.defined() && images.dim() == 4 && images.scalar_type() == at::kByte,
               "to_float: images must be uint8 [N, H, W, C], got {}", images);
  const auto factors = channel_factors("to_float", normalization.mean, normalization.std, images.size(3));
  const auto table = [&](const std::array<float, 4>& values) {
    auto row = at::empty({images.size(3)}, at::kFloat);
    std::copy_n(values.begin(), images.size(3), row.mutable_data_ptr<float>());
    return row.view({1, -1, 1, 1}).to(images.device());
  };
  const auto values = images.permute({0, 3, 1, 2}).to(at::kFloat, false, false, at::MemoryFormat::Contiguous);
  return values.mul_(table(factors.scale)).add_(table(factors.shift));
}

Fields<ImageTransformOptions> ImageTransformOptions::fields() {
  using O = ImageTransformOptions;
  return Fields<O>("ImageTransform")
      .add("crop", &O::crop, "which part of the picture is used")
      .add("height", &O::height, "rows of the result", at_least(1))
      .add("width", &O::width, "columns of the result", at_least(1))
      .add("shortest_edge", &O::shortest_edge, "crop center: length of the shorter side before the crop", at_least(1))
      .nest("range", &O::range, "crop random_resized: area and ratio of the box")
      .add("interpolation", &O::interpolation, "filter, widened when it shrinks")
      .add("flip_probability", &O::flip_probability, "of mirroring left to right", in_range(0, 1))
      .add("mean", &O::mean, "per channel; empty: none")
      .add("std", &O::std, "per channel; empty: none", above(0))
      .nest("erasing", &O::erasing, "random erasing")
      .rule([](const O& o) {
        WINNOW_CHECK(o.mean.size() == o.std.size(), "ImageTransform: mean and std must have one length, got {} and {}",
                     o.mean.size(), o.std.size());
        WINNOW_CHECK(o.crop != CropKind::center || o.shortest_edge >= std::max(o.height, o.width),
                     "ImageTransform: shortest_edge must be at least height and width, got {} for {} x {}",
                     o.shortest_edge, o.height, o.width);
      });
}

ImageTransformOptions mae_pretraining_transform(int64_t size) {
  const auto [mean, std] = imagenet_normalization();
  return {.crop = CropKind::random_resized,
          .height = size,
          .width = size,
          .range = {.scale_min = 0.2},
          .flip_probability = 0.5,
          .mean = mean,
          .std = std};
}

ImageTransformOptions evaluation_transform(int64_t size) {
  const auto [mean, std] = imagenet_normalization();
  return {.crop = CropKind::center,
          .height = size,
          .width = size,
          .shortest_edge = size * 256 / 224,
          .mean = mean,
          .std = std};
}

ImageTransform::ImageTransform(ImageTransformOptions options) : options_(std::move(options)) {
  check(options_);
}

ImageTransform::Plan ImageTransform::plan(int64_t height, int64_t width, uint64_t seed) const {
  Plan plan;
  plan.box = {.top = 0, .left = 0, .height = height, .width = width};
  if (options_.crop == CropKind::random_resized) {
    Random random(derive_seed(seed, kCropStream));
    plan.box = random_resized_crop_box(height, width, options_.range, random);
  }
  plan.flip = Random(derive_seed(seed, kFlipStream)).chance(options_.flip_probability);
  plan.erasing_seed = derive_seed(seed, kErasingStream);
  return plan;
}

void ImageTransform::apply(const PartialImage& image, const Plan& plan, const at::Tensor& out) const {
  Resampling how{.box = plan.box,
                 .resized_height = options_.height,
                 .resized_width = options_.width,
                 .height = options_.height,
                 .width = options_.width,
                 .flip = plan.flip,
                 .interpolation = options_.interpolation};
  if (options_.crop == CropKind::center) {
    const auto shorter = std::min(plan.box.height, plan.box.width);
    how.resized_height = options_.shortest_edge * plan.box.height / shorter;  // the longer side rounds down
    how.resized_width = options_.shortest_edge * plan.box.width / shorter;
    const auto crop = center_crop_box(how.resized_height, how.resized_width, options_.height, options_.width);
    how.top = crop.top, how.left = crop.left;
  }
  how.box.top -= image.window.top, how.box.left -= image.window.left;
  const auto factors = channel_factors("ImageTransform", options_.mean, options_.std, image.pixels.size(2));
  resample(dense_pixels(image.pixels), how, factors, out);
  if (options_.erasing.probability > 0) {
    Random random(plan.erasing_seed);
    random_erase(out, options_.erasing, random);
  }
}

at::Tensor ImageTransform::operator()(const at::Tensor& image, uint64_t seed) const {
  check_picture("ImageTransform", image);
  WINNOW_CHECK(image.is_cpu(), "ImageTransform: image must be on the cpu, got {}", image.device());
  const auto drawn = plan(image.size(0), image.size(1), seed);
  auto out = at::empty({image.size(2), options_.height, options_.width}, at::kFloat);
  const Box whole{0, 0, image.size(0), image.size(1)};
  apply({.pixels = image, .window = whole, .wanted = drawn.box}, drawn, out);
  return out;
}

int64_t ImageTransform::apply(const Dataset& dataset, int64_t index, uint64_t seed, const at::Tensor& out) const {
  Plan drawn;
  const auto image = dataset.read(index, seed, [&](int64_t height, int64_t width) {
    drawn = plan(height, width, seed);
    return drawn.box;
  });
  WINNOW_CHECK(image.pixels.size(2) == out.size(0) && out.size(1) == options_.height && out.size(2) == options_.width &&
                   out.scalar_type() == at::kFloat && out.is_contiguous(),
               "ImageTransform: out must be float32 [{}, {}, {}] for {}, got {}", image.pixels.size(2), options_.height,
               options_.width, dataset.origin(index), out);
  apply(image, drawn, out);
  return image.label;
}

}  // namespace winnow::data
