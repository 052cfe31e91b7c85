// Folders: what is written, what is read, and what is said about a folder that is wrong.
#include "winnow/models/pretrained.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>
#include <fstream>

#include "hf_golden.h"
#include "support/error.h"
#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/models/deit.h"
#include "winnow/models/dinov2.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

const std::vector<std::string> kArchitectures = {"DeiTForImageClassificationWithTeacher", "Dinov2Model",
                                                 "ViTForImageClassification", "ViTMAEForPreTraining", "ViTModel"};

at::Tensor random(std::vector<int64_t> shape, uint64_t seed) {
  return at::randn(shape, make_generator(seed));
}

at::Tensor output_of(Pretrained& model, const at::Tensor& images) {
  const at::NoGradGuard no_grad;
  if (auto* mae = dynamic_cast<ViTMaeImpl*>(&model)) return mae->forward(images, 3).pred;
  if (auto* vit = dynamic_cast<ViTImpl*>(&model)) return vit->forward(images).last_hidden_state;
  if (auto* deit = dynamic_cast<DeiTImpl*>(&model)) return deit->forward(images).last_hidden_state;
  return dynamic_cast<Dinov2Impl&>(model).forward(images).last_hidden_state;
}

at::Tensor output_of(Pretrained& model) {
  const auto shape = model.image_shape();
  return output_of(model, random({2, shape.channels, shape.height, shape.width}, 8));
}

// Small networks with random weights, one of each head.
std::vector<std::shared_ptr<Pretrained>> small_networks() {
  const VitTrunkConfig trunk{.image_height = 8,
                             .image_width = 8,
                             .patch_size = 4,
                             .hidden_size = 8,
                             .num_hidden_layers = 2,
                             .num_attention_heads = 2,
                             .intermediate_size = 12};
  const std::vector<std::string> labels = {"cat", "dog", "owl"};
  std::vector<std::shared_ptr<Pretrained>> models;
  for (const auto head : {ViTHead::none, ViTHead::pooler, ViTHead::classifier, ViTHead::mean_pool}) {
    models.push_back(
        std::make_shared<ViTImpl>(ViTConfig{.trunk = trunk, .head = head, .labels = labels, .pooler_output_size = 5}));
  }
  for (const auto head : {DeiTHead::none, DeiTHead::pooler, DeiTHead::classifier, DeiTHead::teacher}) {
    models.push_back(std::make_shared<DeiTImpl>(DeiTConfig{.trunk = trunk, .head = head, .labels = labels}));
  }
  for (const bool swiglu : {false, true}) {
    models.push_back(std::make_shared<Dinov2Impl>(Dinov2Config{.trunk = trunk, .use_swiglu_ffn = swiglu}));
    models.push_back(std::make_shared<Dinov2Impl>(
        Dinov2Config{.trunk = trunk, .head = Dinov2Head::classifier, .labels = labels, .use_swiglu_ffn = swiglu}));
  }
  models.push_back(std::make_shared<ViTMaeImpl>(ViTMaeConfig{.trunk = trunk,
                                                             .decoder_hidden_size = 12,
                                                             .decoder_num_hidden_layers = 1,
                                                             .decoder_num_attention_heads = 3,
                                                             .decoder_intermediate_size = 20}));
  const at::NoGradGuard no_grad;
  uint64_t seed = 0;
  for (auto& model : models) {
    model->eval();
    for (auto& parameter : model->parameters()) parameter.copy_(random(parameter.sizes().vec(), ++seed));
  }
  return models;
}

TEST(Pretrained, AFolderThatIsSavedLoadsToTheSameBits) {
  for (const auto& model : small_networks()) {
    SCOPED_TRACE(model->architecture());
    const winnow::testing::TemporaryFolder folder;
    save(*model, folder.path() / "new" / "folder");
    const auto again = load(folder.path() / "new" / "folder");
    EXPECT_EQ(again->architecture(), model->architecture());
    EXPECT_EQ(again->config_json(), model->config_json());
    EXPECT_EQ(again->labels(), model->labels());
    EXPECT_FALSE(again->is_training());
    EXPECT_TENSOR_EQ(output_of(*again), output_of(*model));
  }
}

