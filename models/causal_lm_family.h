// What an architecture adds to the network of causal_lm.h: its own defaults, what its options mean, and the names of
// its tensors. One small source file per family; all of them share what stands below.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "winnow/models/causal_lm.h"

namespace winnow::models {

struct CausalLMFamily {
  std::string architecture;
  std::string model_type;
  // Every key that config.json may hold, with this architecture's own default. Saved files hold all of them.
  io::Json defaults;
  // Further keys that change nothing in what is computed.
  std::vector<std::string> passed_over = {};
  // Other spellings of keys: transformers 5 and published files differ.
  std::vector<std::pair<std::string, std::string>> aliases = {};
  // `json` holds every key of `defaults`; fills everything of `config` but architecture and json.
  void (*describe)(const io::JsonObject& json, CausalLMConfig& config);
  WeightMap (*weights)(const CausalLMImpl& model);
};

CausalLMFamily gpt2_family();
CausalLMFamily gpt_neox_family();
CausalLMFamily llama_family();
CausalLMFamily mistral_family();
CausalLMFamily mixtral_family();
CausalLMFamily olmoe_family();
CausalLMFamily qwen2_family();
CausalLMFamily qwen3_family();
CausalLMFamily qwen3_moe_family();

// Sorted by architecture.
const std::vector<CausalLMFamily>& causal_lm_families();
// Error(unsupported) if there is none of that name.
const CausalLMFamily& causal_lm_family(const std::string& architecture);

// ---- Reading. All errors name file and key. ----

// An integer in [1, most]; sizes are bounded so that no product of two overflows.
int64_t size_of(const io::JsonObject& json, const std::string& key, int64_t most = int64_t{1} << 30);
// A number in [0, 1).
double rate_of(const io::JsonObject& json, const std::string& key);
// Rotary options from rope_parameters, or rope_scaling, rope_theta and (GPT-NeoX) rotary_pct, rotary_emb_base beside
// it. `partial` is the default share of a head that turns; other shares than 1 are refused if it is 1.
RotaryOptions rotary_of(const io::JsonObject& json, int64_t head_dim, double partial = 1.0);
// The windows of all layers by use_sliding_window, sliding_window, max_window_layers and layer_types (Qwen2, Qwen3).
std::vector<int64_t> windows_of(const io::JsonObject& json, int64_t layers);
// What Llama and its relatives share: sizes, rotary positions, RMSNorm, gated MLP without biases; all layers alike.
void describe_llama_like(const io::JsonObject& json, CausalLMConfig& config);
// Biases of all projections of every attention, where attention_bias says so.
void describe_attention_bias(const io::JsonObject& json, CausalLMConfig& config);
// The window of every layer, unless sliding_window is null.
void describe_window(const io::JsonObject& json, CausalLMConfig& config);
// Sizes and coefficients of the experts that stand in place of the MLP of each layer in `sparse`.
void describe_experts(const io::JsonObject& json, const std::string& width_key, const std::string& count_key,
                      bool renormalize, const std::vector<bool>& sparse, CausalLMConfig& config);

// ---- Names of tensors. ----

void add_norm(WeightMap& map, const Norm& norm, const std::string& name);
void add_linear(WeightMap& map, const Linear& linear, const std::string& name);
// The rows of a fused qkv as three tensors.
void add_qkv(WeightMap& map, const MultiHeadAttention& attention, const std::string& q, const std::string& k,
             const std::string& v);
// The head under its name, or, tied, a copy of the embedding that a file may hold.
void add_head(WeightMap& map, const CausalLMImpl& model, const std::string& name, const std::string& embedding);

// Names of the feed-forward part of a Llama-like layer.
struct ExpertNames {
  std::string block = "mlp";  // of router and experts
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
};
// model.layers.N.self_attn.q_proj.weight and so on; with experts also the fused tensors that transformers 5 holds in
// memory, as a second style.
WeightMap llama_like_weights(const CausalLMImpl& model, const ExpertNames& names);
WeightMap llama_like_weights(const CausalLMImpl& model);  // with the names above

}  // namespace winnow::models
