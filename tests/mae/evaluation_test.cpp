#include "winnow/mae/evaluation.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"

namespace winnow::mae {
namespace {

MaskedAutoencoderViT small(bool norm_pix = false) {
  return MaskedAutoencoderViT(MaskedAutoencoderViTOptions{
      .encoder = {.image_height = 8, .image_width = 8, .channels = 1, .patch = 4, .dim = 8, .depth = 1, .heads = 2},
      .decoder = {.dim = 8, .depth = 1, .heads = 2},
      .masking = {.ratio = 0.5},
      .norm_pix = norm_pix});
}

TEST(HeldOutError, OfPicturesThatAllEqualTheMeanImageIsZeroForTheMeanImage) {
  const auto mean = at::randn({1, 1, 8, 8}, make_generator(1));
  const auto images = mean.repeat({300, 1, 1, 1});  // more than one chunk
  for (const bool norm_pix : {false, true}) {
    auto model = small(norm_pix);
    const auto error = held_out_error(model, images, mean, 3);
    EXPECT_NEAR(error.mean_image, 0, 1e-9);
    EXPECT_GT(error.model, 0.01);
  }
}

TEST(HeldOutError, OfTheMeanImageIsTheVarianceOfThePictures) {
  const auto images = at::randn({4000, 1, 8, 8}, make_generator(1)) * 3;
  auto model = small();
  EXPECT_NEAR(held_out_error(model, images, at::zeros({1, 1, 8, 8}), 3).mean_image, 9.0, 0.2);
}

TEST(HeldOutError, ASeedRepeatsTheMasks) {
  const auto images = at::randn({20, 1, 8, 8}, make_generator(1));
  auto model = small();
  const auto mean = images.mean(0, true);
  EXPECT_EQ(held_out_error(model, images, mean, 3).model, held_out_error(model, images, mean, 3).model);
  EXPECT_NE(held_out_error(model, images, mean, 3).model, held_out_error(model, images, mean, 4).model);
  EXPECT_ERROR(held_out_error(model, images.slice(0, 0, 0), mean, 3), "held_out_error: images must not be empty");
}

TEST(ImageFeatures, AreTheTokensOfTheDenseEncoder) {
  const auto images = at::randn({300, 1, 8, 8}, make_generator(1));
  auto model = small();
  const auto tokens = model->encode(images);
  EXPECT_TENSOR_NEAR(image_features(model->encoder, images), tokens.slice(1, 1).mean(1), 1e-5);
  EXPECT_TENSOR_NEAR(image_features(model->encoder, images, FeaturePool::class_token), tokens.select(1, 0), 1e-5);
  VitEncoder bare(VitEncoderOptions{.image_height = 8,
                                    .image_width = 8,
                                    .channels = 1,
                                    .patch = 4,
                                    .dim = 8,
                                    .depth = 1,
                                    .heads = 2,
                                    .class_token = false});
  EXPECT_TENSOR_NEAR(image_features(bare, images), bare->forward(images).mean(1), 1e-5);
  EXPECT_ERROR(image_features(bare, images, FeaturePool::class_token),
               "pool must be mean for an encoder without class token");
}

}  // namespace
}  // namespace winnow::mae
