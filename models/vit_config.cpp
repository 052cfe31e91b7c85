#include "winnow/models/vit_config.h"

#include <algorithm>
#include <utility>

#include "config_reader.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

const std::vector<std::string>& trunk_keys() {
  static const std::vector<std::string> keys = {"attention_probs_dropout_prob",
                                                "head_dim",
                                                "hidden_act",
                                                "hidden_dropout_prob",
                                                "hidden_size",
                                                "image_size",
                                                "initializer_range",
                                                "layer_norm_eps",
                                                "num_attention_heads",
                                                "num_channels",
                                                "num_hidden_layers",
                                                "patch_size",
                                                "qkv_bias"};
  return keys;
}

// What ViT and DeiT have beyond the trunk.
const std::vector<std::string>& pooler_keys() {
  static const std::vector<std::string> keys = {"encoder_stride", "intermediate_size", "pooler_act",
                                                "pooler_output_size"};
  return keys;
}

template <typename Config>
void read_pooler_and_classes(const JsonObject& json, Config& c) {
  c.labels = read_labels(json);
  c.problem_type = read_problem_type(json);
  c.pooler_output_size = json.get_or<int64_t>("pooler_output_size", c.pooler_output_size);
  WINNOW_CHECK_KIND(c.pooler_output_size >= 0, ErrorKind::file, "{}: pooler_output_size must be >= 0, got {}",
                    json.file(), c.pooler_output_size);
  c.pooler_act = json.get_or<std::string>("pooler_act", c.pooler_act);
  c.encoder_stride = json.get_or<int64_t>("encoder_stride", c.encoder_stride);
}

}  // namespace

void check_trunk_keys(const JsonObject& json, std::vector<std::string> own) {
  own.insert(own.end(), trunk_keys().begin(), trunk_keys().end());
  check_keys(json, own);
}

VitTrunkConfig read_trunk(const JsonObject& json, VitTrunkConfig t) {
  std::tie(t.image_height, t.image_width) = two_sizes(json, "image_size", t.image_height);
  const auto [patch_height, patch_width] = two_sizes(json, "patch_size", t.patch_size);
  WINNOW_CHECK_KIND(patch_height == patch_width, ErrorKind::unsupported,
                    "{}: {} = [{}, {}] is not supported: patches must be square", json.file(), json.where("patch_size"),
                    patch_height, patch_width);
  t.patch_size = patch_height;
  WINNOW_CHECK_KIND(t.image_height >= t.patch_size && t.image_width >= t.patch_size, ErrorKind::file,
                    "{}: image_size must hold at least one patch of {} pixels, got {} x {}", json.file(), t.patch_size,
                    t.image_height, t.image_width);
  t.num_channels = positive(json, "num_channels", t.num_channels);
  t.hidden_size = positive(json, "hidden_size", t.hidden_size);
  t.num_hidden_layers = positive(json, "num_hidden_layers", t.num_hidden_layers);
  t.num_attention_heads = positive(json, "num_attention_heads", t.num_attention_heads);
  t.intermediate_size = positive(json, "intermediate_size", t.intermediate_size);
  WINNOW_CHECK_KIND(t.hidden_size % t.num_attention_heads == 0, ErrorKind::file,
                    "{}: num_attention_heads must divide hidden_size = {}, got {}", json.file(), t.hidden_size,
                    t.num_attention_heads);
  const auto head_dim = t.hidden_size / t.num_attention_heads;
  WINNOW_CHECK_KIND(json.get_or<int64_t>("head_dim", head_dim) == head_dim, ErrorKind::unsupported,
                    "{}: head_dim must be hidden_size / num_attention_heads = {}, got {}", json.file(), head_dim,
                    json.get_or<int64_t>("head_dim", head_dim));
  t.hidden_act = json.get_or<std::string>("hidden_act", t.hidden_act);
  activation_of(t.hidden_act, json.file() + ": " + json.where("hidden_act"));
  t.qkv_bias = json.get_or<bool>("qkv_bias", t.qkv_bias);
  t.layer_norm_eps = json.get_or<double>("layer_norm_eps", t.layer_norm_eps);
  WINNOW_CHECK_KIND(t.layer_norm_eps > 0, ErrorKind::file, "{}: layer_norm_eps must be > 0, got {}", json.file(),
                    t.layer_norm_eps);
  t.initializer_range = json.get_or<double>("initializer_range", t.initializer_range);
  t.hidden_dropout_prob = json.get_or<double>("hidden_dropout_prob", t.hidden_dropout_prob);
  t.attention_probs_dropout_prob = json.get_or<double>("attention_probs_dropout_prob", t.attention_probs_dropout_prob);
  return t;
}

ViTConfig read_vit_config(const JsonObject& json) {
  check_trunk_keys(json, pooler_keys());
  ViTConfig c;
  c.head = head_of<ViTHead>(json, "ViTForImageClassification",
                            {{"ViTModel", ViTHead::pooler},
                             {"ViTForImageClassification", ViTHead::classifier},
                             {"MeanPooledViTForImageClassification", ViTHead::mean_pool}});
  check_model_type(json, c.head == ViTHead::mean_pool ? "mean_pooled_vit" : "vit");
  c.trunk = read_trunk(json, c.trunk);
  read_pooler_and_classes(json, c);
  return c;
}

