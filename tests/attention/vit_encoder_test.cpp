#include "winnow/attention/vit_encoder.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/position.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

VitEncoderOptions small() {
  return {
      .image_height = 8, .image_width = 12, .channels = 2, .patch = 4, .dim = 16, .depth = 3, .heads = 2, .seed = 1};
}

at::Tensor pictures(int64_t batch) {
  return at::randn({batch, 2, 8, 12}, make_generator(0));
}

TEST(VitEncoder, ClassifierOfThePublishedSize) {
  VitEncoder encoder(VitEncoderOptions{.positions = PositionTable::learned});
  EXPECT_EQ(count_parameters(*encoder).trainable + 768 * 1000 + 1000, 86'567'656);
}

TEST(VitEncoder, NamesAreThoseOfTimm) {
  auto options = small();
  options.depth = 1;
  options.layer_scale = 0.1;
  options.distillation_token = true;
  VitEncoder encoder(options);
  std::vector<std::string> names = encoder->named_parameters().keys();
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"blocks.0.attn.proj.bias",
                                             "blocks.0.attn.proj.weight",
                                             "blocks.0.attn.qkv.bias",
                                             "blocks.0.attn.qkv.weight",
                                             "blocks.0.ls1.gamma",
                                             "blocks.0.ls2.gamma",
                                             "blocks.0.mlp.fc1.bias",
                                             "blocks.0.mlp.fc1.weight",
                                             "blocks.0.mlp.fc2.bias",
                                             "blocks.0.mlp.fc2.weight",
                                             "blocks.0.norm1.bias",
                                             "blocks.0.norm1.weight",
                                             "blocks.0.norm2.bias",
                                             "blocks.0.norm2.weight",
                                             "cls_token",
                                             "dist_token",
                                             "norm.bias",
                                             "norm.weight",
                                             "patch_embed.proj.bias",
                                             "patch_embed.proj.weight",
                                             "pos_embed"}));
}

TEST(VitEncoder, AFixedTableTakesNoGradientALearnedOneDoes) {
  for (const auto positions : {PositionTable::sincos, PositionTable::learned}) {
    auto options = small();
    options.positions = positions;
    VitEncoder encoder(options);
    encoder->forward(pictures(2)).square().sum().backward();
    EXPECT_EQ(encoder->pos_embed.grad().defined(), positions == PositionTable::learned);
  }
  VitEncoder fixed(small());
  EXPECT_TENSOR_EQ(fixed->pos_embed[0], sincos_2d_pos_embed(16, 2, 3, 1));
}

TEST(VitEncoder, PrefixTokensStandInFront) {
  for (const int64_t prefix : {0, 1, 2}) {
    auto options = small();
    options.class_token = prefix >= 1;
    options.distillation_token = prefix == 2;
    VitEncoder encoder(options);
    EXPECT_EQ(encoder->prefix_tokens(), prefix);
    EXPECT_EQ(encoder->forward(pictures(2)).sizes(), (std::vector<int64_t>{2, prefix + 6, 16}));
  }
}

TEST(VitEncoder, ChosenPatchesAreRowsOfTheWholeEmbedding) {
  for (const auto positions : {PositionTable::sincos, PositionTable::learned}) {
    auto options = small();
    options.positions = positions;
    VitEncoder encoder(options);
    const auto images = pictures(3);
    const auto ids = at::tensor({5, 0, 2, 1, 1, 3}, at::kLong).view({3, 2});
    const auto wanted = encoder->embed(images).gather(1, ids.unsqueeze(-1).expand({3, 2, 16}));
    EXPECT_TENSOR_NEAR(encoder->embed_kept(images, ids), wanted, 1e-6);
    const auto gradients = [&](const at::Tensor& tokens) {
      encoder->zero_grad();
      tokens.square().sum().backward();
      return encoder->patch_embed->proj->weight.grad().clone();
    };
    EXPECT_TENSOR_NEAR(gradients(encoder->embed_kept(images, ids)),
                       gradients(encoder->embed(images).gather(1, ids.unsqueeze(-1).expand({3, 2, 16}))), 1e-4);
  }
}

TEST(VitEncoder, HiddenStatesEndBeforeTheFinalNorm) {
  VitEncoder encoder(small());
  std::vector<at::Tensor> states;
  const auto out = encoder->encode(encoder->embed(pictures(2)), &states);
  ASSERT_EQ(states.size(), 4u);
  EXPECT_TENSOR_EQ(encoder->norm->forward(states[3]), out);
  EXPECT_TENSOR_EQ(states[0].slice(1, 1), encoder->embed(pictures(2)));
}

TEST(VitEncoder, WithoutFinalNormTheLastBlockIsReturned) {
  auto options = small();
  options.final_norm = false;
  VitEncoder encoder(options);
  std::vector<at::Tensor> states;
  const auto out = encoder->encode(encoder->embed(pictures(2)), &states);
  EXPECT_TENSOR_EQ(out, states.back());
}

TEST(VitEncoder, DropPathGrowsWithTheDepth) {
  auto options = small();
  options.drop_path = 0.4;
  VitEncoder encoder(options);
  EXPECT_EQ(encoder->blocks[0]->options.drop_path, 0.0);
  EXPECT_NEAR(encoder->blocks[1]->options.drop_path, 0.2, 1e-12);
  EXPECT_NEAR(encoder->blocks[2]->options.drop_path, 0.4, 1e-12);
  encoder->eval();
  EXPECT_TENSOR_EQ(encoder->forward(pictures(2)), encoder->forward(pictures(2)));
}

