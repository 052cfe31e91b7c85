// BERT, CLIP and VideoMAE in folders: what is saved is read back, by us and by transformers.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>

#include "hf_golden.h"
#include "support/devices.h"
#include "support/error.h"
#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/models/bert.h"
#include "winnow/models/clip.h"
#include "winnow/models/videomae.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

using winnow::testing::TemporaryFolder;

BertConfig bert_config(BertHead head, const std::string& activation = "gelu") {
  return {.head = head,
          .vocab_size = 30,
          .hidden_size = 12,
          .num_hidden_layers = 2,
          .num_attention_heads = 2,
          .intermediate_size = 18,
          .hidden_act = activation,
          .max_position_embeddings = 11,
          .type_vocab_size = 3,
          .layer_norm_eps = 1e-5,
          .labels = {"one", "two", "three"}};
}

ClipConfig clip_config(int64_t eos) {
  return {.text = {.vocab_size = 30,
                   .hidden_size = 12,
                   .intermediate_size = 18,
                   .num_hidden_layers = 2,
                   .num_attention_heads = 2,
                   .max_position_embeddings = 11,
                   .hidden_act = "gelu_new",
                   .eos_token_id = eos},
          .vision = {.hidden_size = 16,
                     .intermediate_size = 20,
                     .num_hidden_layers = 1,
                     .num_attention_heads = 4,
                     .image_size = 14,  // two pixels beyond whole patches
                     .patch_size = 4,
                     .hidden_act = "silu"},
          .projection_dim = 6};
}

VideoMaeConfig videomae_config(VideoMaeHead head, bool mean_pooling, bool bias = true) {
  return {.trunk = {.image_height = 8,
                    .image_width = 8,
                    .patch_size = 4,
                    .hidden_size = 12,
                    .num_hidden_layers = 2,
                    .num_attention_heads = 2,
                    .intermediate_size = 18,
                    .hidden_act = "relu",
                    .qkv_bias = bias,
                    .layer_norm_eps = 1e-6},
          .head = head,
          .num_frames = 6,
          .tubelet_size = 3,
          .use_mean_pooling = mean_pooling,
          .decoder_hidden_size = 8,
          .decoder_num_hidden_layers = 2,
          .decoder_num_attention_heads = 2,
          .decoder_intermediate_size = 10,
          .norm_pix_loss = !mean_pooling,
          .labels = {"one", "two", "three"}};
}

std::vector<std::shared_ptr<Pretrained>> small_networks() {
  std::vector<std::shared_ptr<Pretrained>> all;
  for (const auto head : {BertHead::none, BertHead::pooler, BertHead::masked_lm, BertHead::classifier}) {
    all.push_back(std::make_shared<BertImpl>(bert_config(head, head == BertHead::none ? "relu" : "gelu_new")));
  }
  auto untied = bert_config(BertHead::masked_lm);
  untied.tie_word_embeddings = false;
  all.push_back(std::make_shared<BertImpl>(untied));
  for (const int64_t eos : {2, 29}) all.push_back(std::make_shared<ClipImpl>(clip_config(eos)));
  for (const auto head : {VideoMaeHead::none, VideoMaeHead::pre_training, VideoMaeHead::classifier}) {
    for (const bool mean : {true, false}) {
      all.push_back(std::make_shared<VideoMaeImpl>(videomae_config(head, mean, /*bias=*/mean)));
    }
  }
  for (auto& model : all) testing::draw_parameters(*model, at::kFloat);
  return all;
}

// Arguments of transformers' forward for a network.
io::TensorMap inputs_for(const Pretrained& model) {
  const auto integers = [](int64_t limit, uint64_t seed) {
    return at::randint(limit, {3, 7}, make_generator(seed), at::TensorOptions(at::kLong));
  };
  auto keep = at::ones({3, 7}, at::kLong);
  keep[1].slice(0, 4).zero_();
  if (dynamic_cast<const BertImpl*>(&model) != nullptr) {
    return {{"input_ids", integers(30, 1)}, {"attention_mask", keep}, {"token_type_ids", integers(3, 2)}};
  }
  if (dynamic_cast<const ClipImpl*>(&model) != nullptr) {
    auto ids = integers(29, 3);
    ids.select(1, 3).fill_(29);
    return {
        {"input_ids", ids}, {"attention_mask", keep}, {"pixel_values", at::randn({2, 3, 14, 14}, make_generator(4))}};
  }
  const auto masked = at::zeros({2, 8}, at::kBool);
  masked.slice(1, 0, 5) = true;
  io::TensorMap in{{"pixel_values", at::randn({2, 6, 3, 8, 8}, make_generator(5))}};
  if (model.architecture() == "VideoMAEForPreTraining") in["bool_masked_pos"] = masked;
  return in;
}

at::Tensor output_of(Pretrained& model, const io::TensorMap& in) {
  const at::NoGradGuard no_grad;
  if (auto* bert = dynamic_cast<BertImpl*>(&model)) {
    const auto out = bert->forward(
        {.ids = in.at("input_ids"), .keep = in.at("attention_mask"), .type_ids = in.at("token_type_ids")});
    return out.logits.defined() ? out.logits : out.last_hidden_state;
  }
  if (auto* clip = dynamic_cast<ClipImpl*>(&model)) {
    return clip
        ->forward(
            {.text = {.ids = in.at("input_ids"), .keep = in.at("attention_mask")}, .images = in.at("pixel_values")})
        .logits_per_image;
  }
  const auto masked = in.contains("bool_masked_pos") ? in.at("bool_masked_pos") : at::Tensor();
  const auto out = dynamic_cast<VideoMaeImpl&>(model).forward(in.at("pixel_values"), {.masked = masked});
  return out.logits.defined() ? out.logits : out.last_hidden_state;
}