DeiTConfig read_deit_config(const JsonObject& json) {
  check_trunk_keys(json, pooler_keys());
  DeiTConfig c;
  c.head = head_of<DeiTHead>(json, "DeiTForImageClassificationWithTeacher",
                             {{"DeiTModel", DeiTHead::pooler},
                              {"DeiTForImageClassification", DeiTHead::classifier},
                              {"DeiTForImageClassificationWithTeacher", DeiTHead::teacher}});
  check_model_type(json, "deit");
  c.trunk = read_trunk(json, c.trunk);
  read_pooler_and_classes(json, c);
  return c;
}

Dinov2Config read_dinov2_config(const JsonObject& json) {
  check_trunk_keys(json, {"_out_features", "_out_indices", "apply_layernorm", "drop_path_rate", "layerscale_value",
                          "mlp_ratio", "out_features", "out_indices", "reshape_hidden_states", "stage_names",
                          "use_mask_token", "use_swiglu_ffn"});
  Dinov2Config c;
  c.head = head_of<Dinov2Head>(
      json, "Dinov2Model",
      {{"Dinov2Model", Dinov2Head::none}, {"Dinov2ForImageClassification", Dinov2Head::classifier}});
  check_model_type(json, "dinov2");
  c.trunk = read_trunk(json, c.trunk);
  c.trunk.drop_path_rate = json.get_or<double>("drop_path_rate", c.trunk.drop_path_rate);
  WINNOW_CHECK_KIND(c.trunk.drop_path_rate >= 0 && c.trunk.drop_path_rate < 1, ErrorKind::file,
                    "{}: drop_path_rate must be in [0, 1), got {}", json.file(), c.trunk.drop_path_rate);
  c.labels = read_labels(json);
  c.problem_type = read_problem_type(json);
  c.mlp_ratio = json.get_or<double>("mlp_ratio", c.mlp_ratio);
  c.use_swiglu_ffn = json.get_or<bool>("use_swiglu_ffn", c.use_swiglu_ffn);
  WINNOW_CHECK_KIND(c.mlp_ratio > 0 && c.hidden_features() >= 1, ErrorKind::file,
                    "{}: mlp_ratio must give at least one hidden feature, got {}", json.file(), c.mlp_ratio);
  c.layerscale_value = json.get_or<double>("layerscale_value", c.layerscale_value);
  c.use_mask_token = json.get_or<bool>("use_mask_token", c.use_mask_token);
  c.apply_layernorm = json.get_or<bool>("apply_layernorm", c.apply_layernorm);
  c.reshape_hidden_states = json.get_or<bool>("reshape_hidden_states", c.reshape_hidden_states);
  c.out_indices = json.get_or<std::vector<int64_t>>("out_indices", c.out_indices);
  for (const auto index : c.out_indices) {
    WINNOW_CHECK_KIND(index >= -c.trunk.num_hidden_layers - 1 && index <= c.trunk.num_hidden_layers, ErrorKind::file,
                      "{}: out_indices must lie in [{}, {}], got {}", json.file(), -c.trunk.num_hidden_layers - 1,
                      c.trunk.num_hidden_layers, index);
  }
  return c;
}

int64_t Dinov2Config::hidden_features() const {
  const auto width = static_cast<int64_t>(static_cast<double>(trunk.hidden_size) * mlp_ratio);
  return use_swiglu_ffn ? (static_cast<int64_t>(static_cast<double>(width) * 2.0 / 3.0) + 7) / 8 * 8 : width;
}

ViTMaeConfig read_vit_mae_config(const JsonObject& json) {
  check_trunk_keys(json, {"decoder_hidden_size", "decoder_intermediate_size", "decoder_num_attention_heads",
                          "decoder_num_hidden_layers", "intermediate_size", "mask_ratio", "norm_pix_loss"});
  ViTMaeConfig c;
  check_model_type(json, "vit_mae");
  c.trunk = read_trunk(json, c.trunk);
  read_decoder(json, c);
  c.mask_ratio = json.get_or<double>("mask_ratio", c.mask_ratio);
  WINNOW_CHECK_KIND(c.mask_ratio >= 0 && c.mask_ratio < 1, ErrorKind::file, "{}: mask_ratio must be in [0, 1), got {}",
                    json.file(), c.mask_ratio);
  c.norm_pix_loss = json.get_or<bool>("norm_pix_loss", c.norm_pix_loss);
  return c;
}

VitEncoderOptions encoder_options(const VitTrunkConfig& t) {
  return {.image_height = t.image_height / t.patch_size * t.patch_size,
          .image_width = t.image_width / t.patch_size * t.patch_size,
          .channels = t.num_channels,
          .patch = t.patch_size,
          .dim = t.hidden_size,
          .depth = t.num_hidden_layers,
          .heads = t.num_attention_heads,
          .mlp_dim = t.intermediate_size,
          .activation = activation_of(t.hidden_act, "VitTrunkConfig: hidden_act"),
          .qkv_bias = t.qkv_bias,
          .eps = t.layer_norm_eps,
          .drop_path = t.drop_path_rate,
          .positions = PositionTable::learned,
          .seed = t.seed};
}

}  // namespace winnow::models
