// Mistral: Llama with a sliding window in every layer. Source: Jiang et al. 2023, arXiv 2310.06825.
#include "causal_lm_family.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void describe(const JsonObject& json, CausalLMConfig& c) {
  describe_llama_like(json, c);
  describe_window(json, c);
}

}  // namespace

CausalLMFamily mistral_family() {
  return {.architecture = "MistralForCausalLM",
          .model_type = "mistral",
          .defaults = {{"attention_dropout", 0.0},
                       {"head_dim", Json()},
                       {"hidden_act", "silu"},
                       {"hidden_size", 4096},
                       {"initializer_range", 0.02},
                       {"intermediate_size", 14336},
                       {"max_position_embeddings", 131072},
                       {"num_attention_heads", 32},
                       {"num_hidden_layers", 32},
                       {"num_key_value_heads", 8},
                       {"rms_norm_eps", 1e-6},
                       {"rope_parameters", Json()},
                       {"rope_scaling", Json()},
                       {"rope_theta", 10000.0},
                       {"sliding_window", 4096},
                       {"tie_word_embeddings", false},
                       {"vocab_size", 32000}},
          .describe = describe,
          .weights = llama_like_weights};
}

}  // namespace winnow::models
