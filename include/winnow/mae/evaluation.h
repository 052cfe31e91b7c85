#pragma once

// How well a trained masked autoencoder fills held-out pictures, and the features that its encoder gives.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "winnow/core/options.h"
#include "winnow/mae/masked_autoencoder.h"

namespace winnow::mae {

struct HeldOutError {
  double model;       // masked loss of the model
  double mean_image;  // the same loss of predicting `mean_image` everywhere
};
// images [N, C, H, W] normalised as in training, mean_image [1, C, H, W] of the training pictures. The masks are drawn
// from `seed` and options.masking, the same for every model of that grid and ratio. Evaluation mode is the caller's.
HeldOutError held_out_error(MaskedAutoencoderViT& model, const at::Tensor& images, const at::Tensor& mean_image,
                            uint64_t seed);

enum class FeaturePool {
  mean,         // of the patch tokens, after the final norm
  class_token,  // needs a class token
};
EnumNames<FeaturePool> enum_names(FeaturePool);

// Features [N, D] of whole pictures (nothing masked), without gradient, in chunks.
at::Tensor image_features(VitEncoder& encoder, const at::Tensor& images, FeaturePool pool = FeaturePool::mean);

}  // namespace winnow::mae
