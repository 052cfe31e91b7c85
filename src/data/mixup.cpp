#include "winnow/data/mixup.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow::data {
namespace {

// The rectangle of CutMix: sides sqrt(1 - lambda) of the picture's, its centre uniform, cut off at the edges.
Box paste_box(int64_t height, int64_t width, double lambda, Random& random) {
  const double share = std::sqrt(1 - lambda);
  const auto h = static_cast<int64_t>(static_cast<double>(height) * share);
  const auto w = static_cast<int64_t>(static_cast<double>(width) * share);
  const auto y = random.integer(height), x = random.integer(width);
  const auto top = std::clamp<int64_t>(y - h / 2, 0, height), bottom = std::clamp<int64_t>(y + h / 2, 0, height);
  const auto left = std::clamp<int64_t>(x - w / 2, 0, width), right = std::clamp<int64_t>(x + w / 2, 0, width);
  return {.top = top, .left = left, .height = bottom - top, .width = right - left};
}

}  // namespace

Fields<MixupOptions> MixupOptions::fields() {
  return Fields<MixupOptions>("Mixup")
      .add("mixup_alpha", &MixupOptions::mixup_alpha, "of lambda ~ Beta(alpha, alpha); 0: no mixup", at_least(0))
      .add("cutmix_alpha", &MixupOptions::cutmix_alpha, "the same of CutMix; 0: no CutMix", at_least(0))
      .add("probability", &MixupOptions::probability, "that a batch is mixed", in_range(0, 1))
      .add("switch_probability", &MixupOptions::switch_probability, "of CutMix where both are on", in_range(0, 1))
      .add("label_smoothing", &MixupOptions::label_smoothing, "share of a target spread over all classes",
           in_range(0, 1, Ends::right_open));
}

at::Tensor soft_targets(const at::Tensor& labels, int64_t classes, double label_smoothing, at::ScalarType dtype) {
  WINNOW_CHECK(labels.defined() && labels.dim() == 1 && labels.scalar_type() == at::kLong,
               "soft_targets: labels must be int64 [N], got {}", labels);
  WINNOW_CHECK(classes >= 1, "soft_targets: classes must be >= 1, got {}", classes);
  WINNOW_CHECK(label_smoothing >= 0 && label_smoothing < 1, "soft_targets: label_smoothing must be in [0, 1), got {}",
               label_smoothing);
  check_indices("soft_targets: labels", labels, classes);
  const double off = label_smoothing / static_cast<double>(classes);
  auto targets = at::full({labels.size(0), classes}, off, labels.options().dtype(dtype));
  return targets.scatter_(1, labels.unsqueeze(1), 1 - label_smoothing + off);
}

MixedBatch mix_batch(const at::Tensor& images, const at::Tensor& labels, int64_t classes, const MixupOptions& options,
                     uint64_t seed) {
  check(options);
  WINNOW_CHECK(images.defined() && images.dim() == 4 && images.is_floating_point(),
               "mix_batch: images must be floating [N, C, H, W], got {}", images);
  WINNOW_CHECK(labels.defined() && labels.dim() == 1 && labels.size(0) == images.size(0),
               "mix_batch: labels must be int64 [{}], got {}", images.size(0), labels);
  const auto own = soft_targets(labels, classes, options.label_smoothing);
  MixedBatch mixed{.images = images.clone(), .targets = own};
  Random random(seed);
  const bool has_mixup = options.mixup_alpha > 0, has_cutmix = options.cutmix_alpha > 0;
  if ((!has_mixup && !has_cutmix) || !random.chance(options.probability)) return mixed;

  const bool cutmix = has_cutmix && (!has_mixup || random.chance(options.switch_probability));
  const double alpha = cutmix ? options.cutmix_alpha : options.mixup_alpha;
  mixed.lambda = random.beta(alpha, alpha);
  const auto partner = images.flip({0});
  if (cutmix) {
    const int64_t height = images.size(2), width = images.size(3);
    mixed.box = paste_box(height, width, mixed.lambda, random);
    const auto& box = mixed.box;
    const auto part = [&](const at::Tensor& x) {
      return x.narrow(2, box.top, box.height).narrow(3, box.left, box.width);
    };
    part(mixed.images).copy_(part(partner));
    mixed.lambda = 1 - static_cast<double>(box.height * box.width) / static_cast<double>(height * width);
  } else {
    mixed.images.mul_(mixed.lambda).add_(partner, 1 - mixed.lambda);
  }
  mixed.targets = own * mixed.lambda + own.flip({0}) * (1 - mixed.lambda);
  return mixed;
}

}  // namespace winnow::data