TEST(VitEncoder, AnotherGridResizesTheTableAndKeepsThePrefix) {
  VitEncoder encoder(small());
  const auto table = encoder->positions_for(4, 4);
  EXPECT_EQ(table.sizes(), (std::vector<int64_t>{1, 17, 16}));
  EXPECT_TENSOR_EQ(table.select(1, 0), encoder->pos_embed.select(1, 0));
  EXPECT_TENSOR_EQ(encoder->positions_for(2, 3), encoder->pos_embed);
  const auto large = at::randn({1, 2, 16, 16}, make_generator(1));
  EXPECT_TENSOR_EQ(encoder->embed(large, /*interpolate=*/true), encoder->patch_tokens(large) + table.slice(1, 1));
}

TEST(VitEncoder, ACloneComputesTheSame) {
  VitEncoder encoder(small());
  const auto copy = std::dynamic_pointer_cast<VitEncoderImpl>(encoder->clone());
  EXPECT_TENSOR_EQ(copy->forward(pictures(2)), encoder->forward(pictures(2)));
}

TEST(VitEncoder, WrongArgumentsAreNamed) {
  auto options = small();
  options.image_width = 13;
  EXPECT_ERROR(VitEncoder{options}, "VitEncoder: image_width must be a multiple of patch = 4, got 13");
  options = small();
  options.heads = 3;
  EXPECT_ERROR(VitEncoder{options}, "VitEncoder: heads must divide dim = 16, got 3");
  options = small();
  options.class_token = false;
  options.distillation_token = true;
  EXPECT_ERROR(VitEncoder{options}, "distillation_token must be off without class_token");
  VitEncoder encoder(small());
  EXPECT_ERROR(encoder->forward(at::zeros({1, 2, 12, 8})),
               "VitEncoder: images must be 8 x 12 (position table of 2 x 3 patches), got 12 x 8");
  EXPECT_ERROR(encoder->forward(at::zeros({1, 3, 8, 12})), "VitEncoder: images must have 2 channels");
  EXPECT_ERROR(encoder->encode(at::zeros({1, 4, 8})), "VitEncoder: tokens must");
}

VitEncoderOptions small_clips() {
  auto options = small();
  options.frames = 6;
  options.tubelet = 3;
  options.class_token = false;
  options.positions = PositionTable::sincos_line;
  return options;
}

TEST(VitEncoder, AClipIsCutIntoCubesTimeSlowest) {
  VitEncoder encoder(small_clips());
  EXPECT_EQ(encoder->patches(), 2 * 2 * 3);
  EXPECT_TENSOR_EQ(encoder->pos_embed[0], sincos_1d_pos_embed(16, 12, SincosLayout::interleaved));
  const at::NoGradGuard no_grad;
  const auto clip = at::randn({2, 2, 6, 8, 12}, make_generator(0));
  const auto tokens = encoder->patch_tokens(clip);
  // Token 1 * 6 + 1 * 3 + 2: frames 3 to 5, rows 4 to 7, columns 8 to 11.
  const auto cube = clip.slice(2, 3).slice(3, 4).slice(4, 8).flatten(1);
  const auto& proj = encoder->patch_embed->proj;
  EXPECT_TENSOR_NEAR(tokens.select(1, 11), at::mm(cube, proj->weight.flatten(1).t()) + proj->bias, 1e-5);
  const auto ids = at::tensor({11, 0, 5, 5, 3, 2}, at::kLong).view({2, 3});
  const auto embedded = encoder->embed(clip);
  EXPECT_TENSOR_NEAR(encoder->embed_kept(clip, ids),
                     at::stack({embedded[0].index_select(0, ids[0]), embedded[1].index_select(0, ids[1])}), 1e-5);
}

TEST(VitEncoder, ClipsOfAnotherLengthAreTold) {
  VitEncoder encoder(small_clips());
  EXPECT_ERROR(encoder->forward(at::zeros({1, 2, 3, 8, 12})), "VitEncoder: images must have 6 frames, got 3");
  EXPECT_ERROR(encoder->forward(at::zeros({1, 2, 8, 12})), "VitEncoder: images must");
  EXPECT_ERROR(encoder->embed(at::zeros({1, 2, 6, 8, 12}), true), "interpolate must be off for clips");
  auto options = small_clips();
  options.tubelet = 4;
  EXPECT_ERROR(VitEncoder{options}, "VitEncoder: frames must be a multiple of tubelet = 4, got 6");
  options = small_clips();
  options.positions = PositionTable::sincos;
  EXPECT_ERROR(VitEncoder{options}, "VitEncoder: frames must be 0 for a 2-D sine-cosine table, got 6");
}

TEST(VitEncoder, ANormMayStandInFrontOfTheBlocksAndBiasesMayBeLeftOut) {
  auto options = small();
  options.input_norm = true;
  options.patch_bias = false;
  options.key_bias = false;
  VitEncoder encoder(options);
  EXPECT_FALSE(encoder->patch_embed->proj->bias.defined());
  EXPECT_FALSE(encoder->blocks[0]->attn->qkv->bias.defined());
  EXPECT_EQ(encoder->blocks[0]->attn->q_bias.numel(), 16);
  std::vector<at::Tensor> states;
  const auto images = pictures(2);
  encoder->encode(encoder->embed(images), &states);
  const auto prefix = (encoder->cls_token + encoder->pos_embed.slice(1, 0, 1)).expand({2, 1, 16});
  const auto x = at::cat({prefix, encoder->embed(images)}, 1);
  EXPECT_TENSOR_NEAR(states.front(), at::layer_norm(x, {16}, {}, {}, options.eps), 1e-6);
}

}  // namespace
}  // namespace winnow
