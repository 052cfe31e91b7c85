// The options of published configurations against the plain implementation of reference.h, which works on the saved
// tensors.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "reference.h"
#include "support/error.h"
#include "support/golden.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/models/deit.h"
#include "winnow/models/dinov2.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

using testing::ReferenceViT;

const std::vector<std::string> kActivations = {"gelu", "gelu_new", "quick_gelu", "relu", "silu"};

at::Tensor random(std::vector<int64_t> shape, uint64_t seed) {
  return at::randn(shape, make_generator(seed), at::TensorOptions(at::kDouble));
}

// In float64, every parameter random and none near its neutral value, in evaluation mode.
template <typename Model>
Model prepared(Model model) {
  const at::NoGradGuard no_grad;
  model->to(at::kDouble);
  model->eval();
  uint64_t seed = 1;
  for (auto& parameter : model->parameters()) {
    parameter.copy_(random(parameter.sizes().vec(), seed++) * 0.3 + 0.1);
  }
  return model;
}

ReferenceViT reference(const Pretrained& model) {
  return {model.weight_map().tensors(), model.config_json()};
}

VitTrunkConfig small(const std::string& activation = "gelu", bool qkv_bias = true) {
  return {.image_height = 12,
          .image_width = 12,
          .patch_size = 3,
          .num_channels = 2,
          .hidden_size = 12,
          .num_hidden_layers = 2,
          .num_attention_heads = 3,
          .intermediate_size = 20,
          .hidden_act = activation,
          .qkv_bias = qkv_bias,
          .layer_norm_eps = 1e-3};
}

TEST(ViTOptions, EveryActivationAndNoBias) {
  const at::NoGradGuard no_grad;
  for (const auto& activation : kActivations) {
    for (const bool bias : {true, false}) {
      auto model = prepared(ViT(ViTConfig{.trunk = small(activation, bias), .labels = default_labels(5)}));
      const auto images = random({2, 2, 12, 12}, 99);
      const auto ref = reference(*model);
      const auto tokens = ref.encode("vit.", ref.embeddings("vit.", images));
      const auto out = model->forward(images);
      EXPECT_TENSOR_NEAR(out.last_hidden_state, tokens, 1e-10);
      EXPECT_TENSOR_NEAR(out.logits, ref.dense("classifier", tokens.select(1, 0)), 1e-10);
      EXPECT_TENSOR_EQ(model->classify(images), out.logits);
    }
  }
}

TEST(ViTOptions, PoolerOfAnotherWidthAndActivation) {
  const at::NoGradGuard no_grad;
  for (const std::string activation : {"tanh", "relu", "gelu", "silu"}) {
    auto model = prepared(
        ViT(ViTConfig{.trunk = small(), .head = ViTHead::pooler, .pooler_output_size = 7, .pooler_act = activation}));
    const auto images = random({2, 2, 12, 12}, 99);
    const auto ref = reference(*model);
    const auto tokens = ref.encode("", ref.embeddings("", images));
    const auto pooled = ref.activation(activation, ref.dense("pooler.dense", tokens.select(1, 0)));
    EXPECT_TENSOR_NEAR(model->forward(images).pooler_output, pooled, 1e-10);
    EXPECT_EQ(pooled.size(1), 7);
  }
  EXPECT_ERROR(ViT(ViTConfig{.trunk = small(), .pooler_act = "mish"}), "pooler_act");
}

TEST(ViTOptions, ImagesOfAnotherSizeAreInterpolatedOnRequestOnly) {
  const at::NoGradGuard no_grad;
  auto model = prepared(ViT(ViTConfig{.trunk = small()}));
  const auto ref = reference(*model);
  for (const auto& [height, width] : {std::pair{12, 21}, std::pair{6, 9}, std::pair{24, 24}, std::pair{6, 24}}) {
    const auto images = random({1, 2, height, width}, 3);
    EXPECT_ERROR(model->forward(images), "ViT: images must be 12 x 12 (or ask for interpolate_positions), got");
    EXPECT_TENSOR_NEAR(model->forward(images, {.interpolate_positions = true}).last_hidden_state,
                       ref.encode("vit.", ref.embeddings("vit.", images)), 1e-10);
  }
  // Pixels beyond whole patches are not seen.
  const auto images = random({1, 2, 14, 13}, 3);
  EXPECT_TENSOR_NEAR(model->forward(images, {.interpolate_positions = true}).last_hidden_state,
                     ref.encode("vit.", ref.embeddings("vit.", images)), 1e-10);
  EXPECT_TENSOR_EQ(
      model->forward(images, {.interpolate_positions = true}).logits,
      model->forward(images.slice(2, 0, 12).slice(3, 0, 12).contiguous(), {.interpolate_positions = true}).logits);
}

