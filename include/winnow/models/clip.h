// CLIP: an image and a text encoder whose outputs meet in one space (Hugging Face's CLIPModel).
// Source: Radford et al. 2021, arXiv 2103.00020.
#pragma once

#include <torch/nn/modules/embedding.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/attention/transformer_block.h"
#include "winnow/attention/vit_encoder.h"
#include "winnow/models/pretrained.h"
#include "winnow/models/vit.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/position.h"
#include "winnow/nn/stack.h"

namespace winnow::models {

// Members are named as in config.json (text_config), with CLIP's defaults.
struct ClipTextConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 512;
  int64_t intermediate_size = 2048;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 8;
  int64_t max_position_embeddings = 77;
  std::string hidden_act = "quick_gelu";
  double layer_norm_eps = 1e-5;
  double attention_dropout = 0.0;  // in training
  int64_t pad_token_id = 1;        // kept for saving
  int64_t bos_token_id = 49406;    // likewise
  int64_t eos_token_id = 49407;    // 2 stands for old files: the text's state is that of its largest id
};

// vision_config.
struct ClipVisionConfig {
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t num_channels = 3;
  int64_t image_size = 224;
  int64_t patch_size = 32;
  std::string hidden_act = "quick_gelu";
  double layer_norm_eps = 1e-5;
  double attention_dropout = 0.0;  // in training
};

struct ClipConfig {
  ClipTextConfig text = {};
  ClipVisionConfig vision = {};
  int64_t projection_dim = 512;
  double logit_scale_init_value = 2.6592;
  uint64_t seed = 0;  // of the start weights
};

// Unknown options are Error(unsupported) by name. Old files that hold text_config_dict or vision_config_dict beside the
// sections: those win, as in transformers.
ClipConfig read_clip_config(const io::JsonObject& json);
io::Json to_json(const ClipConfig& config);

struct ClipTextInput {
  at::Tensor ids = {};        // [B, L] int64
  at::Tensor keep = {};       // [B, L], nonzero = a real token; undefined: all
  at::Tensor positions = {};  // [B, L] or [L] int64; undefined: 0 .. L-1
  bool hidden_states = false;
};

struct ClipTextOutput {
  at::Tensor last_hidden_state;           // [B, L, D], after the final norm
  at::Tensor pooler_output;               // [B, D], the state at the end of the text
  std::vector<at::Tensor> hidden_states;  // depth + 1, before the final norm
};

struct ClipInput {
  ClipTextInput text = {};
  at::Tensor images = {};              // [B', C, H, W]
  bool interpolate_positions = false;  // take images of any size of whole patches
  bool hidden_states = false;          // of both towers
  bool loss = false;                   // needs as many texts as images: text i belongs to image i
};

struct ClipOutput {
  at::Tensor logits_per_image;  // [B', B]: cosine times exp(logit_scale)
  at::Tensor logits_per_text;   // [B, B']
  at::Tensor text_embeds;       // [B, P], of length 1
  at::Tensor image_embeds;      // [B', P], of length 1
  at::Tensor loss;              // scalar: mean of the cross-entropies over rows and over columns
  ClipTextOutput text;
  VisionOutput vision;  // last_hidden_state without post_layernorm; pooler_output: class token behind it
};

// Children: token_embedding, position_embedding, text_blocks.N, final_layer_norm; vision (a VitEncoder with norm_pre),
// post_layernorm; text_projection, visual_projection; parameter logit_scale [].
struct ClipImpl : Pretrained {
  explicit ClipImpl(ClipConfig config);  // throws winnow::Error on sizes that do not divide

  ClipOutput forward(const ClipInput& input);

  // The towers alone: CLIPTextModel and CLIPVisionModel.
  ClipTextOutput encode_text(const ClipTextInput& input);
  VisionOutput encode_images(const at::Tensor& images, const VisionForward& how = {});
  // Behind the projections, not normalised: [B, P].
  at::Tensor text_features(const ClipTextInput& input);
  at::Tensor image_features(const at::Tensor& images, const VisionForward& how = {});

  [[nodiscard]] std::string architecture() const override;
  [[nodiscard]] io::Json config_json() const override;
  [[nodiscard]] WeightMap weight_map() const override;
  [[nodiscard]] ImageShape image_shape() const override;

  ClipConfig config;
  torch::nn::Embedding token_embedding{nullptr};
  LearnedPositions position_embedding{nullptr};
  Stack<TransformerBlock> text_blocks{nullptr};
  Norm final_layer_norm{nullptr}, post_layernorm{nullptr};
  VitEncoder vision{nullptr};
  Linear text_projection{nullptr}, visual_projection{nullptr};
  at::Tensor logit_scale;

 private:
  at::Tensor end_of_text(const at::Tensor& ids) const;
};
TORCH_MODULE(Clip);

// Mean of the cross-entropies of the rows and of the columns of square logits [B, B], whose diagonal is right.
at::Tensor contrastive_loss(const at::Tensor& logits);

}  // namespace winnow::models
