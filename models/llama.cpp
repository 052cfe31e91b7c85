// Llama: RMSNorm, rotary positions, gated MLP, grouped key heads. Source: Touvron et al. 2023, arXiv 2302.13971.
#include "causal_lm_family.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using io::Json;
using io::JsonObject;

void describe(const JsonObject& json, CausalLMConfig& c) {
  describe_llama_like(json, c);
  WINNOW_CHECK_KIND(!json.get_or<bool>("rope_interleaved", false), ErrorKind::unsupported,
                    "{}: rope_interleaved = true is not supported", json.file());
  describe_attention_bias(json, c);
  for (auto& layer : c.layers) layer.block.mlp.bias = json.get<bool>("mlp_bias");
}

}  // namespace

CausalLMFamily llama_family() {
  return {.architecture = "LlamaForCausalLM",
          .model_type = "llama",
          .defaults = {{"attention_bias", false},
                       {"attention_dropout", 0.0},
                       {"head_dim", Json()},
                       {"hidden_act", "silu"},
                       {"hidden_size", 4096},
                       {"initializer_range", 0.02},
                       {"intermediate_size", 11008},
                       {"max_position_embeddings", 2048},
                       {"mlp_bias", false},
                       {"num_attention_heads", 32},
                       {"num_hidden_layers", 32},
                       {"num_key_value_heads", Json()},
                       {"rms_norm_eps", 1e-6},
                       {"rope_parameters", Json()},
                       {"rope_scaling", Json()},
                       {"rope_theta", 10000.0},
                       {"tie_word_embeddings", false},
                       {"vocab_size", 32000}},
          // pretraining_tp cuts products into pieces of the same sum; the others are notes of conversion tools.
          .passed_over = {"is_llama_config", "max_sequence_length", "pretraining_tp", "rope_interleaved",
                          "transformers.js_config"},
          .describe = describe,
          .weights = llama_like_weights};
}

CausalLMConfig llama_config(const CausalLMSizes& s) {
  const auto hidden = s.hidden > 0 ? s.hidden : (8 * s.dim / 3 + 7) / 8 * 8;
  const Json json = {{"architectures", {"LlamaForCausalLM"}},
                     {"vocab_size", s.vocab_size},
                     {"max_position_embeddings", s.context_length},
                     {"hidden_size", s.dim},
                     {"num_hidden_layers", s.depth},
                     {"num_attention_heads", s.heads},
                     {"num_key_value_heads", s.kv_heads > 0 ? s.kv_heads : s.heads},
                     {"intermediate_size", hidden},
                     {"rope_theta", s.rope_theta},
                     {"tie_word_embeddings", s.tied},
                     {"bos_token_id", Json()},
                     {"eos_token_id", Json()}};
  return read_causal_lm_config(JsonObject(json, "llama_config"));
}

}  // namespace winnow::models
