// Whisper in folders: its configuration and the names of its tensors.
#include <fmt/format.h>

#include <utility>

#include "causal_lm_family.h"
#include "config_reader.h"
#include "encoder_decoder.h"
#include "registry.h"
#include "winnow/models/vit_config.h"
#include "winnow/models/whisper.h"

namespace winnow::models {

namespace {

const std::vector<std::string>& own_keys() {
  static const std::vector<std::string> keys = {"activation_dropout",
                                                "activation_function",
                                                "alignment_heads",
                                                "apply_spec_augment",
                                                "attention_dropout",
                                                "classifier_proj_size",
                                                "d_model",
                                                "decoder_attention_heads",
                                                "decoder_ffn_dim",
                                                "decoder_layerdrop",
                                                "decoder_layers",
                                                "dropout",
                                                "encoder_attention_heads",
                                                "encoder_ffn_dim",
                                                "encoder_layerdrop",
                                                "encoder_layers",
                                                "forced_decoder_ids",
                                                "init_std",
                                                "mask_feature_length",
                                                "mask_feature_min_masks",
                                                "mask_feature_prob",
                                                "mask_time_length",
                                                "mask_time_min_masks",
                                                "mask_time_prob",
                                                "max_source_positions",
                                                "max_target_positions",
                                                "median_filter_width",
                                                "num_hidden_layers",
                                                "num_mel_bins",
                                                "scale_embedding",
                                                "use_weighted_layer_sum",
                                                "vocab_size"};
  return keys;
}

// Of generation or of training only: refused where training would silently differ.
void refuse_training_options(const io::JsonObject& json) {
  for (const auto* key : {"encoder_layerdrop", "decoder_layerdrop"}) {
    WINNOW_CHECK_KIND(json.get_or<double>(key, 0.0) == 0.0, ErrorKind::unsupported, "{}: {} must be 0, got {}",
                      json.file(), key, json.get<double>(key));
  }
  WINNOW_CHECK_KIND(!json.get_or<bool>("apply_spec_augment", false), ErrorKind::unsupported,
                    "{}: apply_spec_augment must be false", json.file());
}

}  // namespace

WhisperConfig read_whisper_config(const io::JsonObject& json) {
  check_keys(json, own_keys());
  check_model_type(json, "whisper");
  refuse_training_options(json);
  WhisperConfig c;
  const auto size = [&](const char* key, int64_t& member) { member = size_or(json, key, member); };
  size("vocab_size", c.vocab_size);
  size("num_mel_bins", c.num_mel_bins);
  size("d_model", c.d_model);
  size("encoder_layers", c.encoder_layers);
  size("encoder_attention_heads", c.encoder_attention_heads);
  size("encoder_ffn_dim", c.encoder_ffn_dim);
  size("decoder_layers", c.decoder_layers);
  size("decoder_attention_heads", c.decoder_attention_heads);
  size("decoder_ffn_dim", c.decoder_ffn_dim);
  size("max_source_positions", c.max_source_positions);
  size("max_target_positions", c.max_target_positions);
  for (const auto& [key, heads] : {std::pair{"encoder_attention_heads", c.encoder_attention_heads},
                                   std::pair{"decoder_attention_heads", c.decoder_attention_heads}}) {
    WINNOW_CHECK_KIND(c.d_model % heads == 0, ErrorKind::file, "{}: {} must divide d_model = {}, got {}", json.file(),
                      key, c.d_model, heads);
  }
  c.activation_function = json.get_or<std::string>("activation_function", c.activation_function);
  activation_of(c.activation_function, json.file() + ": activation_function");
  c.scale_embedding = json.get_or<bool>("scale_embedding", c.scale_embedding);
  WINNOW_CHECK_KIND(json.get_or<bool>("tie_word_embeddings", true), ErrorKind::unsupported,
                    "{}: tie_word_embeddings must be true", json.file());
  c.dropout = rate_or(json, "dropout", c.dropout);
  c.attention_dropout = rate_or(json, "attention_dropout", c.attention_dropout);
  c.activation_dropout = rate_or(json, "activation_dropout", c.activation_dropout);
  c.init_std = json.get_or<double>("init_std", c.init_std);
  const auto id = [&](const char* key, int64_t& member) {
    if (json.has(key) && json.raw(key).is_number_integer()) member = json.get<int64_t>(key);
  };
  id("pad_token_id", c.pad_token_id);
  id("bos_token_id", c.bos_token_id);
  id("eos_token_id", c.eos_token_id);
  id("decoder_start_token_id", c.decoder_start_token_id);
  c.suppress_tokens = json.get_or<std::vector<int64_t>>("suppress_tokens", {});
  c.begin_suppress_tokens = json.get_or<std::vector<int64_t>>("begin_suppress_tokens", {});
  return c;
}

io::Json to_json(const WhisperConfig& c) {
  io::Json json = {{"architectures", io::Json::array({"WhisperForConditionalGeneration"})},
                   {"model_type", "whisper"},
                   {"vocab_size", c.vocab_size},
                   {"num_mel_bins", c.num_mel_bins},
                   {"d_model", c.d_model},
                   {"encoder_layers", c.encoder_layers},
                   {"encoder_attention_heads", c.encoder_attention_heads},
                   {"encoder_ffn_dim", c.encoder_ffn_dim},
                   {"decoder_layers", c.decoder_layers},
                   {"decoder_attention_heads", c.decoder_attention_heads},
                   {"decoder_ffn_dim", c.decoder_ffn_dim},
                   {"max_source_positions", c.max_source_positions},
                   {"max_target_positions", c.max_target_positions},
                   {"activation_function", c.activation_function},
                   {"scale_embedding", c.scale_embedding},
                   {"dropout", c.dropout},
                   {"attention_dropout", c.attention_dropout},
                   {"activation_dropout", c.activation_dropout},
                   {"init_std", c.init_std},
                   {"is_encoder_decoder", true},
                   {"tie_word_embeddings", true},
                   {"pad_token_id", c.pad_token_id},
                   {"bos_token_id", c.bos_token_id},
                   {"eos_token_id", c.eos_token_id},
                   {"decoder_start_token_id", c.decoder_start_token_id},
                   {"torch_dtype", "float32"}};
  const auto list = [](const std::vector<int64_t>& ids) { return ids.empty() ? io::Json() : io::Json(ids); };
  json["suppress_tokens"] = list(c.suppress_tokens);
  json["begin_suppress_tokens"] = list(c.begin_suppress_tokens);
  return json;
}

namespace {

// q, k, v of a self-attention whose biases are on queries and values only.
void add_self(WeightMap& map, const MultiHeadAttention& attention, const std::string& name) {
  add_qkv(map, attention, name + "q_proj", name + "k_proj", name + "v_proj");
  map.add(attention->q_bias, {name + "q_proj.bias"});
  map.add(attention->v_bias, {name + "v_proj.bias"});
  add_linear(map, attention->proj, name + "out_proj");
}

void add_blocks(WeightMap& map, Stack<TransformerBlock> blocks, const std::string& base) {
  int64_t index = 0;
  for (auto& block : *blocks.ptr()) {
    const auto layer = fmt::format("{}layers.{}.", base, index++);
    add_self(map, block->attn, layer + "self_attn.");
    add_norm(map, block->norm1, layer + "self_attn_layer_norm");
    if (block->cross_attn) {
      const auto cross = layer + "encoder_attn.";
      add_cross(map, block->cross_attn, cross + "q_proj", cross + "k_proj", cross + "v_proj");
      add_linear(map, block->cross_attn->proj, cross + "out_proj");
      add_norm(map, block->norm_cross, layer + "encoder_attn_layer_norm");
    }
    add_linear(map, block->mlp->fc1, layer + "fc1");
    add_linear(map, block->mlp->fc2, layer + "fc2");
    add_norm(map, block->norm2, layer + "final_layer_norm");
  }
}

std::shared_ptr<Pretrained> make_whisper(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<WhisperImpl>(read_whisper_config(json));
}

}  // namespace

WeightMap WhisperImpl::weight_map() const {
  WeightMap map({"published"});
  const std::string base = "model.", in = base + "encoder.", out = base + "decoder.";
  for (const auto& [conv, name] : {std::pair{encoder->conv1, "conv1"}, std::pair{encoder->conv2, "conv2"}}) {
    map.add(conv->weight, {in + name + ".weight"});
    map.add(conv->bias, {in + name + ".bias"});
  }
  map.add(encoder->positions->weight, {in + "embed_positions.weight"});
  add_blocks(map, encoder->blocks, in);
  add_norm(map, encoder->norm, in + "layer_norm");
  map.add(decoder->embed->weight, {out + "embed_tokens.weight"});
  map.add(decoder->positions->weight, {out + "embed_positions.weight"});
  add_blocks(map, decoder->blocks, out);
  add_norm(map, decoder->norm, out + "layer_norm");
  map.tie("proj_out.weight", out + "embed_tokens.weight");
  map.accept_prefix(base);
  return map;
}

Makers whisper_makers() {
  return {{"WhisperForConditionalGeneration", make_whisper}};
}

}  // namespace winnow::models
