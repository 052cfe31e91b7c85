// Data-efficient image transformer: a ViT with a second prefix token that learns from a teacher (Hugging Face's
// DeiTModel, DeiTForImageClassification and DeiTForImageClassificationWithTeacher; timm's deit_*_distilled_*). Source:
// Touvron et al. 2020, arXiv 2012.12877.
#pragma once

#include <torch/nn/pimpl.h>

#include "winnow/models/vit.h"
#include "winnow/nn/linear.h"

namespace winnow::models {

// Tokens: class, distillation, patches. Children: encoder, and by its head pooler, head, head_dist (Linear).
struct DeiTImpl : Pretrained {
  explicit DeiTImpl(DeiTConfig config);

  // images [B, C, H, W]. With the teacher's head logits = (cls_logits + distillation_logits) / 2.
  VisionOutput forward(const at::Tensor& images, const VisionForward& how = {});

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] ImageShape image_shape() const override;
  at::Tensor classify(const at::Tensor& images) override;
  [[nodiscard]] std::vector<std::string> labels() const override;

  DeiTConfig config;
  VitEncoder encoder{nullptr};
  Linear pooler{nullptr}, head{nullptr}, head_dist{nullptr};
};
TORCH_MODULE(DeiT);

}  // namespace winnow::models