TEST(ViTOptions, MeanPooledClassifierNormalisesTheMeanOfThePatchTokens) {
  const at::NoGradGuard no_grad;
  auto model = prepared(ViT(ViTConfig{.trunk = small(), .head = ViTHead::mean_pool, .labels = default_labels(3)}));
  const auto images = random({2, 2, 12, 12}, 7);
  const auto out = model->forward(images, {.hidden_states = true});
  const auto mean = out.hidden_states.back().slice(1, 1).mean(1);
  const auto centred = mean - mean.mean(-1, true);
  const auto normed =
      centred / (centred.square().mean(-1, true) + 1e-3).sqrt() * model->fc_norm->weight + model->fc_norm->bias;
  EXPECT_TENSOR_NEAR(out.logits, at::matmul(normed, model->head->weight.t()) + model->head->bias, 1e-12);
}

TEST(DeiTOptions, HeadsOnClassAndDistillationToken) {
  const at::NoGradGuard no_grad;
  for (const auto head : {DeiTHead::classifier, DeiTHead::teacher}) {
    auto model = prepared(DeiT(DeiTConfig{.trunk = small("relu"), .head = head, .labels = default_labels(4)}));
    const auto ref = reference(*model);
    for (const auto& [height, width] : {std::pair{12, 12}, std::pair{9, 15}}) {
      const auto images = random({2, 2, height, width}, 5);
      const auto tokens = ref.encode("deit.", ref.embeddings("deit.", images));
      const auto out = model->forward(images, {.interpolate_positions = true});
      EXPECT_TENSOR_NEAR(out.last_hidden_state, tokens, 1e-10);
      if (head == DeiTHead::classifier) {
        EXPECT_TENSOR_NEAR(out.logits, ref.dense("classifier", tokens.select(1, 0)), 1e-10);
        EXPECT_FALSE(out.cls_logits.defined());
      } else {
        const auto first = ref.dense("cls_classifier", tokens.select(1, 0));
        const auto second = ref.dense("distillation_classifier", tokens.select(1, 1));
        EXPECT_TENSOR_NEAR(out.cls_logits, first, 1e-10);
        EXPECT_TENSOR_NEAR(out.distillation_logits, second, 1e-10);
        EXPECT_TENSOR_NEAR(out.logits, (first + second) / 2, 1e-10);
      }
    }
  }
}

TEST(Dinov2Options, SwigluAndEveryActivationWithAndWithoutMask) {
  const at::NoGradGuard no_grad;
  for (const bool swiglu : {true, false}) {
    for (const auto& activation : kActivations) {
      auto model = prepared(Dinov2(Dinov2Config{.trunk = small(activation), .mlp_ratio = 3, .use_swiglu_ffn = swiglu}));
      const auto ref = reference(*model);
      const auto masked = random({2, 16}, 11) > 0;
      const auto images = random({2, 2, 12, 12}, 12);
      EXPECT_TENSOR_NEAR(model->forward(images).last_hidden_state, ref.encode("", ref.embeddings("", images)), 1e-10);
      const auto out = model->forward(images, {.masked = masked});
      EXPECT_TENSOR_NEAR(out.last_hidden_state, ref.encode("", ref.embeddings("", images, masked)), 1e-10);
      EXPECT_TENSOR_EQ(out.pooler_output, out.last_hidden_state.select(1, 0));
      EXPECT_TENSOR_EQ(model->forward(images, {.masked = masked.to(at::kByte)}).last_hidden_state,
                       out.last_hidden_state);
    }
  }
}

TEST(Dinov2Options, OtherSizesWithoutAskingAndWithAMask) {
  const at::NoGradGuard no_grad;
  auto model = prepared(Dinov2(Dinov2Config{.trunk = small()}));
  const auto ref = reference(*model);
  const auto images = random({1, 2, 6, 21}, 12), masked = random({1, 14}, 13) > 0;
  EXPECT_TENSOR_NEAR(model->forward(images, {.masked = masked}).last_hidden_state,
                     ref.encode("", ref.embeddings("", images, masked)), 1e-10);
  EXPECT_ERROR(model->forward(images, {.masked = masked.slice(1, 1)}), "Dinov2: masked must");
  EXPECT_ERROR(model->forward(images.slice(1, 1)), "Dinov2: images must have 2 channels");
  auto without = prepared(Dinov2(Dinov2Config{.trunk = small(), .use_mask_token = false}));
  EXPECT_ERROR(without->forward(images, {.masked = masked}), "use_mask_token is off");
}

TEST(Dinov2Options, ClassifierSeesClassTokenAndMeanOfPatches) {
  const at::NoGradGuard no_grad;
  auto model =
      prepared(Dinov2(Dinov2Config{.trunk = small(), .head = Dinov2Head::classifier, .labels = default_labels(3)}));
  const auto images = random({2, 2, 12, 15}, 1);
  const auto ref = reference(*model);
  const auto tokens = ref.encode("dinov2.", ref.embeddings("dinov2.", images));
  const auto feature = at::cat({tokens.select(1, 0), tokens.slice(1, 1).mean(1)}, 1);
  EXPECT_TENSOR_NEAR(model->classify(images), ref.dense("classifier", feature), 1e-10);
}

