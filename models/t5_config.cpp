// T5 in folders: its configuration and the names of its tensors.
#include <ATen/Functions.h>
#include <fmt/format.h>

#include <utility>

#include "causal_lm_family.h"
#include "config_reader.h"
#include "encoder_decoder.h"
#include "registry.h"
#include "winnow/models/t5.h"
#include "winnow/models/vit_config.h"

namespace winnow::models {

T5Config read_t5_config(const io::JsonObject& json) {
  check_keys(json, {"classifier_dropout",
                    "d_ff",
                    "d_kv",
                    "d_model",
                    "dense_act_fn",
                    "dropout_rate",
                    "feed_forward_proj",
                    "initializer_factor",
                    "is_decoder",
                    "is_gated_act",
                    "layer_norm_epsilon",
                    "n_positions",
                    "num_decoder_layers",
                    "num_heads",
                    "num_layers",
                    "output_past",
                    "relative_attention_max_distance",
                    "relative_attention_num_buckets",
                    "scale_decoder_outputs",
                    "vocab_size"});
  T5Config c;
  c.encoder_only = head_of<bool>(json, "T5ForConditionalGeneration",
                                 {{"T5ForConditionalGeneration", false}, {"T5EncoderModel", true}});
  check_model_type(json, "t5");
  WINNOW_CHECK_KIND(!json.get_or<bool>("is_decoder", false), ErrorKind::unsupported,
                    "{}: is_decoder must be false: T5 is read as encoder and decoder", json.file());
  const auto size = [&](const char* key, int64_t& member) { member = size_or(json, key, member); };
  size("vocab_size", c.vocab_size);
  size("d_model", c.d_model);
  size("d_kv", c.d_kv);
  size("d_ff", c.d_ff);
  size("num_layers", c.num_layers);
  c.num_decoder_layers = size_or(json, "num_decoder_layers", c.num_layers);
  size("num_heads", c.num_heads);
  size("relative_attention_num_buckets", c.relative_attention_num_buckets);
  size("relative_attention_max_distance", c.relative_attention_max_distance);
  c.feed_forward_proj = json.get_or<std::string>("feed_forward_proj", c.feed_forward_proj);
  const auto& form = c.feed_forward_proj;
  activation_of(form.starts_with("gated-") ? form.substr(6) : form, json.file() + ": feed_forward_proj");
  c.layer_norm_epsilon = json.get_or<double>("layer_norm_epsilon", c.layer_norm_epsilon);
  WINNOW_CHECK_KIND(c.layer_norm_epsilon >= 0, ErrorKind::file, "{}: layer_norm_epsilon must be >= 0, got {}",
                    json.file(), c.layer_norm_epsilon);
  c.dropout_rate = rate_or(json, "dropout_rate", c.dropout_rate);
  c.initializer_factor = json.get_or<double>("initializer_factor", c.initializer_factor);
  const bool tied = json.get_or<bool>("tie_word_embeddings", true);
  c.scale_decoder_outputs = json.get_or<bool>("scale_decoder_outputs", tied);
  c.own_head = !tied && !c.encoder_only;
  c.pad_token_id = json.get_or<int64_t>("pad_token_id", c.pad_token_id);
  if (json.has("eos_token_id") && json.raw("eos_token_id").is_number_integer()) {
    c.eos_token_id = json.get<int64_t>("eos_token_id");
  }
  c.decoder_start_token_id = json.get_or<int64_t>("decoder_start_token_id", c.pad_token_id);
  return c;
}

io::Json to_json(const T5Config& c) {
  const bool gated = c.feed_forward_proj.starts_with("gated-");
  return {{"architectures", io::Json::array({c.encoder_only ? "T5EncoderModel" : "T5ForConditionalGeneration"})},
          {"model_type", "t5"},
          {"vocab_size", c.vocab_size},
          {"d_model", c.d_model},
          {"d_kv", c.d_kv},
          {"d_ff", c.d_ff},
          {"num_layers", c.num_layers},
          {"num_decoder_layers", c.num_decoder_layers},
          {"num_heads", c.num_heads},
          {"relative_attention_num_buckets", c.relative_attention_num_buckets},
          {"relative_attention_max_distance", c.relative_attention_max_distance},
          {"feed_forward_proj", c.feed_forward_proj},
          {"is_gated_act", gated},
          {"layer_norm_epsilon", c.layer_norm_epsilon},
          {"dropout_rate", c.dropout_rate},
          {"initializer_factor", c.initializer_factor},
          {"is_encoder_decoder", !c.encoder_only},
          // Read by transformers before 5 as whether to scale; an own head in the file is kept in either case by 5.
          {"tie_word_embeddings", c.encoder_only || !c.own_head || c.scale_decoder_outputs},
          {"scale_decoder_outputs", c.scale_decoder_outputs},
          {"pad_token_id", c.pad_token_id},
          {"eos_token_id", c.eos_token_id},
          {"decoder_start_token_id", c.decoder_start_token_id},
          {"torch_dtype", "float32"}};
}

namespace {

void add_stack(WeightMap& map, T5Stack stack, const std::string& base, bool decoder) {
  int64_t index = 0;
  for (auto& block : *stack->blocks.ptr()) {
    const auto layer = fmt::format("{}.block.{}.layer.", base, index++);
    const auto self = layer + "0.SelfAttention.", cross = layer + "1.EncDecAttention.";
    const auto mlp = layer + (decoder ? "2.DenseReluDense." : "1.DenseReluDense.");
    add_qkv(map, block->attn, self + "q", self + "k", self + "v");
    add_linear(map, block->attn->proj, self + "o");
    add_norm(map, block->norm1, layer + "0.layer_norm");
    if (decoder) {
      add_cross(map, block->cross_attn, cross + "q", cross + "k", cross + "v");
      add_linear(map, block->cross_attn->proj, cross + "o");
      add_norm(map, block->norm_cross, layer + "1.layer_norm");
      map.ignore({cross + "relative_attention_bias.weight"});  // of early files; nobody reads it
    }
    if (block->mlp->gate) {
      add_linear(map, block->mlp->gate, mlp + "wi_0");
      add_linear(map, block->mlp->fc1, mlp + "wi_1");
    } else {
      add_linear(map, block->mlp->fc1, mlp + "wi");
    }
    add_linear(map, block->mlp->fc2, mlp + "wo");
    add_norm(map, block->norm2, layer + (decoder ? "2.layer_norm" : "1.layer_norm"));
  }
  map.add(stack->bias->weight, {base + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"});
  add_norm(map, stack->norm, base + ".final_layer_norm");
}

// Whether the file holds a head of its own: it does, and config.json says so or its values are others.
bool has_own_head(const T5Config& config, const io::Checkpoint& weights) {
  if (config.encoder_only || !weights.has("lm_head.weight")) return false;
  if (config.own_head || !weights.has("shared.weight")) return config.own_head;
  const auto head = weights.tensor("lm_head.weight"), shared = weights.tensor("shared.weight");
  return head.sizes() == shared.sizes() && head.scalar_type() == shared.scalar_type() && !head.equal(shared);
}

std::shared_ptr<Pretrained> make_t5(const io::JsonObject& json, const io::Checkpoint& weights) {
  auto config = read_t5_config(json);
  config.own_head = has_own_head(config, weights);
  return std::make_shared<T5Impl>(std::move(config));
}

}  // namespace

WeightMap T5Impl::weight_map() const {
  WeightMap map({"published"});
  const std::string shared = "shared.weight";
  map.add(embed->weight, {shared});
  map.tie("encoder.embed_tokens.weight", shared);
  add_stack(map, encoder, "encoder", false);
  if (config.encoder_only) return map;
  map.tie("decoder.embed_tokens.weight", shared);
  add_stack(map, decoder, "decoder", true);
  if (config.own_head) {
    map.add(head->weight, {"lm_head.weight"});
  } else {
    map.tie("lm_head.weight", shared);
  }
  return map;
}

Makers t5_makers() {
  return {{"T5EncoderModel", make_t5}, {"T5ForConditionalGeneration", make_t5}};
}

}  // namespace winnow::models
