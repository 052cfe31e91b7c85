#include "winnow/models/peft.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/models/causal_lm.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

using Names = std::vector<std::string>;

CausalLM small_llama() {
  return CausalLM(
      llama_config({.vocab_size = 40, .context_length = 32, .dim = 16, .depth = 2, .heads = 4, .kv_heads = 2}),
      /*seed=*/3);
}

CausalLM small_gpt2() {
  return CausalLM(gpt2_config({.vocab_size = 40, .context_length = 32, .dim = 16, .depth = 2, .heads = 4}), /*seed=*/3);
}

// Its query_key_value holds the rows of one head behind each other.
CausalLM small_neox() {
  const io::Json json{{"architectures", {"GPTNeoXForCausalLM"}},
                      {"model_type", "gpt_neox"},
                      {"vocab_size", 40},
                      {"hidden_size", 16},
                      {"num_hidden_layers", 2},
                      {"num_attention_heads", 4},
                      {"intermediate_size", 32},
                      {"max_position_embeddings", 32},
                      {"rotary_pct", 0.5}};
  return CausalLM(read_causal_lm_config({json, "config.json"}), /*seed=*/3);
}

void learn_something(torch::nn::Module& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  auto generator = make_generator(seed);
  for (const auto& [name, tensor] : lora_parameters(model)) tensor.copy_(at::randn(tensor.sizes(), generator) * 0.3);
}

at::Tensor some_ids() {
  return at::randint(0, 40, {2, 9}, make_generator(5), at::kLong);
}

at::Tensor logits_of(CausalLM& model) {
  const at::NoGradGuard no_grad;
  model->eval();
  return model->forward(some_ids());
}

PeftConfig config_of(Names targets) {
  return {.lora = {.rank = 3, .alpha = 5}, .targets = {.names = std::move(targets)}};
}

// The published weight of a module grows by s B A, the others stay: told by the published names alone.
void expect_published_weights_move(CausalLM model, const Names& targets, bool transposed) {
  const auto published = [&] {
    io::TensorMap copies;
    for (const auto& [name, tensor] : model->weight_map().tensors()) copies[name] = tensor.clone();
    return copies;
  };
  const auto before = published();
  const auto adapters = add_adapters(*model, config_of(targets));
  EXPECT_EQ(adapters.transposed, transposed);
  learn_something(*model, 1);
  io::TensorMap delta;
  for (const auto& adapter : adapters.adapters) {
    const auto& part = find_lora(*adapter.linear)->parts[adapter.part];
    auto moved = at::matmul(part.b.detach(), part.a.detach()) * (5.0 / 3.0);
    delta[adapter.module + ".weight"] = transposed ? moved.t() : moved;
  }
  EXPECT_EQ(delta.size(), 2 * targets.size());  // two layers
  const auto apart = logits_of(model);
  fold_lora(*model);
  EXPECT_TENSOR_NEAR(logits_of(model), apart, 2e-5);
  for (const auto& [name, tensor] : published()) {
    const auto wanted = delta.contains(name) ? before.at(name) + delta.at(name) : before.at(name);
    EXPECT_TENSOR_NEAR(tensor, wanted, 1e-5) << name;
  }
}

TEST(Peft, AdaptersMoveThePublishedWeightOfTheirModuleAndNoOther) {
  expect_published_weights_move(small_llama(), {"q_proj", "v_proj"}, false);
  expect_published_weights_move(small_llama(), {"k_proj", "o_proj", "down_proj", "up_proj"}, false);
  expect_published_weights_move(small_gpt2(), {"c_attn", "mlp.c_proj"}, true);
  expect_published_weights_move(small_neox(), {"query_key_value", "dense"}, false);
}

TEST(Peft, OnlyAdaptersAndSavedModulesLearn) {
  auto model = small_llama();
  auto config = config_of({"q_proj"});
  config.saved_modules = {"norm"};
  const auto adapters = add_adapters(*model, config);
  ASSERT_EQ(adapters.saved.size(), 1U);
  EXPECT_EQ(adapters.saved[0].first, "model.norm.weight");
  Names learn;
  for (const auto& p : model->named_parameters()) {
    if (p.value().requires_grad()) learn.push_back(p.key());
  }
  EXPECT_EQ(learn, (Names{"blocks.0.attn.qkv.storage.a", "blocks.0.attn.qkv.storage.b", "blocks.1.attn.qkv.storage.a",
                          "blocks.1.attn.qkv.storage.b", "norm.weight"}));
}

TEST(Peft, AFolderComesBackWithTheSameLogits) {
  for (const bool gpt2 : {false, true}) {
    auto model = gpt2 ? small_gpt2() : small_llama();
    auto config = config_of(gpt2 ? Names{"c_attn", "c_proj"} : Names{"q_proj", "v_proj", "gate_proj"});
    config.lora.rslora = true;
    config.rank_pattern = {{"q_proj", 2}};
    config.alpha_pattern = {{"0\\..*v_proj", 7}};
    config.saved_modules = {gpt2 ? "ln_f" : "norm"};
    const auto adapters = add_adapters(*model, config);
    learn_something(*model, 2);
    {
      const at::NoGradGuard no_grad;
      for (const auto& [name, parameter] : adapters.saved) parameter.mul_(1.5);
    }
    const testing::TemporaryFolder folder;
    save_adapters(adapters, folder.path());
    auto other = gpt2 ? small_gpt2() : small_llama();
    const auto read = load_adapters(*other, folder.path());
    EXPECT_TENSOR_EQ(logits_of(other), logits_of(model));
    EXPECT_EQ(peft_config_json(read), peft_config_json(adapters));
    const auto names = io::Checkpoint(folder.path() / "adapter_model.safetensors").names();
    EXPECT_EQ(names.size(), 2 * adapters.adapters.size() + adapters.saved.size());
    const std::string first = gpt2 ? "transformer.h.0.attn.c_attn" : "model.layers.0.mlp.gate_proj";
    EXPECT_EQ(names[0], "base_model.model." + first + ".lora_A.weight");
    if (!gpt2) {
      EXPECT_EQ(find_lora(*read.adapters[1].linear)->parts[0].options.rank, 2);  // q_proj of layer 0
      EXPECT_EQ(find_lora(*read.adapters[2].linear)->parts[1].options.alpha, 7);
    }
  }
}

