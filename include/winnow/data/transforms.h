// From a decoded picture to what a network eats: crop, resize, flip, normalise, in one pass and by seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/core/random.h"
#include "winnow/data/dataset.h"

namespace winnow::data {

enum class Interpolation { bilinear, bicubic };
inline EnumNames<Interpolation> enum_names(Interpolation) {
  return {{"bilinear", Interpolation::bilinear}, {"bicubic", Interpolation::bicubic}};
}

// Per-channel constants for (x / 255 - mean) / std.
struct Normalization {
  std::vector<double> mean;
  std::vector<double> std;
};
Normalization imagenet_normalization();       // (0.485, 0.456, 0.406) / (0.229, 0.224, 0.225)
Normalization fashion_mnist_normalization();  // 0.2860 / 0.3530 of the 60,000 training pictures

// The law of torchvision's RandomResizedCrop: ten tries of an area uniform in scale * height * width and a ratio width
// / height log-uniform in ratio, sides rounded half to even; if none fits, the central rectangle of the nearest allowed
// ratio.
struct CropRange {
  double scale_min = 0.08, scale_max = 1.0;
  double ratio_min = 3.0 / 4.0, ratio_max = 4.0 / 3.0;
  static Fields<CropRange> fields();
};
Box random_resized_crop_box(int64_t height, int64_t width, const CropRange& range, Random& random);

// The central box of the given size (torchvision: offsets rounded half to even). Throws if the picture is smaller.
Box center_crop_box(int64_t height, int64_t width, int64_t box_height, int64_t box_width);

// The part `box` of a picture uint8 [H, W, C], resized to [height, width] by a filter that widens when it shrinks (PIL,
// and torchvision with antialias=true; cubic a = -0.5; nothing outside the box is looked at), mirrored left to right if
// `flip`, and normalised: float [C, height, width]. Runs the fused kernel on the picture's device (CPU or CUDA). As in
// PIL, values between the horizontal and the vertical pass are uint8; the result is clipped to [0, 255] before it is
// normalised. mean, std: one value per channel, or empty for none (then the result is x / 255).
at::Tensor crop_resize(const at::Tensor& image, const Box& box, int64_t height, int64_t width,
                       Interpolation interpolation, bool flip = false, const Normalization& normalization = {});

// uint8 [H, W, C] resized to uint8 [height, width, C]; the same filter, rounded.
at::Tensor resize(const at::Tensor& image, int64_t height, int64_t width, Interpolation interpolation);

// Pictures uint8 [N, H, W, C] as normalised floats [N, C, H, W], one pass.
at::Tensor to_float(const at::Tensor& images, const Normalization& normalization = {});

// Random erasing (Zhong et al. 2017) with the law of timm: with `probability`, one rectangle of an area uniform in
// [min_area, max_area] of the picture and a ratio height / width log-uniform in [min_aspect, 1 / min_aspect], ten
// tries; filled in place in the normalised picture by zeros, by one N(0, 1) draw per channel, or by one per pixel and
// channel.
enum class ErasingMode { constant, channel, pixel };
inline EnumNames<ErasingMode> enum_names(ErasingMode) {
  return {{"constant", ErasingMode::constant}, {"channel", ErasingMode::channel}, {"pixel", ErasingMode::pixel}};
}
struct RandomErasingOptions {
  double probability = 0.0;
  double min_area = 0.02, max_area = 1.0 / 3.0;
  double min_aspect = 0.3;
  ErasingMode mode = ErasingMode::pixel;
  static Fields<RandomErasingOptions> fields();
};
// image float [C, H, W], contiguous, changed in place. Returns the erased box (height 0 if none).
Box random_erase(const at::Tensor& image, const RandomErasingOptions& options, Random& random);

enum class CropKind {
  none,            // the whole picture resized to height x width (nothing to do if it has that size)
  center,          // shortest edge resized to `shortest_edge`, then the central height x width: evaluation
  random_resized,  // random_resized_crop_box: training
};
inline EnumNames<CropKind> enum_names(CropKind) {
  return {{"none", CropKind::none}, {"center", CropKind::center}, {"random_resized", CropKind::random_resized}};
}

struct ImageTransformOptions {
  CropKind crop = CropKind::none;
  int64_t height = 224;
  int64_t width = 224;
  int64_t shortest_edge = 256;  // CropKind::center only
  CropRange range = {};         // CropKind::random_resized only
  Interpolation interpolation = Interpolation::bicubic;
  double flip_probability = 0.0;  // left to right
  std::vector<double> mean = {};  // per channel; empty: values stay in [0, 1]
  std::vector<double> std = {};
  RandomErasingOptions erasing = {};
  static Fields<ImageTransformOptions> fields();
};

// The settings of MAE pre-training (He et al. 2021, appendix A.1): random crop of scale (0.2, 1), bicubic, flip 0.5,
// ImageNet mean and std.
ImageTransformOptions mae_pretraining_transform(int64_t size = 224);
// The evaluation counterpart: shortest edge to size * 256 / 224, central crop, bicubic.
ImageTransformOptions evaluation_transform(int64_t size = 224);

// Thread safe: apply() is const and keeps its scratch memory per thread.
class ImageTransform {
 public:
  explicit ImageTransform(ImageTransformOptions options);  // throws winnow::Error on a value out of range

  const ImageTransformOptions& options() const { return options_; }

  // What one example will do, drawn by its seed before anything is decoded.
  struct Plan {
    Box box;  // part of the picture that is resized
    bool flip = false;
    uint64_t erasing_seed = 0;
  };
  Plan plan(int64_t height, int64_t width, uint64_t seed) const;

  // image uint8 [H, W, C] -> float [C, options.height, options.width].
  at::Tensor operator()(const at::Tensor& image, uint64_t seed) const;

  // Example `index` of a data set, decoded only where needed, written to `out`: float [C, height, width], contiguous.
  // Returns the label.
  int64_t apply(const Dataset& dataset, int64_t index, uint64_t seed, const at::Tensor& out) const;

 private:
  void apply(const PartialImage& image, const Plan& plan, const at::Tensor& out) const;
  ImageTransformOptions options_;
};

}  // namespace winnow::data
