#include "small_language_models.h"

#include <torch/types.h>

namespace winnow::testing {

using io::Json;

Json small_lm_json(const std::string& architecture, const Json& changes) {
  Json json = {{"architectures", {architecture}}, {"vocab_size", 53}, {"initializer_range", 0.3}};
  if (architecture == "GPT2LMHeadModel") {
    json.update({{"n_embd", 24}, {"n_head", 4}, {"n_layer", 3}, {"n_positions", 40}});
  } else {
    json.update({{"hidden_size", 24},
                 {"intermediate_size", 20},
                 {"max_position_embeddings", 40},
                 {"num_attention_heads", 4},
                 {"num_hidden_layers", 3}});
  }
  if (architecture == "GPTNeoXForCausalLM") {
    json["rotary_pct"] = 0.4;
  } else if (architecture != "GPT2LMHeadModel") {
    json["num_key_value_heads"] = 2;
  }
  if (architecture == "MistralForCausalLM") json["sliding_window"] = 5;
  if (architecture == "Qwen2ForCausalLM" || architecture == "Qwen3ForCausalLM") {
    json.update({{"use_sliding_window", true}, {"sliding_window", 4}, {"max_window_layers", 1}});
  }
  if (architecture == "Qwen3ForCausalLM") json["head_dim"] = 10;
  if (architecture == "MixtralForCausalLM") json["num_local_experts"] = 4;
  if (architecture == "OlmoeForCausalLM") json.update({{"num_experts", 5}, {"num_experts_per_tok", 2}});
  if (architecture == "Qwen3MoeForCausalLM") {
    json.update({{"num_experts", 5},
                 {"num_experts_per_tok", 2},
                 {"moe_intermediate_size", 12},
                 {"mlp_only_layers", {1}},
                 {"norm_topk_prob", true}});
  }
  json.update(changes);
  return json;
}

models::CausalLM small_lm(const std::string& architecture, const Json& changes) {
  const io::JsonObject json(small_lm_json(architecture, changes), "config.json");
  models::CausalLM model(models::read_causal_lm_config(json), /*seed=*/7);
  model->eval();
  return model;
}

}  // namespace winnow::testing
