#include "winnow/models/vit_config.h"

#include <gtest/gtest.h>

#include "support/error.h"
#include "winnow/models/pretrained.h"

namespace winnow::models {
namespace {

using io::Json;

io::JsonObject object(const Json& json) {
  return {json, "config.json"};
}

Json named(const std::string& architecture, const std::string& type) {
  return {{"architectures", Json::array({architecture})}, {"model_type", type}};
}

TEST(ViTConfig, EachArchitectureHasItsOwnDefaults) {
  const auto vit = read_vit_config(object(named("ViTForImageClassification", "vit")));
  EXPECT_EQ(vit.trunk.patch_size, 16);
  EXPECT_EQ(vit.trunk.image_height, 224);
  EXPECT_EQ(vit.trunk.hidden_size, 768);
  EXPECT_EQ(vit.trunk.intermediate_size, 3072);
  EXPECT_EQ(vit.trunk.layer_norm_eps, 1e-12);
  EXPECT_EQ(vit.labels, (std::vector<std::string>{"LABEL_0", "LABEL_1"}));
  EXPECT_EQ(vit.pooler_act, "tanh");
  EXPECT_EQ(read_deit_config(object(named("DeiTModel", "deit"))).trunk.layer_norm_eps, 1e-12);
  const auto dinov2 = read_dinov2_config(object(named("Dinov2Model", "dinov2")));
  EXPECT_EQ(dinov2.trunk.patch_size, 14);
  EXPECT_EQ(dinov2.trunk.layer_norm_eps, 1e-6);
  EXPECT_EQ(dinov2.hidden_features(), 3072);
  EXPECT_TRUE(dinov2.use_mask_token);
  EXPECT_FALSE(dinov2.use_swiglu_ffn);
  const auto mae = read_vit_mae_config(object(named("ViTMAEForPreTraining", "vit_mae")));
  EXPECT_EQ(mae.decoder_hidden_size, 512);
  EXPECT_EQ(mae.decoder_num_hidden_layers, 8);
  EXPECT_EQ(mae.decoder_num_attention_heads, 16);
  EXPECT_EQ(mae.decoder_intermediate_size, 2048);
  EXPECT_EQ(mae.trunk.layer_norm_eps, 1e-12);
  EXPECT_EQ(mae.mask_ratio, 0.75);
  EXPECT_FALSE(mae.norm_pix_loss);
}

TEST(ViTConfig, BothKeyStylesOfTheDtypeAndGeneralKeysArePassedOver) {
  auto json = named("ViTModel", "vit");
  json["torch_dtype"] = "float32";
  json["dtype"] = "bfloat16";
  json["transformers_version"] = "4.0.0";
  json["_name_or_path"] = "somewhere";
  json["is_decoder"] = false;
  json["pruned_heads"] = Json::object();
  json["problem_type"] = nullptr;
  EXPECT_EQ(read_vit_config(object(json)).head, ViTHead::pooler);
}

TEST(ViTConfig, AnUnknownOptionIsRefusedByNameWithTheNearestOne) {
  auto json = named("ViTModel", "vit");
  json["hiden_size"] = 4;
  EXPECT_ERROR_KIND(read_vit_config(object(json)), ErrorKind::unsupported,
                    "config.json: the option hiden_size is not known here; did you mean hidden_size?");
  json = named("Dinov2Model", "dinov2");
  json["num_register_tokens"] = 4;
  EXPECT_ERROR_KIND(read_dinov2_config(object(json)), ErrorKind::unsupported, "num_register_tokens");
  json = named("ViTModel", "vit");
  json["use_swiglu_ffn"] = true;  // an option of another architecture
  EXPECT_ERROR_KIND(read_vit_config(object(json)), ErrorKind::unsupported, "use_swiglu_ffn");
}

TEST(ViTConfig, OptionsThatAreNotSupportedAreRefusedByName) {
  const auto refuse = [](const std::string& key, const Json& value, const std::string& text) {
    auto json = named("ViTForImageClassification", "vit");
    json[key] = value;
    EXPECT_ERROR_KIND(read_vit_config(object(json)), ErrorKind::unsupported, text);
  };
  refuse("patch_size", Json::array({16, 8}),
         "config.json: patch_size = [16, 8] is not supported: patches must be square");
  refuse("hidden_act", "laplace",
         "config.json: hidden_act must be one of gelu, gelu_new, quick_gelu, relu, silu, got laplace");
  refuse("head_dim", 32, "config.json: head_dim must be hidden_size / num_attention_heads = 64, got 32");
  refuse("pruned_heads", Json{{"0", Json::array({1})}}, "pruned_heads");
  refuse("is_decoder", true, "is_decoder");
  refuse("problem_type", "ranking", "problem_type");
}

TEST(ViTConfig, ValuesOutOfRangeNameFileAndKey) {
  const auto refuse = [](const std::string& key, const Json& value, const std::string& text) {
    auto json = named("ViTForImageClassification", "vit");
    json[key] = value;
    EXPECT_ERROR_KIND(read_vit_config(object(json)), ErrorKind::file, text);
  };
  refuse("hidden_size", 0, "config.json: hidden_size must be >= 1, got 0");
  refuse("hidden_size", "large", "config.json: hidden_size must be an integer");
  refuse("num_attention_heads", 7, "config.json: num_attention_heads must divide hidden_size = 768, got 7");
  refuse("image_size", 8, "config.json: image_size must hold at least one patch of 16 pixels, got 8 x 8");
  refuse("image_size", Json::array({32, 32, 32}), "image_size must be a number >= 1 or two of them");
  refuse("layer_norm_eps", 0, "layer_norm_eps must be > 0");
  refuse("model_type", "bert", "model_type must be vit for this architecture, got bert");
}

TEST(ViTConfig, ImageSizeMayBeARectangle) {
  auto json = named("ViTModel", "vit");
  json["image_size"] = Json::array({32, 48});
  json["patch_size"] = Json::array({8, 8});
  const auto config = read_vit_config(object(json));
  EXPECT_EQ(config.trunk.image_height, 32);
  EXPECT_EQ(config.trunk.image_width, 48);
  EXPECT_EQ(config.trunk.patch_size, 8);
  EXPECT_EQ(to_json(config)["image_size"], Json::array({32, 48}));
}

TEST(ViTConfig, ClassesComeFromId2labelElseFromNumLabels) {
  auto json = named("ViTForImageClassification", "vit");
  json["num_labels"] = 3;
  EXPECT_EQ(read_vit_config(object(json)).labels, default_labels(3));
  json["id2label"] = {{"0", "cat"}, {"1", "dog"}, {"2", "owl"}};
  EXPECT_EQ(read_vit_config(object(json)).labels, (std::vector<std::string>{"cat", "dog", "owl"}));
  json["num_labels"] = 4;
  EXPECT_ERROR_KIND(read_vit_config(object(json)), ErrorKind::file,
                    "num_labels must be 3, the size of id2label, got 4");
}

// int(hidden_size * mlp_ratio), and for SwiGLU two thirds of it rounded up to a multiple of 8: 4096 for the giant.
TEST(ViTConfig, WidthOfDinov2sMlp) {
  Dinov2Config config{.trunk = {.hidden_size = 1536, .num_attention_heads = 24}};
  EXPECT_EQ(config.hidden_features(), 6144);
  config.use_swiglu_ffn = true;
  EXPECT_EQ(config.hidden_features(), 4096);
  config.trunk.hidden_size = 36;
  config.mlp_ratio = 3;
  EXPECT_EQ(config.hidden_features(), 72);  // 108 -> 72
  config.mlp_ratio = 4;
  EXPECT_EQ(config.hidden_features(), 96);  // 144 -> 96
  config.trunk.hidden_size = 20;
  EXPECT_EQ(config.hidden_features(), 56);  // 80 -> 53 -> 56
}

TEST(ViTConfig, WhatIsWrittenReadsBackEqual) {
  const ViTConfig vit{.trunk = {.image_height = 32, .image_width = 64, .hidden_act = "silu", .qkv_bias = false},
                      .labels = {"a", "b \"c\""},
                      .problem_type = "multi_label_classification",
                      .pooler_output_size = 9,
                      .pooler_act = "relu"};
  EXPECT_EQ(to_json(read_vit_config(object(to_json(vit)))), to_json(vit));
  const ViTConfig mean{.head = ViTHead::mean_pool, .labels = {"a", "b", "c"}};
  EXPECT_EQ(read_vit_config(object(to_json(mean))).head, ViTHead::mean_pool);
  const DeiTConfig deit{.head = DeiTHead::classifier, .labels = {"x"}};
  EXPECT_EQ(to_json(read_deit_config(object(to_json(deit)))), to_json(deit));
  const Dinov2Config dinov2{.head = Dinov2Head::classifier,
                            .mlp_ratio = 3.5,
                            .use_swiglu_ffn = true,
                            .layerscale_value = 0.5,
                            .use_mask_token = false,
                            .apply_layernorm = false,
                            .out_indices = {1, -1}};
  EXPECT_EQ(to_json(read_dinov2_config(object(to_json(dinov2)))), to_json(dinov2));
  const ViTMaeConfig mae{.decoder_hidden_size = 32, .mask_ratio = 0.6, .norm_pix_loss = true};
  EXPECT_EQ(to_json(read_vit_mae_config(object(to_json(mae)))), to_json(mae));
}

TEST(ViTConfig, AnArchitectureThatIsNotKnownIsNamedWithThoseThatAre) {
  auto json = named("SwinModel", "swin");
  // The weights are never looked at.
  EXPECT_ERROR_KIND(load(object(json), io::Checkpoint(WINNOW_SOURCE_DIR "/tests/golden/hf/vit/model")),
                    ErrorKind::unsupported,
                    "config.json: the architecture SwinModel is not known here; known are Bert");
}

}  // namespace
}  // namespace winnow::models