TEST(Pretrained, ShardsAndFloat64AndHalfPrecisionLoadToo) {
  for (const auto& model : small_networks()) {
    SCOPED_TRACE(model->architecture());
    const winnow::testing::TemporaryFolder folder;
    save(*model, folder.path(), {.max_shard_bytes = 1000});
    EXPECT_TRUE(std::filesystem::exists(folder.path() / "model.safetensors.index.json"));
    EXPECT_TENSOR_EQ(output_of(*load(folder.path())), output_of(*model));
    for (const auto type : {at::kHalf, at::kBFloat16}) {
      const winnow::testing::TemporaryFolder narrow;
      auto tensors = model->weight_map().tensors();
      for (auto& [name, tensor] : tensors) tensor = tensor.to(type);
      io::save_safetensors(narrow.path() / "model.safetensors", tensors);
      io::write_json(narrow.path() / "config.json", model->config_json());
      const auto loaded = load(narrow.path());
      for (const auto& [name, tensor] : loaded->weight_map().tensors()) {
        EXPECT_TENSOR_EQ(tensor, tensors.at(name).to(at::kFloat));
      }
      const auto wide = load(narrow.path(), {.dtype = at::kDouble});
      for (const auto& [name, tensor] : wide->weight_map().tensors()) {
        EXPECT_TENSOR_EQ(tensor, tensors.at(name).to(at::kDouble));
      }
    }
  }
}

// Folders with what the network computes, for benchmarks/peers/check_vit_roundtrip.py: kept where WINNOW_PEER_FOLDERS
// says.
TEST(Pretrained, FoldersWithInputAndOutputReproduceThemselves) {
  const winnow::testing::TemporaryFolder temporary;
  const auto* kept = std::getenv("WINNOW_PEER_FOLDERS");
  const auto root = kept != nullptr ? std::filesystem::path(kept) : temporary.path();
  const at::NoGradGuard no_grad;
  int64_t number = 0;
  for (const auto& model : small_networks()) {
    const auto run = [](Pretrained& network, const io::TensorMap& in) {
      const auto& images = in.at("pixel_values");
      if (auto* mae = dynamic_cast<ViTMaeImpl*>(&network)) return mae->forward(images, in.at("noise")).pred;
      return network.labels().empty() ? output_of(network, images) : network.classify(images);
    };
    const auto folder = root / (model->architecture() + "_" + std::to_string(number++));
    save(*model, folder);
    io::TensorMap check{{"pixel_values", random({2, 3, 8, 8}, 8)}};
    if (dynamic_cast<ViTMaeImpl*>(model.get()) != nullptr) check["noise"] = random({2, 4}, 9);
    check["output"] = run(*model, check);
    io::save_safetensors(folder / "check.safetensors", check);
    const auto stored = io::load_safetensors(folder / "check.safetensors");
    EXPECT_TENSOR_EQ(run(*load(folder), stored), stored.at("output"));
  }
}

