// Vision Transformer: encoder alone, with a pooler, or with a classifier (Hugging Face's ViTModel and
// ViTForImageClassification, timm's vit_*, and the fine-tuned classifier of MAE).
// Sources: Dosovitskiy et al. 2020, arXiv 2010.11929; He et al. 2021, arXiv 2111.06377, appendix A.1.
#pragma once

#include <torch/nn/pimpl.h>

#include <vector>

#include "winnow/attention/vit_encoder.h"
#include "winnow/models/pretrained.h"
#include "winnow/models/vit_config.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"

namespace winnow::models {

// How one call of a vision network runs.
struct VisionForward {
  // Take images of any size of whole patches (more is cut off at the right and bottom), with positions resized as a
  // grid. Off: the size must be that of the config. DINOv2 always does.
  bool interpolate_positions = false;
  bool hidden_states = false;  // fill hidden_states of the result
  at::Tensor labels = {};      // [B] int64, or as problem_type says: fill loss
};

// What a vision network gives; a member that its head does not make is undefined. P prefix tokens, L patches.
struct VisionOutput {
  at::Tensor last_hidden_state;  // [B, P + L, D], after the final norm
  at::Tensor pooler_output;      // [B, D']
  at::Tensor logits;             // [B, classes]
  at::Tensor cls_logits;         // [B, classes] of DeiT's two heads
  at::Tensor distillation_logits;
  at::Tensor loss;                        // scalar
  std::vector<at::Tensor> hidden_states;  // depth + 1 of [B, P + L, D]; 0 the embeddings; all before the final norm
};

// The loss that transformers gives a classifier. problem_type "regression" (mean squared error),
// "single_label_classification" (cross-entropy, labels int64 [B]) or "multi_label_classification" (binary
// cross-entropy, labels [B, classes]); empty: regression for one class, else by the dtype of labels.
at::Tensor classification_loss(const at::Tensor& logits, const at::Tensor& labels,
                               const std::string& problem_type = "");

// Children: encoder, and by its head pooler (Linear), head (Linear), fc_norm.
// Parameter names end in those of timm and the official MAE: encoder.blocks.0.attn.qkv.weight, head.weight.
struct ViTImpl : Pretrained {
  explicit ViTImpl(ViTConfig config);  // throws winnow::Error on sizes that do not divide

  // images [B, C, H, W] of the weights' dtype.
  VisionOutput forward(const at::Tensor& images, const VisionForward& how = {});

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] ImageShape image_shape() const override;
  at::Tensor classify(const at::Tensor& images) override;
  [[nodiscard]] std::vector<std::string> labels() const override;

  ViTConfig config;
  VitEncoder encoder{nullptr};
  Linear pooler{nullptr}, head{nullptr};
  Norm fc_norm{nullptr};
};
TORCH_MODULE(ViT);

struct FineTuneOptions {
  std::vector<std::string> labels = {};
  ViTHead head = ViTHead::mean_pool;  // or classifier
  double drop_path_rate = 0.1;
  uint64_t seed = 0;  // of the new head: weights N(0, 2e-5), bias 0, as the official MAE fine-tuning draws it
};

// A classifier on a copy of a pre-trained trunk (mae->encoder, or the encoder of a loaded folder). Positions become
// trainable, as in the official MAE fine-tuning. The trunk must have a class token.
ViT fine_tune(const VitEncoder& pretrained, const FineTuneOptions& options);

}  // namespace winnow::models
