// Folders of decoder-only language models: saved and read again, in half precision, incomplete.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>

#include "small_language_models.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"

namespace winnow::models {
namespace {

using testing::small_lm;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

class CausalLMFolderTest : public ::testing::TestWithParam<std::string> {};

at::Tensor some_ids() {
  return at::arange(24).view({2, 12}).remainder(53);
}

TEST_P(CausalLMFolderTest, WhatIsSavedIsReadAgainToTheBit) {
  for (const bool tied : {true, false}) {
    TemporaryFolder folder;
    auto model = small_lm(GetParam(), {{"tie_word_embeddings", tied}, {"eos_token_id", {1, 2}}});
    save(*model, folder.path());
    auto read = load_as<CausalLM>(folder.path());
    EXPECT_FALSE(read->is_training());
    EXPECT_TENSOR_EQ(read->forward(some_ids()), model->forward(some_ids()));
    EXPECT_EQ(read->config_json(), model->config_json());
    EXPECT_EQ(read->config_json()["eos_token_id"], io::Json({1, 2}));
    EXPECT_EQ(io::Checkpoint(folder.path()).has("lm_head.weight"), !tied && GetParam() != "GPTNeoXForCausalLM");
  }
}

TEST_P(CausalLMFolderTest, ShardsAreReadAsOneFile) {
  TemporaryFolder folder;
  auto model = small_lm(GetParam());
  save(*model, folder.path(), {.max_shard_bytes = 8000});
  EXPECT_FALSE(fs::exists(folder.path() / "model.safetensors"));
  EXPECT_TENSOR_EQ(load_as<CausalLM>(folder.path())->forward(some_ids()), model->forward(some_ids()));
}

// Every parameter rounded to the dtype, then computed in float32.
at::Tensor rounded_logits(CausalLM& model, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.value().dim() > 1 && item.key().find("pos_embed") == std::string::npos) {
      item.value().copy_(item.value().to(dtype).to(at::kFloat));
    }
  }
  return model->forward(some_ids());
}

