// Qwen2: biases on q, k and v. Qwen3: norms of q and k per head. Qwen3-MoE: experts in some layers. Sources: Qwen team
// 2024, arXiv 2407.10671; 2025, arXiv 2505.09388.
#include <algorithm>

#include "causal_lm_family.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void set_windows(const JsonObject& json, CausalLMConfig& c) {
  const auto windows = windows_of(json, static_cast<int64_t>(c.layers.size()));
  for (size_t i = 0; i < windows.size(); ++i) c.layers[i].window = windows[i];
}

void describe_qwen2(const JsonObject& json, CausalLMConfig& c) {
  describe_llama_like(json, c);
  WINNOW_CHECK_KIND(!json.get_or<bool>("use_mrope", false), ErrorKind::unsupported,
                    "{}: use_mrope = true is not supported", json.file());
  for (auto& layer : c.layers) layer.block.attention.qkv_bias = QkvBias::all;
  set_windows(json, c);
}

void describe_qwen3_attention(const JsonObject& json, CausalLMConfig& c) {
  describe_llama_like(json, c);
  describe_attention_bias(json, c);
  for (auto& layer : c.layers) {
    auto& attention = layer.block.attention;
    attention.qk_norm = QkNorm::per_head;
    attention.qk_norm_eps = c.eps;
  }
}

void describe_qwen3(const JsonObject& json, CausalLMConfig& c) {
  describe_qwen3_attention(json, c);
  set_windows(json, c);
}

void describe_qwen3_moe(const JsonObject& json, CausalLMConfig& c) {
  describe_qwen3_attention(json, c);
  const auto dense = json.get_or<std::vector<int64_t>>("mlp_only_layers", {});
  const auto step = size_of(json, "decoder_sparse_step");
  std::vector<bool> sparse;
  for (int64_t i = 0; i < static_cast<int64_t>(c.layers.size()); ++i) {
    sparse.push_back((i + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end());
  }
  describe_experts(json, "moe_intermediate_size", "num_experts", json.get<bool>("norm_topk_prob"), sparse, c);
  // All layers have the window, whatever max_window_layers says.
  if (json.get<bool>("use_sliding_window")) describe_window(json, c);
}

// Keys and defaults that the three have in common.
Json common_defaults() {
  return {{"attention_dropout", 0.0},
          {"head_dim", Json()},
          {"hidden_act", "silu"},
          {"hidden_size", 4096},
          {"initializer_range", 0.02},
          {"intermediate_size", 22016},
          {"max_position_embeddings", 32768},
          {"num_attention_heads", 32},
          {"num_hidden_layers", 32},
          {"num_key_value_heads", 32},
          {"rms_norm_eps", 1e-6},
          {"rope_parameters", Json()},
          {"rope_scaling", Json()},
          {"rope_theta", 10000.0},
          {"sliding_window", 4096},
          {"tie_word_embeddings", false},
          {"use_sliding_window", false},
          {"vocab_size", 151936}};
}

Json with(Json defaults, const Json& own) {
  defaults.update(own);
  return defaults;
}

}  // namespace

CausalLMFamily qwen2_family() {
  return {.architecture = "Qwen2ForCausalLM",
          .model_type = "qwen2",
          .defaults = with(common_defaults(), {{"layer_types", Json()}, {"max_window_layers", 28}}),
          .passed_over = {"use_mrope"},
          .describe = describe_qwen2,
          .weights = llama_like_weights};
}

CausalLMFamily qwen3_family() {
  return {.architecture = "Qwen3ForCausalLM",
          .model_type = "qwen3",
          .defaults =
              with(common_defaults(),
                   {{"attention_bias", false}, {"head_dim", 128}, {"layer_types", Json()}, {"max_window_layers", 28}}),
          .describe = describe_qwen3,
          .weights = llama_like_weights};
}

CausalLMFamily qwen3_moe_family() {
  return {.architecture = "Qwen3MoeForCausalLM",
          .model_type = "qwen3_moe",
          .defaults = with(common_defaults(), {{"attention_bias", false},
                                               {"decoder_sparse_step", 1},
                                               {"hidden_size", 2048},
                                               {"intermediate_size", 6144},
                                               {"mlp_only_layers", Json::array()},
                                               {"moe_intermediate_size", 768},
                                               {"norm_topk_prob", false},
                                               {"num_experts", 128},
                                               {"num_experts_per_tok", 8},
                                               {"num_hidden_layers", 24},
                                               {"num_key_value_heads", 4},
                                               {"output_router_logits", false},
                                               {"router_aux_loss_coef", 0.001}}),
          .passed_over = {"max_window_layers"},
          .aliases = {{"num_local_experts", "num_experts"}},
          .describe = describe_qwen3_moe,
          .weights = llama_like_weights};
}

}  // namespace winnow::models
