#include <utility>

#include "config_reader.h"
#include "winnow/core/error.h"
#include "winnow/models/clip.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

using io::Json;
using io::JsonObject;

namespace {

// The section `name`, with what an old file's `name`_dict holds put over it.
JsonObject section(const JsonObject& json, const std::string& name) {
  auto merged = json.has(name) ? json.object(name).value() : Json::object();
  if (json.has(name + "_dict")) merged.update(json.object(name + "_dict").value());
  return {std::move(merged), json.file(), json.where(name)};
}

// What both towers say.
template <typename Tower>
void read_tower(const JsonObject& json, Tower& t) {
  t.hidden_size = positive(json, "hidden_size", t.hidden_size);
  t.intermediate_size = positive(json, "intermediate_size", t.intermediate_size);
  t.num_hidden_layers = positive(json, "num_hidden_layers", t.num_hidden_layers);
  t.num_attention_heads = positive(json, "num_attention_heads", t.num_attention_heads);
  WINNOW_CHECK_KIND(t.hidden_size % t.num_attention_heads == 0, ErrorKind::file,
                    "{}: {} must divide hidden_size = {}, got {}", json.file(), json.where("num_attention_heads"),
                    t.hidden_size, t.num_attention_heads);
  t.hidden_act = json.get_or<std::string>("hidden_act", t.hidden_act);
  activation_of(t.hidden_act, json.file() + ": " + json.where("hidden_act"));
  t.layer_norm_eps = json.get_or<double>("layer_norm_eps", t.layer_norm_eps);
  WINNOW_CHECK_KIND(t.layer_norm_eps > 0, ErrorKind::file, "{}: {} must be > 0, got {}", json.file(),
                    json.where("layer_norm_eps"), t.layer_norm_eps);
  t.attention_dropout = json.get_or<double>("attention_dropout", t.attention_dropout);
  WINNOW_CHECK_KIND(t.attention_dropout >= 0 && t.attention_dropout < 1, ErrorKind::file,
                    "{}: {} must be in [0, 1), got {}", json.file(), json.where("attention_dropout"),
                    t.attention_dropout);
}

const std::vector<std::string>& tower_keys() {
  static const std::vector<std::string> keys = {
      "attention_dropout",   "dropout",           "hidden_act",        "hidden_size",
      "initializer_factor",  "initializer_range", "intermediate_size", "layer_norm_eps",
      "num_attention_heads", "num_hidden_layers", "projection_dim"};
  return keys;
}

ClipTextConfig read_text(const JsonObject& json) {
  auto keys = tower_keys();
  keys.insert(keys.end(), {"max_position_embeddings", "vocab_size"});
  check_keys(json, keys);
  check_model_type(json, "clip_text_model");
  ClipTextConfig t;
  read_tower(json, t);
  t.vocab_size = positive(json, "vocab_size", t.vocab_size);
  t.max_position_embeddings = positive(json, "max_position_embeddings", t.max_position_embeddings);
  t.pad_token_id = json.get_or<int64_t>("pad_token_id", t.pad_token_id);
  t.bos_token_id = json.get_or<int64_t>("bos_token_id", t.bos_token_id);
  t.eos_token_id = json.get_or<int64_t>("eos_token_id", t.eos_token_id);
  return t;
}

ClipVisionConfig read_vision(const JsonObject& json) {
  auto keys = tower_keys();
  keys.insert(keys.end(), {"image_size", "num_channels", "patch_size"});
  check_keys(json, keys);
  check_model_type(json, "clip_vision_model");
  ClipVisionConfig v;
  read_tower(json, v);
  v.num_channels = positive(json, "num_channels", v.num_channels);
  v.image_size = positive(json, "image_size", v.image_size);
  v.patch_size = positive(json, "patch_size", v.patch_size);
  WINNOW_CHECK_KIND(v.image_size >= v.patch_size, ErrorKind::file,
                    "{}: {} must hold at least one patch of {} pixels, got {}", json.file(), json.where("image_size"),
                    v.patch_size, v.image_size);
  return v;
}

template <typename Tower>
Json write_tower(const Tower& t, const char* type) {
  return {{"model_type", type},
          {"hidden_size", t.hidden_size},
          {"intermediate_size", t.intermediate_size},
          {"num_hidden_layers", t.num_hidden_layers},
          {"num_attention_heads", t.num_attention_heads},
          {"hidden_act", t.hidden_act},
          {"layer_norm_eps", t.layer_norm_eps},
          {"attention_dropout", t.attention_dropout}};
}

}  // namespace

ClipConfig read_clip_config(const JsonObject& json) {
  check_keys(json, {"initializer_factor", "logit_scale_init_value", "projection_dim", "text_config", "text_config_dict",
                    "vision_config", "vision_config_dict"});
  check_model_type(json, "clip");
  ClipConfig c;
  c.text = read_text(section(json, "text_config"));
  c.vision = read_vision(section(json, "vision_config"));
  c.projection_dim = positive(json, "projection_dim", c.projection_dim);
  c.logit_scale_init_value = json.get_or<double>("logit_scale_init_value", c.logit_scale_init_value);
  return c;
}

io::Json to_json(const ClipConfig& c) {
  Json text = write_tower(c.text, "clip_text_model"), vision = write_tower(c.vision, "clip_vision_model");
  text["vocab_size"] = c.text.vocab_size;
  text["max_position_embeddings"] = c.text.max_position_embeddings;
  text["pad_token_id"] = c.text.pad_token_id;
  text["bos_token_id"] = c.text.bos_token_id;
  text["eos_token_id"] = c.text.eos_token_id;
  text["projection_dim"] = c.projection_dim;
  vision["num_channels"] = c.vision.num_channels;
  vision["image_size"] = c.vision.image_size;
  vision["patch_size"] = c.vision.patch_size;
  vision["projection_dim"] = c.projection_dim;
  return {{"architectures", Json::array({"CLIPModel"})},
          {"model_type", "clip"},
          {"torch_dtype", "float32"},
          {"projection_dim", c.projection_dim},
          {"logit_scale_init_value", c.logit_scale_init_value},
          {"text_config", std::move(text)},
          {"vision_config", std::move(vision)}};
}

}  // namespace winnow::models
