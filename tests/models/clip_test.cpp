// Facts about CLIP: which token stands for a text, what a text can see, the loss, other image sizes, errors.
#include "winnow/models/clip.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "hf_golden.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

ClipConfig small(int64_t eos = 6) {
  return {.text = {.vocab_size = 9,
                   .hidden_size = 8,
                   .intermediate_size = 12,
                   .num_hidden_layers = 2,
                   .num_attention_heads = 2,
                   .max_position_embeddings = 7,
                   .eos_token_id = eos},
          .vision = {.hidden_size = 12,
                     .intermediate_size = 16,
                     .num_hidden_layers = 2,
                     .num_attention_heads = 3,
                     .num_channels = 2,
                     .image_size = 9,
                     .patch_size = 3},
          .projection_dim = 5};
}

Clip prepared(const ClipConfig& config) {
  Clip model(config);
  testing::draw_parameters(*model);
  return model;
}

at::Tensor images(int64_t batch, int64_t height = 9, int64_t width = 9) {
  return at::randn({batch, 2, height, width}, make_generator(5), at::TensorOptions(at::kDouble));
}

at::Tensor ids_of(std::vector<int64_t> values, int64_t rows) {
  return at::tensor(values, at::kLong).view({rows, -1});
}

TEST(Clip, ATextIsTheStateOfItsFirstEndToken) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small(/*eos=*/6));
  // End at 2; twice, so the first at 1; missing, so the first token.
  const auto out = model->encode_text({.ids = ids_of({1, 8, 6, 0, 1, 6, 7, 6, 1, 2, 3, 8}, 3)});
  const auto& states = out.last_hidden_state;
  EXPECT_TENSOR_EQ(out.pooler_output, at::stack({states[0][2], states[1][1], states[2][0]}));
}

TEST(Clip, EndTokenTwoStandsForTheLargestId) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small(/*eos=*/2));
  const auto out = model->encode_text({.ids = ids_of({2, 8, 6, 0, 1, 2, 7, 7}, 2)});
  const auto& states = out.last_hidden_state;
  EXPECT_TENSOR_EQ(out.pooler_output, at::stack({states[0][1], states[1][2]}));
}

TEST(Clip, ATokenSeesNoLaterOneAndNoPad) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  const auto states = [&](std::vector<int64_t> ids, std::vector<int64_t> keep = {}) {
    ClipTextInput input{.ids = ids_of(std::move(ids), 1)};
    if (!keep.empty()) input.keep = ids_of(std::move(keep), 1);
    return model->encode_text(input).last_hidden_state[0];
  };
  const auto full = states({1, 4, 3, 6});
  EXPECT_TENSOR_NEAR(states({1, 4, 5, 0}).slice(0, 0, 2), full.slice(0, 0, 2), 1e-12);
  EXPECT_GT((states({2, 4, 3, 6}) - full).abs()[3].max().item<double>(), 1e-4);
  // A pad in the middle is as if its token were any other.
  EXPECT_TENSOR_NEAR(states({1, 4, 3, 6}, {1, 0, 1, 1})[3], states({1, 7, 3, 6}, {1, 0, 1, 1})[3], 1e-12);
}

TEST(Clip, LogitsAreScaledCosinesAndTheLossIsOfBothSides) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  model->logit_scale.fill_(std::log(3.0));
  const ClipTextInput text{.ids = ids_of({1, 8, 6, 0, 1, 6, 7, 6}, 2)};
  const auto out = model->forward({.text = text, .images = images(2), .loss = true});
  const auto t = model->text_features(text), i = model->image_features(images(2));
  for (int64_t a = 0; a < 2; ++a) {
    for (int64_t b = 0; b < 2; ++b) {
      const auto cosine = (t[a] * i[b]).sum() / (t[a].norm() * i[b].norm());
      EXPECT_NEAR(out.logits_per_text[a][b].item<double>(), 3 * cosine.item<double>(), 1e-12);
    }
  }
  EXPECT_TENSOR_EQ(out.logits_per_image, out.logits_per_text.t());
  EXPECT_TENSOR_EQ(out.loss, contrastive_loss(out.logits_per_text));
}