TEST(Dinov2Options, ApplyLayernormConcernsFeatureMapsOnly) {
  const at::NoGradGuard no_grad;
  const auto images = random({2, 2, 6, 12}, 1);
  auto normed = prepared(Dinov2(Dinov2Config{.trunk = small(), .out_indices = {0, 1, 2}}));
  auto raw = prepared(Dinov2(Dinov2Config{
      .trunk = small(), .apply_layernorm = false, .reshape_hidden_states = false, .out_indices = {1, -1}}));
  const auto out = normed->forward(images, {.hidden_states = true});
  EXPECT_TENSOR_EQ(raw->forward(images).last_hidden_state, out.last_hidden_state);
  const auto maps = normed->feature_maps(images);
  ASSERT_EQ(maps.size(), 3u);
  // The last map, [B, D, rows, columns], is the last state's patch tokens in raster order.
  EXPECT_EQ(maps[2].sizes(), at::IntArrayRef({2, 12, 2, 4}));
  EXPECT_TENSOR_EQ(maps[2].flatten(2).transpose(1, 2), out.last_hidden_state.slice(1, 1));
  const auto states = raw->feature_maps(images);
  ASSERT_EQ(states.size(), 2u);
  EXPECT_TENSOR_EQ(states[0], out.hidden_states[1]);
  EXPECT_TENSOR_EQ(states[1], out.hidden_states[2]);
}

ViTMaeConfig small_mae(const std::string& activation, bool norm_pix) {
  return {.trunk = small(activation),
          .decoder_hidden_size = 8,
          .decoder_num_hidden_layers = 2,
          .decoder_num_attention_heads = 2,
          .decoder_intermediate_size = 12,
          .mask_ratio = 0.6,
          .norm_pix_loss = norm_pix};
}

TEST(ViTMaeOptions, EveryActivationOnImagesOfOtherSizes) {
  const at::NoGradGuard no_grad;
  for (const auto& activation : kActivations) {
    auto model = prepared(ViTMae(small_mae(activation, activation == "relu")));
    const auto ref = reference(*model);
    for (const auto& [height, width] : {std::pair{12, 12}, std::pair{18, 18}, std::pair{6, 15}, std::pair{24, 6}}) {
      const auto images = random({2, 2, height, width}, 4);
      const auto noise = random({2, height / 3 * (width / 3)}, 5);
      const auto out = model->forward(images, noise, {.interpolate_positions = true});
      const auto wanted = ref.mae(images, noise);
      EXPECT_TENSOR_NEAR(out.latent, wanted.latent, 1e-10);
      EXPECT_TENSOR_NEAR(out.pred, wanted.logits, 1e-10);
      EXPECT_TENSOR_NEAR(out.loss, wanted.loss, 1e-10);
    }
    EXPECT_ERROR(model->forward(random({1, 2, 6, 15}, 4), random({1, 10}, 5)),
                 "ViTMae: images must be 12 x 12 (or ask for interpolate_positions), got 6 x 15");
  }
}

// The plain implementation itself against official numbers.
TEST(ReferenceGolden, AgreesWithTheStoredTensors) {
  testing::golden::for_each_hf("Dinov2Model", [](const testing::golden::HfCase& c) {
    const ReferenceViT ref(io::load_safetensors(c.model_path), c.config().value());
    for (const auto& run : c.runs) {
      const auto masked = run.name + ".in.bool_masked_pos";
      const auto x = ref.embeddings("", c[run.name + ".in.pixel_values"], c.has(masked) ? c[masked] : at::Tensor());
      c.expect(run.name + ".out.last_hidden_state", ref.encode("", x));
    }
  });
  testing::golden::for_each_hf("ViTMAEForPreTraining", [](const testing::golden::HfCase& c) {
    if (c.model_path.filename() != "model.safetensors") return;  // other names of the same tensors
    for (const auto& run : c.runs) {
      auto config = c.config().value();
      config["mask_ratio"] = run.options.at("mask_ratio");
      config["norm_pix_loss"] = run.options.at("norm_pix_loss");
      const ReferenceViT ref(io::load_safetensors(c.model_path), config);
      const auto out = ref.mae(c[run.name + ".in.pixel_values"], c[run.name + ".in.noise"]);
      c.expect(run.name + ".out.latent", out.latent);
      c.expect(run.name + ".out.logits", out.logits);
      c.expect(run.name + ".out.loss", out.loss);
    }
  });
}

}  // namespace
}  // namespace winnow::models