// Kept where WINNOW_PEER_FOLDERS says, for benchmarks/peers/check_vit_roundtrip.py.
TEST(EncoderFolders, FoldersWithInputAndOutputReproduceThemselves) {
  const TemporaryFolder temporary;
  const auto* kept = std::getenv("WINNOW_PEER_FOLDERS");
  const auto root = kept != nullptr ? std::filesystem::path(kept) : temporary.path();
  int64_t number = 0;
  for (const auto& model : small_networks()) {
    const auto folder = root / (model->architecture() + "_encoder_" + std::to_string(number++));
    SCOPED_TRACE(folder.string());
    save(*model, folder);
    auto check = inputs_for(*model);
    check["output"] = output_of(*model, check);
    io::save_safetensors(folder / "check.safetensors", check);
    const auto loaded = load(folder);
    EXPECT_TENSOR_EQ(output_of(*loaded, check), check.at("output"));
    EXPECT_EQ(loaded->config_json(), model->config_json());
    EXPECT_EQ(loaded->labels(), model->labels());
    EXPECT_FALSE(loaded->is_training());
  }
}

// Weights of linear layers kept in half precision compute as the rounded weights would in float32.
TEST(EncoderFolders, LinearWeightsMayBeKeptInHalfPrecision) {
  const TemporaryFolder root;
  const at::NoGradGuard no_grad;
  for (const auto& model : small_networks()) {
    SCOPED_TRACE(model->architecture());
    save(*model, root.path());
    const auto half = load(root.path(), {.storage = WeightStorage::bfloat16});
    for (auto& module : model->modules()) {
      if (auto* linear = module->as<LinearImpl>()) linear->weight.copy_(linear->weight.to(at::kBFloat16));
    }
    const auto in = inputs_for(*model);
    EXPECT_TENSOR_NEAR(output_of(*half, in), output_of(*model, in), 2e-4);
  }
}

TEST(EncoderFoldersGolden, WhatIsSavedIsThePublishedFile) {
  for (const auto* architecture : {"BertForMaskedLM", "BertModel", "CLIPModel", "VideoMAEForPreTraining"}) {
    winnow::testing::golden::for_each_hf(architecture, [](const testing::HfCase& c) {
      const auto model = load(c.config(), c.checkpoint());
      const TemporaryFolder folder;
      save(*model, folder.path());
      testing::expect_published_tensors(c, folder.path());
      const auto before = c.config().value(), after = io::read_json(folder.path() / "config.json");
      for (const auto& [key, value] : after.items()) {
        if (!before.contains(key) || key == "torch_dtype") continue;
        if (!value.is_object()) {
          EXPECT_EQ(value, before[key]) << c.path << " " << key;
          continue;
        }
        for (const auto& [inner, what] : value.items()) {
          if (before[key].contains(inner) && inner != "projection_dim") EXPECT_EQ(what, before[key][inner]) << inner;
        }
      }
    });
  }
}

TEST(EncoderCuda, EveryNetworkComputesTheSameOnTheGpu) {
  if (!winnow::testing::cuda_usable()) GTEST_SKIP() << "no GPU";
  for (const auto& model : small_networks()) {
    SCOPED_TRACE(model->architecture());
    auto in = inputs_for(*model);
    const auto wanted = output_of(*model, in);
    for (auto& [name, tensor] : in) tensor = tensor.to(at::kCUDA);
    model->to(at::kCUDA);
    EXPECT_TENSOR_NEAR(output_of(*model, in).to(at::kCPU), wanted, 1e-4 * wanted.abs().max().item<double>());
  }
}

TEST(EncoderFolders, HeadsOfPreTrainingMayStandBesideABaseModel) {
  const BertImpl masked(bert_config(BertHead::masked_lm));
  auto tensors = masked.weight_map().tensors();
  tensors["cls.predictions.decoder.weight"] = tensors.at("bert.embeddings.word_embeddings.weight");
  tensors["cls.seq_relationship.weight"] = at::zeros({2, 12});
  tensors["cls.seq_relationship.bias"] = at::zeros({2});
  tensors["bert.embeddings.position_ids"] = at::arange(11, at::kLong);
  const TemporaryFolder folder;
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  auto config = masked.config_json();
  for (const auto* name : {"BertModel", "BertForMaskedLM"}) {
    config["architectures"] = {name};
    io::write_json(folder.path() / "config.json", config);
    const auto model = load_as<Bert>(folder.path());
    EXPECT_EQ(model->config.head, std::string(name) == "BertModel" ? BertHead::none : BertHead::masked_lm);
    EXPECT_TENSOR_EQ(model->word_embeddings->weight, masked.word_embeddings->weight);
  }
  // A head that is said to be tied and is not.
  tensors["cls.predictions.decoder.weight"] = at::zeros({30, 12});
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file,
                    "cls.predictions.decoder.weight must hold the same values as "
                    "bert.embeddings.word_embeddings.weight, to which it is tied");
}

TEST(EncoderFolders, AnUnknownOrMissingWeightIsNamed) {
  const ClipImpl clip(clip_config(29));
  auto tensors = clip.weight_map().tensors();
  tensors["vision_model.pre_layernorm.weight"] = tensors.at("vision_model.pre_layrnorm.weight");
  tensors.erase("vision_model.pre_layrnorm.weight");
  const TemporaryFolder folder;
  io::save_safetensors(folder.path() / "model.safetensors", tensors);
  io::write_json(folder.path() / "config.json", clip.config_json());
  EXPECT_ERROR_KIND(load(folder.path()), ErrorKind::file,
                    "vision_model.pre_layrnorm.weight (nearest: vision_model.pre_layernorm.weight)");
}

}  // namespace
}  // namespace winnow::models