TEST(Peft, TargetsMayBeARegularExpressionAllLinearOrSomeLayers) {
  const auto modules = [](PeftConfig config) {
    auto model = small_llama();
    Names names;
    for (const auto& adapter : add_adapters(*model, config).adapters) names.push_back(adapter.module);
    return names;
  };
  EXPECT_EQ(modules({.targets = {.pattern = ".*\\.1\\..*(q|v)_proj"}}),
            (Names{"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"}));
  EXPECT_EQ(modules({.targets = {.pattern = "all-linear"}}).size(), 14U);
  EXPECT_EQ(modules({.targets = {.names = {"q_proj"}}, .layers = {1}}), (Names{"model.layers.1.self_attn.q_proj"}));
  EXPECT_EQ(modules({.targets = {.pattern = "all-linear"}, .excluded = {.pattern = ".*mlp.*"}}).size(), 8U);
}

TEST(Peft, WhatIsNotDoneOrWrongIsNamed) {
  auto model = small_llama();
  EXPECT_ERROR(add_adapters(*model, config_of({"q_porj"})),
               "add_adapters: target_modules must name linear layers of the model, 'q_porj' names none; did you mean "
               "q_proj?");
  EXPECT_ERROR(add_adapters(*model, {.targets = {.pattern = "("}}), "add_adapters: '(' is no regular expression");
  const auto read = [](io::Json json) {
    json["peft_type"] = json.value("peft_type", "LORA");
    json["target_modules"] = {"q_proj"};
    return read_peft_config({json, "adapter_config.json"});
  };
  EXPECT_ERROR(read({{"use_dora", true}}), "adapter_config.json: use_dora = true is not supported");
  EXPECT_ERROR(read({{"bias", "all"}}), "adapter_config.json: bias = \"all\" is not supported");
  EXPECT_ERROR(read({{"peft_type", "LOHA"}}), "adapter_config.json: peft_type LOHA is not supported (LORA is)");
  EXPECT_ERROR(read({{"r", 0}}), "adapter_config.json: r must be >= 1, got 0");

  const testing::TemporaryFolder folder;
  const auto adapters = add_adapters(*model, config_of({"q_proj"}));
  save_adapters(adapters, folder.path());
  auto wider = config_of({"q_proj"});
  wider.lora.rank = 4;
  io::write_json(folder.path() / "adapter_config.json",
                 peft_config_json({.config = wider, .adapters = {}, .saved = {}}));
  auto other = small_llama();
  const auto before = logits_of(other);
  EXPECT_ERROR(load_adapters(*other, folder.path()), "lora_A.weight");
  EXPECT_TENSOR_EQ(logits_of(other), before);
  EXPECT_TRUE(lora_parameters(*other).empty());
}

// For benchmarks/peers/check_peft.py, which compares with the peft package and leaves adapters of its own ("theirs")
// that are read back here: folders kept where WINNOW_PEER_FOLDERS says.
TEST(Peft, FoldersWithInputAndOutputReproduceThemselves) {
  const testing::TemporaryFolder temporary;
  const auto* kept = std::getenv("WINNOW_PEER_FOLDERS");
  const auto root = kept != nullptr ? std::filesystem::path(kept) : temporary.path();
  const std::vector<std::tuple<std::string, CausalLM (*)(), Names>> cases = {
      {"llama", small_llama, {"q_proj", "v_proj", "down_proj"}},
      {"gpt2", small_gpt2, {"c_attn", "c_fc"}},
      {"gpt_neox", small_neox, {"query_key_value", "dense_h_to_4h"}}};
  for (const auto& [name, make, targets] : cases) {
    const auto folder = root / ("peft_" + name);
    auto model = make();
    model->eval();
    save(*model, folder / "base");
    auto config = config_of(targets);
    config.rank_pattern = {{targets[0], 2}};
    const auto adapters = add_adapters(*model, config);
    learn_something(*model, 4);
    save_adapters(adapters, folder / "adapter");
    io::save_safetensors(folder / "check.safetensors", {{"input_ids", some_ids()}, {"output", logits_of(model)}});
    auto again = load_as<CausalLM>(folder / "base");
    load_adapters(*again, folder / "adapter");
    EXPECT_TENSOR_EQ(logits_of(again), logits_of(model));
    if (!std::filesystem::exists(folder / "theirs")) continue;
    auto theirs = load_as<CausalLM>(folder / "base");
    load_adapters(*theirs, folder / "theirs");
    EXPECT_TENSOR_NEAR(logits_of(theirs), io::load_safetensors(folder / "theirs_check.safetensors").at("output"), 1e-5);
  }
}

}  // namespace
}  // namespace winnow::models
