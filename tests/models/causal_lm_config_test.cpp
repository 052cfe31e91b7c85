// What config.json of decoder-only language models may say, what its defaults are, and how a wrong value is told.
#include <gtest/gtest.h>

#include "small_language_models.h"
#include "support/error.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using io::Json;
using testing::small_lm_json;

CausalLMConfig read(const std::string& architecture, const Json& changes = Json::object()) {
  return read_causal_lm_config(io::JsonObject(small_lm_json(architecture, changes), "config.json"));
}

CausalLMConfig read_bare(const std::string& architecture) {
  return read_causal_lm_config(io::JsonObject(Json{{"architectures", {architecture}}}, "config.json"));
}

TEST(CausalLMConfig, EveryArchitectureHasDefaultsOfItsOwn) {
  const auto gpt2 = read_bare("GPT2LMHeadModel");
  EXPECT_EQ(gpt2.vocab_size, 50257);
  EXPECT_EQ(gpt2.learned_positions, 1024);
  EXPECT_TRUE(gpt2.tied);
  EXPECT_EQ(gpt2.layers[0].block.attention.dropout, 0.1);
  EXPECT_EQ(gpt2.layers[0].block.mlp.activation, Activation::gelu_new);
  const auto llama = read_bare("LlamaForCausalLM");
  EXPECT_EQ(llama.eps, 1e-6);
  EXPECT_EQ(llama.rotary->theta, 10000);
  EXPECT_EQ(llama.layers[0].block.attention.kv_heads, 32);
  const auto mistral = read_bare("MistralForCausalLM");
  EXPECT_EQ(mistral.layers[0].window, 4096);
  EXPECT_EQ(mistral.layers[0].block.attention.kv_heads, 8);
  const auto mixtral = read_bare("MixtralForCausalLM");
  EXPECT_EQ(mixtral.layers[0].window, 0);
  EXPECT_EQ(mixtral.eps, 1e-5);
  EXPECT_EQ(mixtral.rotary->theta, 1e6);
  EXPECT_EQ(mixtral.layers[0].moe->experts, 8);
  EXPECT_TRUE(mixtral.layers[0].moe->renormalize);
  EXPECT_EQ(read_bare("Qwen3ForCausalLM").layers[0].block.attention.head_dim, 128);
  const auto qwen3_moe = read_bare("Qwen3MoeForCausalLM");
  EXPECT_EQ(qwen3_moe.layers[0].moe->hidden, 768);
  EXPECT_EQ(qwen3_moe.layers[0].block.attention.head_dim, 64);
  EXPECT_FALSE(qwen3_moe.layers[0].moe->renormalize);
  EXPECT_EQ(read_bare("OlmoeForCausalLM").router_aux_coefficient, 0.01);
  const auto neox = read_bare("GPTNeoXForCausalLM");
  EXPECT_EQ(neox.rotary->dim, 24);  // a quarter of 96
  EXPECT_EQ(neox.layers[0].block.order, ResidualOrder::parallel);
}

TEST(CausalLMConfig, NullIsAValueOfItsOwnWhereTheDefaultIsAnother) {
  EXPECT_EQ(read("MistralForCausalLM", {{"sliding_window", Json()}}).layers[0].window, 0);
  EXPECT_EQ(read("LlamaForCausalLM", {{"num_key_value_heads", Json()}}).layers[0].block.attention.kv_heads, 4);
  EXPECT_EQ(read("GPT2LMHeadModel", {{"n_inner", Json()}}).layers[0].block.mlp.hidden, 96);
}

TEST(CausalLMConfig, BothSpellingsOfRotaryOptionsAreRead) {
  const Json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 16}};
  const auto published = read("LlamaForCausalLM", {{"rope_theta", 5e5}, {"rope_scaling", scaling}});
  auto parameters = scaling;
  parameters["rope_theta"] = 5e5;
  const auto modern = read("LlamaForCausalLM", {{"rope_parameters", parameters}});
  for (const auto& config : {published, modern}) {
    EXPECT_EQ(config.rotary->theta, 5e5);
    EXPECT_EQ(config.rotary->scaling, RotaryScaling::llama3);
    EXPECT_EQ(config.rotary->factor, 8);
    EXPECT_EQ(config.rotary->original_max_positions, 16);
    // Written in both.
    EXPECT_EQ(config.json["rope_theta"], 5e5);
    EXPECT_EQ(config.json["rope_scaling"]["factor"], 8.0);
    EXPECT_EQ(config.json["rope_parameters"]["rope_theta"], 5e5);
  }
  const auto old = read("LlamaForCausalLM", {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  EXPECT_EQ(old.rotary->scaling, RotaryScaling::linear);
  const auto neox = read("GPTNeoXForCausalLM", {{"rotary_pct", 0.7}, {"rotary_emb_base", 777}});
  EXPECT_EQ(neox.rotary->dim, 4);
  EXPECT_EQ(neox.json["rope_parameters"]["partial_rotary_factor"], 0.7);
  const auto plain = read("LlamaForCausalLM");
  EXPECT_TRUE(plain.json["rope_scaling"].is_null());
  EXPECT_EQ(plain.json["rope_parameters"]["rope_type"], "default");
}

TEST(CausalLMConfig, YarnTakesItsLengthFromTheContextWhereNoneIsGiven) {
  const auto config = read("LlamaForCausalLM", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}}}});
  EXPECT_EQ(config.rotary->original_max_positions, 40);
  const auto by_length =
      read("LlamaForCausalLM", {{"rope_scaling", {{"rope_type", "yarn"}, {"original_max_position_embeddings", 10}}}});
  EXPECT_EQ(by_length.rotary->factor, 4);
}