// Every form of every golden folder, saved again, holds the names and the bits of the published file.
TEST(PretrainedGolden, WhatIsSavedIsThePublishedFile) {
  for (const auto& architecture : kArchitectures) {
    winnow::testing::golden::for_each_hf(architecture, [](const winnow::testing::golden::HfCase& c) {
      const auto model = load(c.config(), c.checkpoint());
      const winnow::testing::TemporaryFolder folder;
      save(*model, folder.path());
      testing::expect_published_tensors(c, folder.path());
      EXPECT_EQ(io::SafetensorsFile(folder.path() / "model.safetensors").metadata().at("format"), "pt");
      // The options that count are written as they were read.
      const auto before = c.config().value(), after = io::read_json(folder.path() / "config.json");
      for (const auto& [key, value] : after.items()) {
        if (before.contains(key) && key != "torch_dtype") EXPECT_EQ(value, before[key]) << c.path << " " << key;
      }
    });
  }
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// The names of timm and of the official repositories, made from published ones by the rules of their conversion
// scripts.
io::TensorMap in_timm_names(const io::TensorMap& published, bool official_dinov2) {
  io::TensorMap result;
  for (const auto& [published_name, tensor] : published) {
    auto name = published_name;
    for (const auto* prefix : {"vit.", "deit.", "dinov2."}) {
      if (name.starts_with(prefix)) name = name.substr(std::string(prefix).size());
    }
    const bool decoder = name.starts_with("decoder.");
    replace(name, "decoder.decoder_layers.", "decoder_blocks.");
    replace(name, "decoder.", "");
    replace(name, "encoder.layer.", "blocks.");
    replace(name, "embeddings.patch_embeddings.projection", "patch_embed.proj");
    replace(name, "embeddings.cls_token", "cls_token");
    replace(name, "embeddings.mask_token", "mask_token");
    replace(name, "embeddings.distillation_token", "dist_token");
    replace(name, "embeddings.position_embeddings", "pos_embed");
    replace(name, "attention.output.dense", "attn.proj");
    replace(name, "layernorm_before", "norm1");
    replace(name, "layernorm_after", "norm2");
    if (!decoder) replace(name, "layernorm.", "norm.");
    replace(name, "intermediate.dense", "mlp.fc1");
    replace(name, "output.dense", "mlp.fc2");
    replace(name, "layer_scale1.lambda1", "ls1.gamma");
    replace(name, "layer_scale2.lambda1", "ls2.gamma");
    replace(name, "mlp.weights_in", official_dinov2 ? "mlp.w12" : "mlp.fc1");
    replace(name, "mlp.weights_out", official_dinov2 ? "mlp.w3" : "mlp.fc2");
    replace(name, "distillation_classifier", "head_dist");
    replace(name, "cls_classifier", "head");
    replace(name, "classifier", "head");
    const auto query = name.find("attention.attention.query");
    if (query != std::string::npos) {
      auto key = published_name, value = published_name;
      replace(key, "query", "key");
      replace(value, "query", "value");
      replace(name, "attention.attention.query", "attn.qkv");
      result[name] = at::cat({tensor, published.at(key), published.at(value)});
    } else if (name.find("attention.attention.") == std::string::npos) {
      result[name] = tensor;
    }
  }
  return result;
}

// The names that modules of transformers 5 have in memory.
io::TensorMap in_module_names(const io::TensorMap& published, bool dinov2) {
  io::TensorMap result;
  for (const auto& [published_name, tensor] : published) {
    auto name = published_name;
    if (!dinov2) replace(name, "encoder.layer.", "layers.");
    replace(name, "attention.attention.query", "attention.q_proj");
    replace(name, "attention.attention.key", "attention.k_proj");
    replace(name, "attention.attention.value", "attention.v_proj");
    replace(name, "attention.output.dense", "attention.o_proj");
    replace(name, "intermediate.dense", "mlp.fc1");
    replace(name, "output.dense", "mlp.fc2");
    replace(name, "mlp.weights_out", "mlp.down_proj");
    if (name.find("mlp.weights_in") != std::string::npos) {
      auto gate = name, up = name;
      replace(gate, "weights_in", "gate_proj");
      replace(up, "weights_in", "up_proj");
      result[gate] = tensor.chunk(2)[0];
      result[up] = tensor.chunk(2)[1];
    } else {
      result[name] = tensor;
    }
  }
  return result;
}

TEST(Pretrained, NamesOfTimmOfOfficialFilesAndOfModulesGiveTheSameNetwork) {
  for (const auto& model : small_networks()) {
    SCOPED_TRACE(model->architecture());
    const auto published = model->weight_map().tensors();
    const bool dinov2 = model->architecture().starts_with("Dinov2");
    const std::vector<io::TensorMap> files = {in_module_names(published, dinov2), in_timm_names(published, false),
                                              in_timm_names(published, true)};
    for (const auto& file : files) {
      const winnow::testing::TemporaryFolder folder;
      io::save_safetensors(folder.path() / "model.safetensors", file);
      io::write_json(folder.path() / "config.json", model->config_json());
      EXPECT_TENSOR_EQ(output_of(*load(folder.path())), output_of(*model));
    }
  }
}

TEST(Pretrained, ABaseModelWithoutPoolerLoadsWithoutOne) {
  const winnow::testing::TemporaryFolder folder;
  ViT model(ViTConfig{.trunk = {.image_height = 4,
                                .image_width = 4,
                                .patch_size = 2,
                                .hidden_size = 4,
                                .num_hidden_layers = 1,
                                .num_attention_heads = 1,
                                .intermediate_size = 4},
                      .head = ViTHead::pooler});
  save(*model, folder.path());
  EXPECT_TRUE(load_as<ViT>(folder.path())->pooler);
  auto tensors = model->weight_map().tensors();
  tensors.erase("pooler.dense.weight");
  tensors.erase("pooler.dense.bias");
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  auto loaded = load_as<ViT>(folder.path());
  EXPECT_FALSE(loaded->pooler);
  EXPECT_FALSE(loaded->forward(at::zeros({1, 3, 4, 4})).pooler_output.defined());
}

TEST(Pretrained, EveryErrorNamesItsFile) {
  const winnow::testing::TemporaryFolder folder;
  const auto path = folder.path().string();
  EXPECT_ERROR_KIND(load(folder.path() / "none"), ErrorKind::file, path + "/none");
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "config.json");
  ViT model(ViTConfig{.trunk = {.image_height = 4,
                                .image_width = 4,
                                .patch_size = 2,
                                .hidden_size = 4,
                                .num_hidden_layers = 1,
                                .num_attention_heads = 1,
                                .intermediate_size = 4}});
  save(*model, folder.path());
  EXPECT_ERROR_KIND(load_as<DeiT>(folder.path()), ErrorKind::file,
                    path + ": config.json names the architecture ViTForImageClassification, which is another class");
  // Another size in the config than in the weights.
  auto config = model->config_json();
  config["intermediate_size"] = 6;
  io::write_json(folder.path() / "config.json", config);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "vit.encoder.layer.0.intermediate.dense.weight");
  EXPECT_ERROR(load(folder.path()), "[6, 4]");
  EXPECT_ERROR(load(folder.path()), "[4, 4]");
  // A weight under a wrong name: told as missing with the nearest one.
  io::write_json(folder.path() / "config.json", model->config_json());
  auto tensors = model->weight_map().tensors();
  tensors["clasifier.bias"] = tensors.at("classifier.bias");
  tensors.erase("classifier.bias");
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "classifier.bias (nearest: clasifier.bias)");
  std::ofstream(folder.path() / "model.safetensors") << "short";
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "model.safetensors");
  std::filesystem::remove(folder.path() / "model.safetensors");
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, path);
  std::ofstream(folder.path() / "config.json") << "{";
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file, "config.json");
}

