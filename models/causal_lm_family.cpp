#include "causal_lm_family.h"

#include <algorithm>
#include <utility>

#include "config_reader.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

using io::Json;
using io::JsonObject;

const std::vector<CausalLMFamily>& causal_lm_families() {
  static const std::vector<CausalLMFamily> families = {
      gpt2_family(),  gpt_neox_family(), llama_family(), mistral_family(),   mixtral_family(),
      olmoe_family(), qwen2_family(),    qwen3_family(), qwen3_moe_family(),
  };
  return families;
}

std::vector<std::string> causal_lm_architectures() {
  std::vector<std::string> names;
  for (const auto& family : causal_lm_families()) names.push_back(family.architecture);
  std::sort(names.begin(), names.end());
  return names;
}

const CausalLMFamily& causal_lm_family(const std::string& architecture) {
  for (const auto& family : causal_lm_families()) {
    if (family.architecture == architecture) return family;
  }
  fail(ErrorKind::unsupported, "CausalLM: the architecture {} is not known here; known are {}", architecture,
       join(causal_lm_architectures()));
}

namespace {

// The given keys over the defaults, each under its own spelling.
Json filled(const JsonObject& json, const CausalLMFamily& family) {
  auto given = json.value();
  for (const auto& [alias, key] : family.aliases) {
    if (!given.contains(alias)) continue;
    WINNOW_CHECK_KIND(!given.contains(key) || given[key] == given[alias], ErrorKind::file,
                      "{}: {} and {} are two names of one option, got {} and {}", json.file(), alias, key,
                      given[alias].dump(), given[key].dump());
    given[key] = given[alias];
    given.erase(alias);
  }
  auto all = family.defaults;
  all.update(given);
  return all;
}

// The spellings of published files and of transformers 5, both.
Json in_both_styles(Json json, const CausalLMFamily& family) {
  json["architectures"] = Json::array({family.architecture});
  json["model_type"] = family.model_type;
  json.erase("transformers_version");
  // Some readers take a null for a value. Where the default is none, nothing is written.
  for (const auto& [key, value] : family.defaults.items()) {
    if (value.is_null() && json[key].is_null()) json.erase(key);
  }
  for (const auto& [alias, key] : family.aliases) json[alias] = json.at(key);
  if (!json.contains("rope_theta") && !json.contains("rotary_emb_base")) return json;
  auto rope = json["rope_parameters"].is_object() ? json["rope_parameters"] : json["rope_scaling"];
  if (!rope.is_object()) rope = Json::object();
  if (!rope.contains("rope_type")) rope["rope_type"] = rope.value("type", "default");
  const bool neox = json.contains("rotary_emb_base");
  const std::string theta = neox ? "rotary_emb_base" : "rope_theta";
  if (!rope.contains("rope_theta")) rope["rope_theta"] = json[theta];
  if (neox && !rope.contains("partial_rotary_factor")) rope["partial_rotary_factor"] = json["rotary_pct"];
  json[theta] = rope["rope_theta"];
  if (neox) json["rotary_pct"] = rope["partial_rotary_factor"];
  json["rope_scaling"] = rope["rope_type"] == "default" ? Json() : rope;
  json["rope_parameters"] = std::move(rope);
  return json;
}

}  // namespace

CausalLMConfig read_causal_lm_config(const JsonObject& json) {
  const auto architecture = first_architecture(json, "");
  WINNOW_CHECK_KIND(!architecture.empty(), ErrorKind::file, "{}: architectures must name a class", json.file());
  const auto& family = causal_lm_family(architecture);
  check_model_type(json, family.model_type);
  auto known = family.passed_over;
  known.push_back("is_decoder");  // these networks are decoders whatever it says
  for (const auto& [key, value] : family.defaults.items()) known.push_back(key);
  for (const auto& [alias, key] : family.aliases) known.push_back(alias);
  check_keys(json, known);
  const JsonObject all(filled(json, family), json.file());
  CausalLMConfig config;
  family.describe(all, config);
  config.architecture = architecture;
  config.json = in_both_styles(all.value(), family);
  return config;
}

int64_t size_of(const JsonObject& json, const std::string& key, int64_t most) {
  const auto value = json.get<int64_t>(key);
  WINNOW_CHECK_KIND(value >= 1 && value <= most, ErrorKind::file, "{}: {} must be in [1, {}], got {}", json.file(),
                    json.where(key), most, value);
  return value;
}

double rate_of(const JsonObject& json, const std::string& key) {
  const auto value = json.get_or<double>(key, 0.0);
  WINNOW_CHECK_KIND(value >= 0 && value < 1, ErrorKind::file, "{}: {} must be in [0, 1), got {}", json.file(),
                    json.where(key), value);
  return value;
}