TEST_P(CausalLMFolderTest, HalfPrecisionWeightsAreKeptAndComputedWithInFloat32) {
  const std::pair<WeightStorage, at::ScalarType> cases[] = {{WeightStorage::float16, at::kHalf},
                                                            {WeightStorage::bfloat16, at::kBFloat16}};
  for (const auto& [storage, dtype] : cases) {
    TemporaryFolder folder;
    auto model = small_lm(GetParam());
    save(*model, folder.path());
    auto half = load_as<CausalLM>(folder.path(), {.storage = storage});
    auto& block = half->blocks.ptr()->operator[](0);
    EXPECT_EQ(half->embed->weight.scalar_type(), dtype);
    EXPECT_EQ(half->head->weight.scalar_type(), dtype);
    EXPECT_EQ(block->attn->qkv->weight.scalar_type(), dtype);
    EXPECT_EQ(block->norm1->weight.scalar_type(), at::kFloat);
    const auto logits = half->forward(some_ids());
    EXPECT_EQ(logits.scalar_type(), at::kFloat);
    EXPECT_TENSOR_NEAR(logits, rounded_logits(model, dtype), 1e-4);
    // The folder that it writes is half as large and is read in the dtype that it has.
    TemporaryFolder small;
    save(*half, small.path());
    EXPECT_EQ(half->config_json()["torch_dtype"], dtype == at::kHalf ? "float16" : "bfloat16");
    auto again = load_as<CausalLM>(small.path(), {.storage = WeightStorage::as_file});
    EXPECT_EQ(again->embed->weight.scalar_type(), dtype);
    EXPECT_TENSOR_EQ(again->forward(some_ids()), logits);
    EXPECT_EQ(load_as<CausalLM>(small.path())->embed->weight.scalar_type(), at::kFloat);
    EXPECT_EQ(load_as<CausalLM>(folder.path(), {.storage = WeightStorage::as_file})->embed->weight.scalar_type(),
              at::kFloat);
    // Decoding reads the half-precision weights too.
    const auto ids = some_ids().slice(0, 0, 1);
    const auto state = half->make_state(1, 16);
    half->run({.ids = ids.slice(1, 0, 11).contiguous(), .state = state.get()});
    const auto last = half->run({.ids = ids.slice(1, 11).contiguous(), .state = state.get()}).logits;
    EXPECT_TENSOR_NEAR(last[0][0], logits[0][11], 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CausalLMFolderTest, ::testing::ValuesIn(causal_lm_architectures()),
                         [](const auto& info) { return info.param; });

TEST(CausalLMFolder, ExpertsMayLieInTheFusedTensorsOfTransformers5) {
  for (const auto* architecture : {"MixtralForCausalLM", "Qwen3MoeForCausalLM"}) {
    TemporaryFolder folder;
    auto model = small_lm(architecture);
    save(*model, folder.path());
    auto tensors = io::load_safetensors(folder.path() / "model.safetensors");
    io::TensorMap fused;
    for (const auto& [name, tensor] : tensors) {
      if (name.find("experts.") == std::string::npos) fused[name] = tensor;
    }
    for (const auto* layer : {"0", "1", "2"}) {
      const auto block = std::string("model.layers.") + layer + ".";
      const bool mixtral = tensors.contains(block + "block_sparse_moe.gate.weight");
      const auto base = block + (mixtral ? "block_sparse_moe.experts." : "mlp.experts.");
      if (!tensors.contains(base + "0." + (mixtral ? "w1" : "gate_proj") + ".weight")) continue;
      std::vector<at::Tensor> gate_up, down;
      for (int e = 0; tensors.contains(base + std::to_string(e) + (mixtral ? ".w1.weight" : ".gate_proj.weight"));
           ++e) {
        const auto one = base + std::to_string(e) + ".";
        gate_up.push_back(at::cat({tensors.at(one + (mixtral ? "w1.weight" : "gate_proj.weight")),
                                   tensors.at(one + (mixtral ? "w3.weight" : "up_proj.weight"))}));
        down.push_back(tensors.at(one + (mixtral ? "w2.weight" : "down_proj.weight")));
      }
      fused[block + "mlp.experts.gate_up_proj"] = at::stack(gate_up);
      fused[block + "mlp.experts.down_proj"] = at::stack(down);
    }
    ASSERT_LT(fused.size(), tensors.size());
    io::save_safetensors(folder.path() / "model.safetensors", fused);
    EXPECT_TENSOR_EQ(load_as<CausalLM>(folder.path())->forward(some_ids()), model->forward(some_ids()));
  }
}

TEST(CausalLMFolder, ATiedHeadInTheFileMustBeTheEmbedding) {
  TemporaryFolder folder;
  auto model = small_lm("LlamaForCausalLM", {{"tie_word_embeddings", true}});
  save(*model, folder.path());
  auto tensors = io::load_safetensors(folder.path() / "model.safetensors");
  tensors["lm_head.weight"] = tensors.at("model.embed_tokens.weight").clone();
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_NO_THROW(load(folder.path()));
  tensors["lm_head.weight"].add_(1);
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file,
                    "lm_head.weight must hold the same values as model.embed_tokens.weight");
}

TEST(CausalLMFolder, AHalfDownloadedFolderIsOneClearError) {
  TemporaryFolder folder;
  auto model = small_lm("LlamaForCausalLM");
  save(*model, folder.path(), {.max_shard_bytes = 8000});
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path().filename().string().starts_with("model-00002")) shards.push_back(entry.path());
  }
  ASSERT_EQ(shards.size(), 1U);
  // A shard cut short, then missing, then the index missing, then everything but the weights missing.
  fs::resize_file(shards[0], fs::file_size(shards[0]) / 2);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, shards[0].filename().string());
  fs::remove(shards[0]);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, shards[0].filename().string());
  fs::remove(folder.path() / "model.safetensors.index.json");
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "model.safetensors");
  fs::remove(folder.path() / "config.json");
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "config.json");
}

TEST(CausalLMFolder, AVocabularyThatDoesNotFitIsNamed) {
  TemporaryFolder folder;
  auto model = small_lm("LlamaForCausalLM");
  save(*model, folder.path());
  auto json = model->config_json();
  json["vocab_size"] = 54;
  io::write_json(folder.path() / "config.json", json);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file,
                    "model.embed_tokens.weight must have shape [54, 24], found [53, 24]");
}

TEST(CausalLMFolder, AParameterThatNobodyKnowsIsAnError) {
  TemporaryFolder folder;
  auto model = small_lm("GPTNeoXForCausalLM");
  save(*model, folder.path());
  auto tensors = io::load_safetensors(folder.path() / "model.safetensors");
  tensors["gpt_neox.layers.0.attention.bias"] = at::zeros({1, 1, 4, 4});  // a mask buffer: passed over
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_NO_THROW(load(folder.path()));
  tensors["gpt_neox.layers.0.attention.scale"] = at::zeros({4});
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "unexpected: gpt_neox.layers.0.attention.scale");
}

}  // namespace
}  // namespace winnow::models