TEST(Clip, ContrastiveLossByHand) {
  // Rows: -ln(e^1 / (e^1 + e^0)) and -ln(1/2); columns: -ln(e^1 / (e^1 + e^0)) and -ln(1/2).
  const auto logits = at::tensor({1.0, 0.0, 0.0, 0.0}, at::kDouble).view({2, 2});
  const double sharp = std::log1p(std::exp(-1.0)), even = std::log(2.0);
  EXPECT_NEAR(contrastive_loss(logits).item<double>(), (sharp + even) / 2, 1e-15);
  // Not symmetric: rows (2, 0), (0, 0); columns (2, 0), (0, 0) but with the 2 off the diagonal.
  const auto wrong = at::tensor({0.0, 2.0, 0.0, 0.0}, at::kDouble).view({2, 2});
  const double missed = std::log(1 + std::exp(2.0));
  EXPECT_NEAR(contrastive_loss(wrong).item<double>(), ((missed + even) / 2 + (even + missed) / 2) / 2, 1e-15);
  EXPECT_ERROR(contrastive_loss(at::zeros({2, 3})), "contrastive_loss: logits must be square");
}

TEST(Clip, ImagesOfAnotherSizeOnRequestOnly) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  EXPECT_ERROR(model->encode_images(images(1, 12, 9)), "Clip: images must be 9 x 9");
  const auto out = model->encode_images(images(1, 12, 9), {.interpolate_positions = true});
  EXPECT_EQ(out.last_hidden_state.size(1), 1 + 4 * 3);
  EXPECT_TENSOR_EQ(model->encode_images(images(1), {.interpolate_positions = true}).pooler_output,
                   model->encode_images(images(1)).pooler_output);
}

TEST(Clip, ImageStateIsTheNormedClassTokenAndTheFirstStateIsNormed) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  const auto out = model->encode_images(images(2), {.hidden_states = true});
  EXPECT_TENSOR_EQ(out.last_hidden_state, out.hidden_states.back());
  EXPECT_TENSOR_EQ(out.pooler_output, model->post_layernorm->forward(out.last_hidden_state.select(1, 0)));
  const auto plain = (out.hidden_states.front() - model->vision->norm_pre->bias) / model->vision->norm_pre->weight;
  EXPECT_LT(plain.mean(-1).abs().max().item<double>(), 1e-12);
}

TEST(Clip, WrongInputsAndOptionsAreTold) {
  auto model = prepared(small());
  EXPECT_ERROR(model->encode_text({.ids = at::zeros({1, 8}, at::kLong)}), "Clip: ids must hold at most 7 tokens");
  EXPECT_ERROR(model->encode_text({.ids = at::full({1, 2}, 9, at::kLong)}), "Clip: ids must");
  EXPECT_ERROR(model->forward({.text = {.ids = ids_of({1, 6}, 1)}, .images = images(2), .loss = true}),
               "contrastive_loss: logits must be square");
  const auto read = [](const io::Json& json) { return read_clip_config(io::JsonObject(json, "config.json")); };
  EXPECT_ERROR_KIND(read({{"text_config", {{"hidden_sise", 4}}}}), ErrorKind::unsupported,
                    "text_config.hidden_sise is not known here");
  EXPECT_ERROR_KIND(read({{"vision_config", {{"num_attention_heads", 7}}}}), ErrorKind::file,
                    "vision_config.num_attention_heads must divide");
  // An old file's second copy of a section wins.
  const auto config = read(
      {{"text_config", {{"hidden_size", 16}}}, {"text_config_dict", {{"hidden_size", 24}}}, {"projection_dim", 3}});
  EXPECT_EQ(config.text.hidden_size, 24);
  EXPECT_EQ(config.text.eos_token_id, 49407);
  EXPECT_EQ(config.vision.patch_size, 32);
  EXPECT_EQ(config.projection_dim, 3);
}

}  // namespace
}  // namespace winnow::models