TEST(Pretrained, ATensorOfAMaskedAutoencoderThatIsMissedOrUnknownIsTold) {
  const winnow::testing::TemporaryFolder folder;
  ViTMae model(ViTMaeConfig{.trunk = {.image_height = 4,
                                      .image_width = 4,
                                      .patch_size = 2,
                                      .hidden_size = 4,
                                      .num_hidden_layers = 1,
                                      .num_attention_heads = 1,
                                      .intermediate_size = 4},
                            .decoder_hidden_size = 4,
                            .decoder_num_hidden_layers = 2,
                            .decoder_num_attention_heads = 1,
                            .decoder_intermediate_size = 4});
  save(*model, folder.path());
  auto tensors = model->weight_map().tensors();
  tensors.erase("decoder.decoder_layers.1.layernorm_after.bias");
  tensors["decoder.decoder_layers.2.layernorm_after.bias"] = at::zeros({4});
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_ERROR(load(folder.path()), "decoder.decoder_layers.1.layernorm_after.bias");
  EXPECT_ERROR(load(folder.path()), "decoder.decoder_layers.2.layernorm_after.bias");
  // Without the fixed tables, which are then computed.
  tensors = model->weight_map().tensors();
  tensors.erase("vit.embeddings.position_embeddings");
  tensors.erase("decoder.decoder_pos_embed");
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_TENSOR_EQ(output_of(*load(folder.path())), output_of(*model));
}

}  // namespace
}  // namespace winnow::models
