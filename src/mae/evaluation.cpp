#include "winnow/mae/evaluation.h"

#include <torch/types.h>

#include <algorithm>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/patches.h"

namespace winnow::mae {

namespace {
constexpr int64_t kChunk = 256;  // pictures at once
}

EnumNames<FeaturePool> enum_names(FeaturePool) {
  return {{"mean", FeaturePool::mean}, {"class_token", FeaturePool::class_token}};
}

HeldOutError held_out_error(MaskedAutoencoderViT& model, const at::Tensor& images, const at::Tensor& mean_image,
                            uint64_t seed) {
  check_dim("held_out_error: images", images, 4);
  const auto N = images.size(0);
  WINNOW_CHECK(N >= 1, "held_out_error: images must not be empty, got shape {}", images.sizes());
  check_shape("held_out_error: mean_image", mean_image, {1, images.size(1), images.size(2), images.size(3)});
  const at::NoGradGuard no_grad;
  const auto patch = model->options.encoder.patch;
  const auto norm_pix = model->options.norm_pix;
  const auto constant = patch_targets(mean_image, {.patch = patch, .norm_pix = norm_pix});  // [1, L, P]
  const MaskedPixelLoss loss{{.patch = patch, .norm_pix = norm_pix}};
  HeldOutError sum{0, 0};
  for (int64_t begin = 0; begin < N; begin += kChunk) {
    const auto chunk = images.slice(0, begin, std::min(begin + kChunk, N));
    const auto share = static_cast<double>(chunk.size(0)) / static_cast<double>(N);  // all rows remove equally many
    const auto out = model->forward(chunk, derive_seed(seed, begin));
    sum.model += share * out.loss.item<double>();
    sum.mean_image += share * loss(constant.expand_as(out.pred).contiguous(), chunk, out.mask).item<double>();
  }
  return sum;
}

at::Tensor image_features(VitEncoder& encoder, const at::Tensor& images, FeaturePool pool) {
  check_dim("image_features: images", images, 4);
  WINNOW_CHECK(images.size(0) >= 1, "image_features: images must not be empty, got shape {}", images.sizes());
  WINNOW_CHECK(pool == FeaturePool::mean || encoder->options.class_token,
               "image_features: pool must be mean for an encoder without class token");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> features;
  for (const auto& chunk : images.split(kChunk)) {
    const auto tokens = encoder->forward(chunk);  // [B, P + L, D]
    features.push_back(pool == FeaturePool::mean ? tokens.slice(1, encoder->prefix_tokens()).mean(1)
                                                 : tokens.select(1, 0).contiguous());
  }
  return at::cat(features);
}

}  // namespace winnow::mae
