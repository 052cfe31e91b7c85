// OLMoE: norms of q and k over the whole projection, experts in every layer. Source: Muennighoff et al. 2024, arXiv
// 2409.02060.
#include "causal_lm_family.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void describe(const JsonObject& json, CausalLMConfig& c) {
  describe_llama_like(json, c);
  describe_experts(json, "intermediate_size", "num_experts", json.get<bool>("norm_topk_prob"),
                   std::vector<bool>(c.layers.size(), true), c);
  describe_attention_bias(json, c);
  for (auto& layer : c.layers) {
    auto& attention = layer.block.attention;
    attention.qk_norm = QkNorm::whole_projection;
    attention.qk_norm_eps = c.eps;
    if (!json.has("clip_qkv")) continue;
    attention.clip_qkv = json.get<double>("clip_qkv");
    WINNOW_CHECK_KIND(*attention.clip_qkv > 0, ErrorKind::file, "{}: clip_qkv must be above 0, got {}", json.file(),
                      *attention.clip_qkv);
  }
}

}  // namespace

CausalLMFamily olmoe_family() {
  return {.architecture = "OlmoeForCausalLM",
          .model_type = "olmoe",
          .defaults = {{"attention_bias", false},
                       {"attention_dropout", 0.0},
                       {"clip_qkv", Json()},
                       {"hidden_act", "silu"},
                       {"hidden_size", 2048},
                       {"initializer_range", 0.02},
                       {"intermediate_size", 2048},
                       {"max_position_embeddings", 4096},
                       {"norm_topk_prob", false},
                       {"num_attention_heads", 16},
                       {"num_experts", 64},
                       {"num_experts_per_tok", 8},
                       {"num_hidden_layers", 16},
                       {"num_key_value_heads", Json()},
                       {"output_router_logits", false},
                       {"rms_norm_eps", 1e-5},
                       {"rope_parameters", Json()},
                       {"rope_scaling", Json()},
                       {"rope_theta", 10000.0},
                       {"router_aux_loss_coef", 0.01},
                       {"tie_word_embeddings", false},
                       {"vocab_size", 50304}},
          .aliases = {{"num_local_experts", "num_experts"}},
          .describe = describe,
          .weights = llama_like_weights};
}

}  // namespace winnow::models
