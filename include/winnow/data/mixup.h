// Mixing the examples of a batch: mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019), with the law of timm's
// fine-tuning recipe.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "winnow/core/options.h"
#include "winnow/data/dataset.h"

namespace winnow::data {

struct MixupOptions {
  double mixup_alpha = 0.0;         // lambda ~ Beta(alpha, alpha); 0: no mixup
  double cutmix_alpha = 0.0;        // 0: no CutMix
  double probability = 1.0;         // that a batch is mixed at all
  double switch_probability = 0.5;  // that CutMix is taken where both are on
  double label_smoothing = 0.0;
  static Fields<MixupOptions> fields();
};

// Targets of cross entropy: [N, classes], each row sums to 1; smoothing / classes everywhere and 1 - smoothing more at
// the label. labels int64 [N] in [0, classes), else winnow::Error.
at::Tensor soft_targets(const at::Tensor& labels, int64_t classes, double label_smoothing,
                        at::ScalarType dtype = at::kFloat);

struct MixedBatch {
  at::Tensor images;    // [N, C, H, W], new memory
  at::Tensor targets;   // [N, classes], rows sum to 1
  double lambda = 1.0;  // weight of an example's own label; CutMix: corrected to the share of pixels that are its own
  Box box = {};         // CutMix: the pasted rectangle, else height 0
};

// Example i is mixed with example N - 1 - i. images float [N, C, H, W]; everything is drawn by the seed.
MixedBatch mix_batch(const at::Tensor& images, const at::Tensor& labels, int64_t classes, const MixupOptions& options,
                     uint64_t seed);

}  // namespace winnow::data
