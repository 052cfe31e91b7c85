// The configurations of the ViT family: ViT, DeiT, DINOv2, ViT-MAE. Members are named as in config.json, and the
// default of a member is that of its architecture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/attention/vit_encoder.h"
#include "winnow/io/json.h"
#include "winnow/nn/activation.h"

namespace winnow::models {

// What all of them say about the trunk.
struct VitTrunkConfig {
  int64_t image_height = 224;  // image_size: one number or [height, width]; what is beyond whole patches is not seen
  int64_t image_width = 224;
  int64_t patch_size = 16;
  int64_t num_channels = 3;
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;  // DINOv2 has mlp_ratio instead
  std::string hidden_act = "gelu";
  bool qkv_bias = true;
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;            // kept for saving; winnow draws its own start weights
  double hidden_dropout_prob = 0.0;           // likewise: winnow's trunk has drop path, no dropout
  double attention_probs_dropout_prob = 0.0;  // likewise
  double drop_path_rate = 0.0;                // in training; of the last block, growing linearly from the first
  uint64_t seed = 0;                          // of the start weights
};

enum class ViTHead {
  none,        // ViTModel without its pooler
  pooler,      // ViTModel: dense and activation on the class token
  classifier,  // ViTForImageClassification: linear on the class token
  mean_pool,   // the classifier of MAE fine-tuning: mean of the patch tokens, norm, linear; no final norm in the trunk
};

struct ViTConfig {
  VitTrunkConfig trunk = {};
  ViTHead head = ViTHead::classifier;
  std::vector<std::string> labels = {"LABEL_0", "LABEL_1"};  // id2label
  std::string problem_type = {};                             // of the loss; empty: by the labels' dtype
  int64_t pooler_output_size = 0;                            // 0: hidden_size
  std::string pooler_act = "tanh";
  int64_t encoder_stride = 16;  // kept for saving
};

enum class DeiTHead {
  none,        // DeiTModel without its pooler
  pooler,      // DeiTModel
  classifier,  // DeiTForImageClassification: linear on the class token
  teacher,     // DeiTForImageClassificationWithTeacher: mean of a head on the class and one on the distillation token
};

struct DeiTConfig {
  VitTrunkConfig trunk = {};
  DeiTHead head = DeiTHead::teacher;
  std::vector<std::string> labels = {"LABEL_0", "LABEL_1"};
  std::string problem_type = {};
  int64_t pooler_output_size = 0;
  std::string pooler_act = "tanh";
  int64_t encoder_stride = 16;
};

enum class Dinov2Head {
  none,        // Dinov2Model
  classifier,  // Dinov2ForImageClassification: linear on [class token; mean of the patch tokens]
};

struct Dinov2Config {
  VitTrunkConfig trunk = {.patch_size = 14, .layer_norm_eps = 1e-6};  // its intermediate_size is not used
  Dinov2Head head = Dinov2Head::none;
  std::vector<std::string> labels = {"LABEL_0", "LABEL_1"};
  std::string problem_type = {};
  double mlp_ratio = 4.0;
  bool use_swiglu_ffn = false;  // hidden width then (int(hidden_size * mlp_ratio * 2 / 3) + 7) / 8 * 8
  double layerscale_value = 1.0;
  bool use_mask_token = true;
  // Feature maps of the backbone use (Dinov2Impl::feature_maps); Dinov2Model normalises its last state whatever
  // apply_layernorm says.
  bool apply_layernorm = true;
  bool reshape_hidden_states = true;
  std::vector<int64_t> out_indices = {};  // stages, 0 = the embeddings; empty: the last

  [[nodiscard]] int64_t hidden_features() const;  // width inside the MLP
};

struct ViTMaeConfig {
  VitTrunkConfig trunk = {};
  int64_t decoder_hidden_size = 512;
  int64_t decoder_num_hidden_layers = 8;
  int64_t decoder_num_attention_heads = 16;
  int64_t decoder_intermediate_size = 2048;
  double mask_ratio = 0.75;
  bool norm_pix_loss = false;
};

// Each reads a config.json of its architectures. Keys that cannot change what is computed are passed over; any other
// unknown key, and an option of a known key that is not supported, is Error(unsupported) by name.
ViTConfig read_vit_config(const io::JsonObject& json);
DeiTConfig read_deit_config(const io::JsonObject& json);
Dinov2Config read_dinov2_config(const io::JsonObject& json);
ViTMaeConfig read_vit_mae_config(const io::JsonObject& json);

// The config.json that both published readers and transformers 5 understand.
io::Json to_json(const ViTConfig& config);
io::Json to_json(const DeiTConfig& config);
io::Json to_json(const Dinov2Config& config);
io::Json to_json(const ViTMaeConfig& config);

// "gelu", "gelu_new", "quick_gelu", "relu", "silu" and their other names ("gelu_pytorch_tanh", "swish" ...). `where`
// begins the message of Error(unsupported).
Activation activation_of(const std::string& name, const std::string& where);

// The trunk's options of the layer below, with learned positions.
VitEncoderOptions encoder_options(const VitTrunkConfig& trunk);

// {"LABEL_0", ...}, as transformers names classes that have no name.
std::vector<std::string> default_labels(int64_t count);

}  // namespace winnow::models