std::vector<int64_t> windows_of(const JsonObject& json, int64_t layers) {
  const bool used = json.get_or<bool>("use_sliding_window", false) && json.has("sliding_window");
  const auto window = used ? size_of(json, "sliding_window") : 0;
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  if (!json.has("layer_types")) {
    const auto first = json.get_or<int64_t>("max_window_layers", 0);
    for (int64_t i = std::max<int64_t>(first, 0); i < layers; ++i) windows[static_cast<size_t>(i)] = window;
    return windows;
  }
  const auto types = json.get<std::vector<std::string>>("layer_types");
  WINNOW_CHECK_KIND(types.size() == windows.size(), ErrorKind::file,
                    "{}: layer_types must have num_hidden_layers = {} entries, got {}", json.file(), layers,
                    types.size());
  for (size_t i = 0; i < types.size(); ++i) {
    const bool slides = types[i] == "sliding_attention";
    WINNOW_CHECK_KIND(slides || types[i] == "full_attention", ErrorKind::unsupported,
                      "{}: layer_types must hold full_attention or sliding_attention, got {}", json.file(), types[i]);
    WINNOW_CHECK_KIND(
        !slides || window > 0, ErrorKind::file,
        "{}: layer_types holds sliding_attention, but use_sliding_window and sliding_window give no window",
        json.file());
    windows[i] = slides ? window : 0;
  }
  return windows;
}

void describe_llama_like(const JsonObject& json, CausalLMConfig& c) {
  c.vocab_size = size_of(json, "vocab_size");
  c.hidden_size = size_of(json, "hidden_size");
  c.context_length = size_of(json, "max_position_embeddings");
  c.norm = NormKind::rms;
  c.eps = json.get<double>("rms_norm_eps");
  c.tied = json.get<bool>("tie_word_embeddings");
  c.initializer_range = json.get<double>("initializer_range");
  TransformerBlockOptions block{.dim = c.hidden_size, .norm = NormKind::rms, .eps = c.eps};
  auto& attention = block.attention;
  attention.heads = size_of(json, "num_attention_heads");
  attention.kv_heads = json.has("num_key_value_heads") ? size_of(json, "num_key_value_heads") : attention.heads;
  WINNOW_CHECK_KIND(attention.heads % attention.kv_heads == 0, ErrorKind::file,
                    "{}: num_key_value_heads must divide num_attention_heads = {}, got {}", json.file(),
                    attention.heads, attention.kv_heads);
  if (json.has("head_dim")) {
    attention.head_dim = size_of(json, "head_dim");
  } else {
    WINNOW_CHECK_KIND(c.hidden_size % attention.heads == 0, ErrorKind::file,
                      "{}: num_attention_heads must divide hidden_size = {}, got {}", json.file(), c.hidden_size,
                      attention.heads);
    attention.head_dim = c.hidden_size / attention.heads;
  }
  attention.qkv_bias = QkvBias::none;
  attention.out_bias = false;
  attention.dropout = rate_of(json, "attention_dropout");
  block.mlp = {.hidden = size_of(json, "intermediate_size"),
               .kind = MlpKind::gated,
               .activation = activation_of(json.get<std::string>("hidden_act"), json.file() + ": hidden_act"),
               .bias = false};
  c.rotary = rotary_of(json, attention.head_dim);
  c.layers.assign(static_cast<size_t>(size_of(json, "num_hidden_layers", 4096)), {.block = block});
}

void describe_attention_bias(const JsonObject& json, CausalLMConfig& c) {
  if (!json.get<bool>("attention_bias")) return;
  for (auto& layer : c.layers) {
    layer.block.attention.qkv_bias = QkvBias::all;
    layer.block.attention.out_bias = true;
  }
}

void describe_window(const JsonObject& json, CausalLMConfig& c) {
  if (!json.has("sliding_window")) return;
  for (auto& layer : c.layers) layer.window = size_of(json, "sliding_window");
}

void describe_experts(const JsonObject& json, const std::string& width_key, const std::string& count_key,
                      bool renormalize, const std::vector<bool>& sparse, CausalLMConfig& c) {
  const auto experts = size_of(json, count_key, 4096);
  const moe::ExpertMlpOptions options{.dim = c.hidden_size,
                                      .hidden = size_of(json, width_key),
                                      .experts = experts,
                                      .top_k = size_of(json, "num_experts_per_tok", experts),
                                      .renormalize = renormalize,
                                      .activation = c.layers.front().block.mlp.activation};
  for (size_t i = 0; i < c.layers.size(); ++i) {
    if (sparse[i]) c.layers[i].moe = options;
  }
  c.router_aux_coefficient = json.get<double>("router_aux_loss_coef");
  c.router_logits = json.get<bool>("output_router_logits");
}

}  // namespace winnow::models
