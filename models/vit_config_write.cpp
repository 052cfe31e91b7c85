// The config.json of the ViT family, as published readers and transformers 5 take it.
#include <cstddef>
#include <utility>

#include "config_reader.h"
#include "vit_trunk.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

using io::Json;

Json write_trunk(const VitTrunkConfig& t) {
  Json json = {{"attention_probs_dropout_prob", t.attention_probs_dropout_prob},
               {"hidden_act", t.hidden_act},
               {"hidden_dropout_prob", t.hidden_dropout_prob},
               {"hidden_size", t.hidden_size},
               {"initializer_range", t.initializer_range},
               {"layer_norm_eps", t.layer_norm_eps},
               {"num_attention_heads", t.num_attention_heads},
               {"num_channels", t.num_channels},
               {"num_hidden_layers", t.num_hidden_layers},
               {"patch_size", t.patch_size},
               {"qkv_bias", t.qkv_bias},
               {"torch_dtype", "float32"}};
  if (t.image_height == t.image_width) {
    json["image_size"] = t.image_height;
  } else {
    json["image_size"] = Json::array({t.image_height, t.image_width});
  }
  return json;
}

namespace {

template <typename Config>
Json write_pooler(const Config& c) {
  auto json = write_trunk(c.trunk);
  json["intermediate_size"] = c.trunk.intermediate_size;
  json["encoder_stride"] = c.encoder_stride;
  json["pooler_act"] = c.pooler_act;
  json["pooler_output_size"] = c.pooler_output_size > 0 ? c.pooler_output_size : c.trunk.hidden_size;
  return json;
}

}  // namespace

io::Json to_json(const ViTConfig& c) {
  auto json = write_pooler(c);
  const bool model = c.head == ViTHead::none || c.head == ViTHead::pooler;
  const bool mean = c.head == ViTHead::mean_pool;
  json["model_type"] = mean ? "mean_pooled_vit" : "vit";
  json["architectures"] = Json::array({model  ? "ViTModel"
                                       : mean ? "MeanPooledViTForImageClassification"
                                              : "ViTForImageClassification"});
  if (!model) write_classes(json, c.labels, c.problem_type);
  return json;
}

io::Json to_json(const DeiTConfig& c) {
  auto json = write_pooler(c);
  const bool model = c.head == DeiTHead::none || c.head == DeiTHead::pooler;
  json["model_type"] = "deit";
  json["architectures"] = Json::array({model                            ? "DeiTModel"
                                       : c.head == DeiTHead::classifier ? "DeiTForImageClassification"
                                                                        : "DeiTForImageClassificationWithTeacher"});
  if (!model) write_classes(json, c.labels, c.problem_type);
  return json;
}

io::Json to_json(const Dinov2Config& c) {
  auto json = write_trunk(c.trunk);
  json["model_type"] = "dinov2";
  json["architectures"] = Json::array({c.head == Dinov2Head::none ? "Dinov2Model" : "Dinov2ForImageClassification"});
  json["drop_path_rate"] = c.trunk.drop_path_rate;
  // transformers 5 takes an integer only.
  if (const auto whole_ratio = static_cast<int64_t>(c.mlp_ratio); static_cast<double>(whole_ratio) == c.mlp_ratio) {
    json["mlp_ratio"] = whole_ratio;
  } else {
    json["mlp_ratio"] = c.mlp_ratio;
  }
  json["use_swiglu_ffn"] = c.use_swiglu_ffn;
  json["layerscale_value"] = c.layerscale_value;
  json["use_mask_token"] = c.use_mask_token;
  json["apply_layernorm"] = c.apply_layernorm;
  json["reshape_hidden_states"] = c.reshape_hidden_states;
  if (!c.out_indices.empty()) json["out_indices"] = c.out_indices;
  if (c.head == Dinov2Head::classifier) write_classes(json, c.labels, c.problem_type);
  return json;
}

io::Json to_json(const ViTMaeConfig& c) {
  auto json = write_trunk(c.trunk);
  json["model_type"] = "vit_mae";
  json["architectures"] = Json::array({"ViTMAEForPreTraining"});
  json["intermediate_size"] = c.trunk.intermediate_size;
  write_decoder(json, c);
  json["mask_ratio"] = c.mask_ratio;
  json["norm_pix_loss"] = c.norm_pix_loss;
  return json;
}

}  // namespace winnow::models
