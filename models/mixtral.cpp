// Mixtral: Mistral with a mixture of experts in every layer. Source: Jiang et al. 2024, arXiv 2401.04088.
#include "causal_lm_family.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void describe(const JsonObject& json, CausalLMConfig& c) {
  describe_llama_like(json, c);
  describe_experts(json, "intermediate_size", "num_local_experts", /*renormalize=*/true,
                   std::vector<bool>(c.layers.size(), true), c);
  const auto jitter = json.get_or<double>("router_jitter_noise", 0.0);
  WINNOW_CHECK_KIND(jitter == 0, ErrorKind::unsupported, "{}: router_jitter_noise = {} is not supported", json.file(),
                    jitter);
  describe_window(json, c);
}

WeightMap weights(const CausalLMImpl& model) {
  return llama_like_weights(model, {.block = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"});
}

}  // namespace

CausalLMFamily mixtral_family() {
  return {.architecture = "MixtralForCausalLM",
          .model_type = "mixtral",
          .defaults = {{"attention_dropout", 0.0},
                       {"head_dim", Json()},
                       {"hidden_act", "silu"},
                       {"hidden_size", 4096},
                       {"initializer_range", 0.02},
                       {"intermediate_size", 14336},
                       {"max_position_embeddings", 131072},
                       {"num_attention_heads", 32},
                       {"num_experts_per_tok", 2},
                       {"num_hidden_layers", 32},
                       {"num_key_value_heads", 8},
                       {"num_local_experts", 8},
                       {"output_router_logits", false},
                       {"rms_norm_eps", 1e-5},
                       {"rope_parameters", Json()},
                       {"rope_scaling", Json()},
                       {"rope_theta", 1e6},
                       {"router_aux_loss_coef", 0.001},
                       {"router_jitter_noise", 0.0},
                       {"sliding_window", Json()},
                       {"tie_word_embeddings", false},
                       {"vocab_size", 32000}},
          .aliases = {{"num_experts", "num_local_experts"}},
          .describe = describe,
          .weights = weights};
}

}  // namespace winnow::models