TEST(CausalLMConfig, WindowsFollowTheLayers) {
  const auto windows = [](const CausalLMConfig& config) {
    std::vector<int64_t> all;
    for (const auto& layer : config.layers) all.push_back(layer.window);
    return all;
  };
  using Windows = std::vector<int64_t>;
  EXPECT_EQ(windows(read("Qwen2ForCausalLM")), (Windows{0, 4, 4}));
  EXPECT_EQ(windows(read("Qwen2ForCausalLM", {{"use_sliding_window", false}})), (Windows{0, 0, 0}));
  EXPECT_EQ(windows(read("Qwen3ForCausalLM",
                         {{"layer_types", {"sliding_attention", "full_attention", "sliding_attention"}}})),
            (Windows{4, 0, 4}));
  EXPECT_EQ(windows(read("Qwen3MoeForCausalLM", {{"use_sliding_window", true}, {"sliding_window", 6}})),
            (Windows{6, 6, 6}));
  EXPECT_EQ(windows(read("MistralForCausalLM")), (Windows{5, 5, 5}));
}

TEST(CausalLMConfig, ExpertsStandInTheLayersThatTheConfigNames) {
  const auto sparse = [](const Json& changes) {
    std::string layers;
    for (const auto& layer : read("Qwen3MoeForCausalLM", changes).layers) layers += layer.moe ? 'x' : '-';
    return layers;
  };
  EXPECT_EQ(sparse({{"num_hidden_layers", 5}, {"mlp_only_layers", {1, 4}}}), "x-xx-");
  EXPECT_EQ(sparse({{"num_hidden_layers", 5}, {"mlp_only_layers", Json()}, {"decoder_sparse_step", 2}}), "-x-x-");
  EXPECT_EQ(read("Qwen3MoeForCausalLM", {{"num_local_experts", 5}}).layers[0].moe->experts, 5);
  EXPECT_ERROR(read("Qwen3MoeForCausalLM", {{"num_local_experts", 6}}),
               "config.json: num_local_experts and num_experts are two names of one option, got 6 and 5");
}

TEST(CausalLMConfig, KeysThatChangeNothingArePassedOver) {
  EXPECT_NO_THROW(read("LlamaForCausalLM", {{"pretraining_tp", 4},
                                            {"is_llama_config", true},
                                            {"use_cache", false},
                                            {"torch_dtype", "bfloat16"},
                                            {"transformers.js_config", Json::object()},
                                            {"eos_token_id", {1, 2}}}));
  EXPECT_NO_THROW(read("GPT2LMHeadModel",
                       {{"n_ctx", 40}, {"summary_type", "cls_index"}, {"task_specific_params", Json::object()}}));
}

// The keys of well-known published files, with small sizes.
TEST(CausalLMConfig, KeysOfWellKnownFilesAreRead) {
  EXPECT_NO_THROW(read("GPT2LMHeadModel", {{"_num_labels", 1}, {"n_special", 0}, {"predict_special_tokens", true}}));
  const auto neox = read("GPTNeoXForCausalLM", {{"attention_probs_dropout_prob", 0},
                                                {"hidden_dropout_prob", 0},
                                                {"hidden_act", "gelu_fast"},
                                                {"rotary_emb_base", 10000}});
  EXPECT_EQ(neox.layers[0].block.mlp.activation, Activation::gelu_new);
  EXPECT_NO_THROW(read("Qwen2ForCausalLM", {{"use_mrope", false}}));
  EXPECT_ERROR_KIND(read("Qwen2ForCausalLM", {{"use_mrope", true}}), ErrorKind::unsupported, "use_mrope = true");
  EXPECT_NO_THROW(read("LlamaForCausalLM", {{"max_sequence_length", 40}, {"rope_interleaved", false}}));
  EXPECT_NO_THROW(read("Qwen3MoeForCausalLM", {{"max_window_layers", 48}, {"rope_scaling", Json()}}));
}

