// DINOv2: a ViT with layer scale, a mask token for masked patches, and SwiGLU in the giant size (Hugging Face's
// Dinov2Model and Dinov2ForImageClassification; the official and timm's key names are read too).
// Source: Oquab et al. 2023, arXiv 2304.07193.
#pragma once

#include <torch/nn/pimpl.h>

#include <vector>

#include "winnow/models/vit.h"
#include "winnow/nn/linear.h"

namespace winnow::models {

struct Dinov2Forward {
  at::Tensor masked = {};      // [B, L] bool or 0/1: these patches become the mask token before positions are added
  bool hidden_states = false;  // fill hidden_states of the result
  at::Tensor labels = {};      // fill loss
};

// Children: encoder, mask_token [1, D], head (Linear on 2 D) where there is a classifier.
struct Dinov2Impl : Pretrained {
  explicit Dinov2Impl(Dinov2Config config);

  // images [B, C, H, W] of any size of whole patches; positions are resized to its grid without being asked.
  // pooler_output is the normalised class token.
  VisionOutput forward(const at::Tensor& images, const Dinov2Forward& how = {});

  // The hidden states of config.out_indices, as Dinov2Backbone gives them: normalised by the final norm if
  // apply_layernorm, and if reshape_hidden_states patch tokens alone as [B, D, H / p, W / p], else [B, 1 + L, D].
  std::vector<at::Tensor> feature_maps(const at::Tensor& images);

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] ImageShape image_shape() const override;
  at::Tensor classify(const at::Tensor& images) override;
  [[nodiscard]] std::vector<std::string> labels() const override;

  Dinov2Config config;
  VitEncoder encoder{nullptr};
  at::Tensor mask_token;  // undefined without use_mask_token
  Linear head{nullptr};

 private:
  at::Tensor embed(const at::Tensor& images, const at::Tensor& masked);
};
TORCH_MODULE(Dinov2);

}  // namespace winnow::models
