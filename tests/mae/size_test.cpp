// The published sizes of the masked autoencoder: parameters and multiply-adds.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <vector>

#include "winnow/attention/transformer_block.h"
#include "winnow/mae/masked_autoencoder.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace winnow::mae {
namespace {

// Counts grow linearly with the depth: two small depths give that of any.
int64_t at_depth(int64_t one, int64_t two, int64_t depth) {
  return one + (depth - 1) * (two - one);
}

TEST(MaskedAutoencoder, ParametersOfThePublishedSizes) {
  struct Size {
    int64_t dim, depth, heads, patch, trainable, frozen, decoder;
  };
  for (const auto& size : {Size{768, 12, 12, 16, 85'647'360, 151'296, 26'008'320},
                           Size{1024, 24, 16, 16, 303'099'904, 201'728, 26'139'392},
                           Size{1280, 32, 16, 14, 630'435'840, 328'960, 26'178'124}}) {
    std::vector<ParameterCount> encoders;
    for (const int64_t depth : {1, 2}) {
      VitEncoder encoder(VitEncoderOptions{.patch = size.patch, .dim = size.dim, .depth = depth, .heads = size.heads});
      encoders.push_back(count_parameters(*encoder));
    }
    EXPECT_EQ(at_depth(encoders[0].trainable, encoders[1].trainable, size.depth), size.trainable);
    EXPECT_EQ(encoders[0].frozen, size.frozen);
    MaeDecoder decoder(EncoderGeometry{.channels = 3,
                                       .image_height = 224,
                                       .image_width = 224,
                                       .patch = size.patch,
                                       .dim = size.dim,
                                       .prefix_tokens = 1},
                       MaeDecoderOptions{}, 0);
    EXPECT_EQ(count_parameters(*decoder).trainable, size.decoder);
  }
  EXPECT_EQ(count_parameters(*TransformerBlock(vit_block_options(768, 12))).trainable, 7'087'872);
  EXPECT_EQ(count_parameters(*TransformerBlock(vit_block_options(512, 16))).trainable, 3'152'384);
}

TEST(MaskedAutoencoder, ParametersOfTheWholeBaseModel) {
  MaskedAutoencoderViT model(MaskedAutoencoderViTOptions{});
  EXPECT_EQ(count_parameters(*model).trainable, 111'655'680);
  EXPECT_EQ(count_parameters(*model).total(), 111'907'840);
}

TEST(MaskedAutoencoder, MultiplyAddsOfTheBaseModel) {
  const at::NoGradGuard no_grad;
  const auto images = at::zeros({1, 3, 224, 224});
  const auto multiply_adds = [](auto&& work) {
    OpCounter counter;
    work();
    return counter.counts().multiply_adds;
  };
  int64_t full[2], masked[2], decoded[2];
  for (const int64_t depth : {1, 2}) {
    MaskedAutoencoderViT model(MaskedAutoencoderViTOptions{.encoder = {.depth = depth}, .decoder = {.depth = depth}});
    const auto mask = draw_mask({}, 1, 14, 14, make_generator(0));
    full[depth - 1] = multiply_adds([&] { model->encode(images); });
    at::Tensor latent;
    masked[depth - 1] =
        multiply_adds([&] { latent = model->encoder->encode(model->encoder->embed_kept(images, mask.ids_keep)); });
    decoded[depth - 1] = multiply_adds([&] { model->decoder->forward(latent, mask.ids_restore); });
  }
  const int64_t patch = 768 * 768;  // of one patch embedding
  EXPECT_NEAR(static_cast<double>(at_depth(full[0], full[1], 12)), 17.563e9, 5e5);
  // The official code embeds all 196 patches before it drops 147 of them; here only the kept ones are embedded.
  EXPECT_NEAR(static_cast<double>(at_depth(masked[0], masked[1], 12) + 147 * patch), 4.408e9, 5e5);
  // Nor is the class row sent through the last linear map.
  EXPECT_NEAR(static_cast<double>(at_depth(decoded[0], decoded[1], 8) + 512 * 768), 5.373e9, 5e5);
  // 12 N D^2 + 2 N^2 D per block.
  EXPECT_EQ(full[1] - full[0], 12 * 197 * patch + 2 * 197 * 197 * 768);
}

}  // namespace
}  // namespace winnow::mae