struct Wrong {
  const char* architecture;
  Json changes;
  ErrorKind kind;
  const char* message;
};

TEST(CausalLMConfig, SaysWhatItCannotDo) {
  const auto unsupported = ErrorKind::unsupported, file = ErrorKind::file;
  const std::vector<Wrong> all = {
      {"LlamaForCausalLM", {{"quantization_config", {{"bits", 4}}}}, unsupported, "quantization_config is not known"},
      {"LlamaForCausalLM", {{"sliding_window", 4}}, unsupported, "the option sliding_window is not known here"},
      {"LlamaForCausalLM", {{"add_cross_attention", true}}, unsupported, "add_cross_attention = true is not supported"},
      {"LlamaForCausalLM", {{"hidden_act", "tanh"}}, unsupported, "config.json: hidden_act must be one of gelu"},
      {"LlamaForCausalLM", {{"rope_interleaved", true}}, unsupported, "config.json: rope_interleaved"},
      {"LlamaForCausalLM",
       {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}}},
       unsupported,
       "rope_scaling.rope_type must be one of default, linear, llama3, yarn, got dynamic"},
      {"LlamaForCausalLM", {{"rope_scaling", {{"rope_type", "linear"}}}}, file, "rope_scaling.factor is missing"},
      {"LlamaForCausalLM", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", -1}}}}, file, "must be above 0"},
      {"LlamaForCausalLM",
       {{"rope_parameters", {{"rope_theta", 1e4}, {"mrope_section", {1, 2}}}}},
       unsupported,
       "rope_parameters.mrope_section is not known"},
      {"LlamaForCausalLM",
       {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
       unsupported,
       "partial_rotary_factor = 0.5 is not supported"},
      {"LlamaForCausalLM", {{"rope_theta", 0}}, file, "rope_theta must be above 1, got 0"},
      {"LlamaForCausalLM",
       {{"num_key_value_heads", 3}},
       file,
       "num_key_value_heads must divide num_attention_heads = 4"},
      {"LlamaForCausalLM",
       {{"num_attention_heads", 5}, {"num_key_value_heads", 5}},
       file,
       "num_attention_heads must divide hidden_size = 24, got 5"},
      {"LlamaForCausalLM", {{"head_dim", 7}}, file, "must be an even number, got 7 of 7"},
      {"LlamaForCausalLM", {{"num_hidden_layers", 0}}, file, "num_hidden_layers must be in [1, 4096], got 0"},
      {"LlamaForCausalLM", {{"num_hidden_layers", 1000000}}, file, "num_hidden_layers must be in [1, 4096]"},
      {"LlamaForCausalLM", {{"vocab_size", "big"}}, file, "config.json: vocab_size must be an integer, got \"big\""},
      {"LlamaForCausalLM", {{"attention_dropout", 1.5}}, file, "attention_dropout must be in [0, 1), got 1.5"},
      {"LlamaForCausalLM", {{"model_type", "gemma"}}, file, "model_type must be llama"},
      {"GPT2LMHeadModel", {{"n_head", 7}}, file, "n_head must divide n_embd = 24, got 7"},
      {"GPTNeoXForCausalLM", {{"rotary_pct", 0.5}}, file, "must be an even number, got 3 of 6"},
      {"GPTNeoXForCausalLM", {{"rotary_pct", 1.5}}, file, "rotary_pct must be in (0, 1], got 1.5"},
      {"MixtralForCausalLM", {{"router_jitter_noise", 0.1}}, unsupported, "router_jitter_noise = 0.1 is not supported"},
      {"MixtralForCausalLM", {{"num_experts_per_tok", 5}}, file, "num_experts_per_tok must be in [1, 4], got 5"},
      {"OlmoeForCausalLM", {{"clip_qkv", -1}}, file, "clip_qkv must be above 0, got -1"},
      {"Qwen2ForCausalLM",
       {{"layer_types", {"full_attention"}}},
       file,
       "must have num_hidden_layers = 3 entries, got 1"},
      {"Qwen2ForCausalLM",
       {{"layer_types", {"linear_attention", "full_attention", "full_attention"}}},
       unsupported,
       "must hold full_attention or sliding_attention, got linear_attention"},
      {"Qwen2ForCausalLM",
       {{"use_sliding_window", false}, {"layer_types", {"sliding_attention", "full_attention", "full_attention"}}},
       file,
       "use_sliding_window and sliding_window give no window"},
  };
  for (const auto& wrong : all) {
    SCOPED_TRACE(wrong.changes.dump());
    EXPECT_ERROR_KIND(read(wrong.architecture, wrong.changes), wrong.kind, wrong.message);
  }
  EXPECT_ERROR_KIND(read_bare("GemmaForCausalLM"), unsupported, "the architecture GemmaForCausalLM is not known here");
}

}  // namespace
}  // namespace winnow::models
