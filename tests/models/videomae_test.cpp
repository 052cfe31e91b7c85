// Facts about VideoMAE: tables, targets, what a hidden cube can change, sizes, the classifier, errors.
#include "winnow/models/videomae.h"

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

VideoMaeConfig small(VideoMaeHead head = VideoMaeHead::pre_training) {
  return {.trunk = {.image_height = 6,
                    .image_width = 9,
                    .patch_size = 3,
                    .hidden_size = 12,
                    .num_hidden_layers = 2,
                    .num_attention_heads = 3,
                    .intermediate_size = 20,
                    .layer_norm_eps = 1e-6},
          .head = head,
          .num_frames = 4,
          .tubelet_size = 2,
          .use_mean_pooling = false,
          .decoder_hidden_size = 8,
          .decoder_num_hidden_layers = 1,
          .decoder_num_attention_heads = 2,
          .decoder_intermediate_size = 12,
          .labels = {"a", "b", "c"}};
}
constexpr int64_t kTokens = 2 * 2 * 3;

VideoMae prepared(const VideoMaeConfig& config) {
  VideoMae model(config);
  testing::draw_parameters(*model);
  return model;
}

at::Tensor clips(int64_t batch, uint64_t seed = 7) {
  return at::randn({batch, 4, 3, 6, 9}, make_generator(seed), at::TensorOptions(at::kDouble));
}

// Hides the tokens of these numbers in a single clip.
at::Tensor hide(const std::vector<int64_t>& tokens) {
  const auto mask = at::zeros({1, kTokens}, at::kBool);
  for (const auto token : tokens) mask[0][token] = true;
  return mask;
}

TEST(VideoMae, PositionTablesInterleaveSinesAndCosinesAlongTheTokens) {
  auto config = small();
  config.trunk.hidden_size = 4;
  config.trunk.num_attention_heads = 1;
  const VideoMae model(config);
  const auto table = model->encoder->pos_embed;
  ASSERT_EQ(table.sizes(), (std::vector<int64_t>{1, kTokens, 4}));
  EXPECT_TENSOR_NEAR(table[0][1], at::tensor({0.841471, 0.540302, 0.0099998, 0.99995}), 1e-6);
  EXPECT_TENSOR_NEAR(table[0][2], at::tensor({0.909297, -0.416147, 0.0199987, 0.9998}), 1e-6);
  EXPECT_FALSE(table.requires_grad());
  EXPECT_EQ(model->decoder_positions.size(2), 8);
}

TEST(VideoMae, TargetsAreNormedPerChannelWithTheEpsilonOutsideTheRoot) {
  // One token of 2 frames x 1 x 2 pixels; channel 0 holds 0, 1/2, 1/2, 1: variance 1/6. Channels 1 and 2 are constant.
  auto video = at::zeros({1, 2, 3, 1, 2}, at::kDouble);
  video.select(2, 0).copy_(at::tensor({0.0, 0.5, 0.5, 1.0}, at::kDouble).view({1, 2, 1, 2}));
  const auto mean = at::tensor({0.485, 0.456, 0.406}, at::kDouble).view({1, 1, 3, 1, 1});
  const auto deviation = at::tensor({0.229, 0.224, 0.225}, at::kDouble).view({1, 1, 3, 1, 1});
  const auto normalised = (video - mean) / deviation;
  const auto flat = [](const at::Tensor& x) { return x.reshape({-1}); };
  EXPECT_ERROR(videomae_targets(normalised, 2, 2, true), "videomae_targets: tubelet 2 and patch 2 must divide");
  const auto wide = at::cat({normalised, normalised}, 3);  // 2 x 2 pixels: each value twice
  const auto plain = videomae_targets(wide, 2, 2, false);
  ASSERT_EQ(plain.sizes(), (std::vector<int64_t>{1, 1, 24}));
  EXPECT_TENSOR_NEAR(flat(plain), flat(at::cat({video, video}, 3).permute({0, 1, 3, 4, 2})), 1e-12);
  // Values twice: the same mean, variance (sum of squares 1) / 7.
  const auto normed = videomae_targets(wide, 2, 2, true).view({8, 3});
  const double scale = 1 / (std::sqrt(1.0 / 7) + 1e-6);
  EXPECT_TENSOR_NEAR(normed.select(1, 0), at::tensor({-0.5, 0.0, -0.5, 0.0, 0.0, 0.5, 0.0, 0.5}, at::kDouble) * scale,
                     1e-9);
  EXPECT_LT(normed.slice(1, 1).abs().max().item<double>(), 1e-9);
}

TEST(VideoMae, ClipsOfOtherChannelsAreComparedAsTheyAre) {
  const auto video = at::tensor({0.0, 0.5, 0.5, 1.0}, at::kDouble).view({1, 1, 1, 2, 2});
  EXPECT_TENSOR_NEAR(videomae_targets(video, 1, 2, true).flatten(),
                     at::tensor({-1.224742, 0.0, 0.0, 1.224742}, at::kDouble), 1e-5);
  EXPECT_ERROR(videomae_targets(video, 1, 2, false), "videos must have 3 channels unless norm_pix is on, got 1");
}

