// The masked autoencoder of mae/ in folders of Hugging Face's ViTMAEForPreTraining; checkpoints with the official names
// are read too. Source: He et al. 2021, arXiv 2111.06377.
#pragma once

#include <torch/nn/pimpl.h>

#include "winnow/mae/masked_autoencoder.h"
#include "winnow/models/pretrained.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

// Child: mae, whose parameters this class only names.
struct ViTMaeImpl : Pretrained {
  explicit ViTMaeImpl(ViTMaeConfig config);
  // Around a network that exists (after training, to be saved). It must have the ViT-MAE form: class token, final norm,
  // plain MLP, one epsilon and activation in encoder and decoder.
  explicit ViTMaeImpl(mae::MaskedAutoencoderViT network);

  // images [B, C, H, W], noise [B, L]: the kept patches are those of least noise, config.mask_ratio says how many.
  mae::MaeOutput forward(const at::Tensor& images, const at::Tensor& noise, const mae::MaeForwardOptions& how = {});
  // The noise drawn from a seed.
  mae::MaeOutput forward(const at::Tensor& images, uint64_t seed, const mae::MaeForwardOptions& how = {});

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] ImageShape image_shape() const override;

  ViTMaeConfig config;
  mae::MaskedAutoencoderViT mae{nullptr};

 private:
  void check_images(const at::Tensor& images, const mae::MaeForwardOptions& how) const;
};
TORCH_MODULE(ViTMae);

// The names alone, for a network that is trained: weight_map_of(mae).tensors() is what save() would write.
WeightMap weight_map_of(const mae::MaskedAutoencoderViT& network);

}  // namespace winnow::models