TEST(VideoMae, HiddenPixelsReachTheLossAndNothingElse) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  const auto mask = hide({0, 7});
  const auto video = clips(1);
  auto changed = video.clone();
  changed.slice(1, 0, 2).slice(3, 0, 3).slice(4, 0, 3) +=
      at::rand({3, 3}, make_generator(1)).to(at::kDouble);  // token 0
  const auto before = model->forward(video, {.masked = mask}), after = model->forward(changed, {.masked = mask});
  EXPECT_TENSOR_EQ(before.last_hidden_state, after.last_hidden_state);
  EXPECT_TENSOR_EQ(before.logits, after.logits);
  EXPECT_GT(std::abs(before.loss.item<double>() - after.loss.item<double>()), 1e-6);
  EXPECT_EQ(before.last_hidden_state.size(1), kTokens - 2);
  EXPECT_EQ(before.logits.sizes(), (std::vector<int64_t>{1, 2, 2 * 3 * 3 * 3}));
  // Frames 2 and 3, lower half, middle third: token 6 + 3 + 1 = 10, visible.
  auto seen = video.clone();
  seen.slice(1, 2).slice(3, 3).slice(4, 3, 6) += 1;
  EXPECT_FALSE(at::equal(model->forward(seen, {.masked = mask}).last_hidden_state, before.last_hidden_state));
}

TEST(VideoMae, EachClipOfABatchHasItsOwnMask) {
  const at::NoGradGuard no_grad;
  auto model = prepared(small());
  const auto masks = at::cat({hide({1, 2, 3}), hide({11, 0, 5})});
  const auto both = model->forward(clips(2), {.masked = masks.to(at::kByte), .hidden_states = true});
  double loss = 0;
  for (int64_t i = 0; i < 2; ++i) {
    const auto one = model->forward(clips(2).slice(0, i, i + 1), {.masked = masks.slice(0, i, i + 1)});
    EXPECT_TENSOR_NEAR(both.logits.slice(0, i, i + 1), one.logits, 1e-10);
    loss += one.loss.item<double>() / 2;
  }
  EXPECT_NEAR(both.loss.item<double>(), loss, 1e-10);
  EXPECT_EQ(both.hidden_states.size(), 3U);
  EXPECT_TENSOR_EQ(model->encoder->norm->forward(both.hidden_states.back()), both.last_hidden_state);
}

TEST(VideoMae, PublishedSizes) {
  const auto count = [](const torch::nn::Module& module) {
    int64_t n = 0;
    for (const auto& parameter : module.parameters()) n += parameter.requires_grad() ? parameter.numel() : 0;
    return n;
  };
  // ViT-S encoder, and the decoder that goes with ViT-B.
  const VideoMae encoder(
      VideoMaeConfig{.trunk = {.hidden_size = 384, .num_attention_heads = 6, .intermediate_size = 1536},
                     .head = VideoMaeHead::none,
                     .use_mean_pooling = false});
  EXPECT_EQ(count(*encoder), 21'879'936);
  EXPECT_EQ(encoder->encoder->patches(), 1568);
  const VideoMae base(VideoMaeConfig{.trunk = {.num_hidden_layers = 1}, .use_mean_pooling = false});
  EXPECT_EQ(count(*base) - count(*base->encoder), 7'983'744);
}

TEST(VideoMae, ClassifierNormsTheMeanOrTakesTheFirstToken) {
  const at::NoGradGuard no_grad;
  for (const bool mean : {true, false}) {
    auto config = small(VideoMaeHead::classifier);
    config.use_mean_pooling = mean;
    auto model = prepared(config);
    EXPECT_EQ(model->encoder->norm.is_empty(), mean);
    const auto out = model->forward(clips(2), {.labels = at::tensor({2, 0}, at::kLong)});
    auto x = mean ? out.last_hidden_state.mean(1) : out.last_hidden_state.select(1, 0);
    if (mean) {
      const auto centred = x - x.mean(-1, true);
      x = centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * model->fc_norm->weight + model->fc_norm->bias;
    }
    EXPECT_TENSOR_NEAR(out.logits, at::matmul(x, model->classifier->weight.t()) + model->classifier->bias, 1e-12);
    EXPECT_NEAR(out.loss.item<double>(),
                -(out.logits.log_softmax(1)[0][2] + out.logits.log_softmax(1)[1][0]).item<double>() / 2, 1e-12);
  }
}

TEST(VideoMae, WrongInputsAreTold) {
  auto model = prepared(small());
  EXPECT_ERROR(model->forward(clips(1)), "VideoMae: masked must be given for pre-training");
  EXPECT_ERROR(model->forward(clips(2), {.masked = at::cat({hide({1}), hide({1, 2})})}),
               "VideoMae: masked must hide as many tokens in each row, got between 1 and 2");
  EXPECT_ERROR(model->forward(clips(1), {.masked = hide({})}),
               "VideoMae: masked must hide between 1 and 11 of 12 tokens");
  EXPECT_ERROR(model->forward(clips(1), {.masked = at::ones({1, kTokens})}), "got 12");
  EXPECT_ERROR(model->forward(clips(1), {.masked = at::ones({1, 5})}), "VideoMae: masked must have shape");
  EXPECT_ERROR(model->forward(clips(1).slice(1, 0, 3), {.masked = hide({1})}), "VideoMae: videos must have shape");
  EXPECT_ERROR(model->forward(clips(1).to(at::kFloat), {.masked = hide({1})}), "VideoMae: videos must");
  auto config = small();
  config.num_frames = 5;
  EXPECT_ERROR(VideoMae{config}, "frames must be a multiple of tubelet = 2, got 5");
  const io::Json json = {{"num_frames", 5}};
  EXPECT_ERROR_KIND(read_videomae_config(io::JsonObject(json, "config.json")), ErrorKind::file,
                    "config.json: tubelet_size must divide num_frames = 5, got 2");
}

}  // namespace
}  // namespace winnow::models
