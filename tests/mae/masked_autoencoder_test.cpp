#include "winnow/mae/masked_autoencoder.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <memory>

#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/patches.h"

namespace winnow::mae {
namespace {

// 2 x 3 patches of 4 x 4 pixels with 3 channels.
MaskedAutoencoderViTOptions small(bool norm_pix = false, double ratio = 0.5) {
  return {.encoder = {.image_height = 8,
                      .image_width = 12,
                      .channels = 3,
                      .patch = 4,
                      .dim = 16,
                      .depth = 2,
                      .heads = 4,
                      .seed = 7},
          .decoder = {.dim = 8, .depth = 1, .heads = 2},
          .masking = {.ratio = ratio},
          .norm_pix = norm_pix};
}

at::Tensor pictures(int64_t batch, uint64_t seed = 0) {
  return at::randn({batch, 3, 8, 12}, make_generator(seed));
}

// The paper's algorithm in plain LibTorch calls on the parameters of the model: argsort, gather, explicit softmax.
struct Plain {
  const torch::OrderedDict<std::string, at::Tensor> w;
  at::Tensor get(const std::string& name) const { return w[name]; }
  at::Tensor linear(const std::string& name, const at::Tensor& x) const {
    return at::matmul(x, get(name + ".weight").t()) + get(name + ".bias");
  }
  at::Tensor norm(const std::string& name, const at::Tensor& x) const {
    const auto centred = x - x.mean(-1, true);
    return centred / (centred.square().mean(-1, true) + 1e-6).sqrt() * get(name + ".weight") + get(name + ".bias");
  }
  at::Tensor block(const std::string& name, const at::Tensor& input, int64_t heads) const {
    const auto B = input.size(0), N = input.size(1), D = input.size(2);
    const auto qkv = linear(name + ".attn.qkv", norm(name + ".norm1", input)).view({B, N, 3, heads, D / heads});
    const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };  // [B, H, N, D / H]
    const auto scores = at::matmul(part(0), part(1).transpose(-1, -2)) / std::sqrt(static_cast<double>(D / heads));
    const auto mixed = at::matmul(scores.softmax(-1), part(2)).transpose(1, 2).reshape({B, N, D});
    const auto x = input + linear(name + ".attn.proj", mixed);
    const auto h = linear(name + ".mlp.fc1", norm(name + ".norm2", x));
    return x + linear(name + ".mlp.fc2", 0.5 * h * (1 + (h * M_SQRT1_2).erf()));
  }

  at::Tensor loss(const at::Tensor& images, const at::Tensor& noise, bool norm_pix) const {
    const auto B = images.size(0), L = noise.size(1), K = L / 2, D = int64_t{16}, d = int64_t{8};
    const auto tokens = at::conv2d(images, get("patch_embed.proj.weight"), get("patch_embed.proj.bias"), {4, 4})
                            .flatten(2)
                            .transpose(1, 2) +
                        get("pos_embed").slice(1, 1);
    const auto shuffle = noise.argsort(/*dim=*/int64_t{1}, /*descending=*/false),
               restore = shuffle.argsort(/*dim=*/int64_t{1}, /*descending=*/false);
    const auto kept = tokens.gather(1, shuffle.slice(1, 0, K).unsqueeze(-1).expand({B, K, D}));
    auto x = at::cat({(get("cls_token") + get("pos_embed").slice(1, 0, 1)).expand({B, 1, D}), kept}, 1);
    for (const auto* name : {"blocks.0", "blocks.1"}) x = block(name, x, 4);
    const auto y = linear("decoder_embed", norm("norm", x));
    const auto full = at::cat({y.slice(1, 1), get("mask_token").expand({B, L - K, d})}, 1);
    const auto restored = full.gather(1, restore.unsqueeze(-1).expand({B, L, d}));
    auto z = at::cat({y.slice(1, 0, 1), restored}, 1) + get("decoder_pos_embed");
    z = block("decoder_blocks.0", z, 2);
    const auto pred = linear("decoder_pred", norm("decoder_norm", z)).slice(1, 1);
    auto target = images.view({B, 3, 2, 4, 3, 4}).permute({0, 2, 4, 3, 5, 1}).reshape({B, L, 48});
    if (norm_pix) target = (target - target.mean(-1, true)) / (target.var(-1, true, true) + 1e-6).sqrt();
    const auto mask = restore.ge(K).to(images.scalar_type());
    return ((pred - target).square().mean(-1) * mask).sum() / mask.sum();
  }
};

class MaskedAutoencoderDevice : public testing::DeviceTest {};

TEST_P(MaskedAutoencoderDevice, LossAndGradientsEqualThePlainComposition) {
  if (at::isReducedFloatingType(GetParam().dtype)) GTEST_SKIP() << "the plain composition rounds at every step";
  for (const bool norm_pix : {false, true}) {
    MaskedAutoencoderViT model(small(norm_pix));
    model->to(GetParam().device, GetParam().dtype);
    const auto images = randn({5, 3, 8, 12}, 1);
    const auto noise = on_device(at::rand({5, 6}, make_generator(2)));
    const auto loss = model->forward(images, noise).loss;
    loss.backward();
    Plain plain{model->named_parameters()};
    std::vector<at::Tensor> got, parameters;
    for (const auto& item : plain.w) {
      if (!item.value().requires_grad()) continue;
      parameters.push_back(item.value());
      got.push_back(item.value().grad());
    }
    const auto wanted_loss = plain.loss(images, noise, norm_pix);
    EXPECT_TENSOR_CLOSE(loss, wanted_loss.to(loss.scalar_type()), 1e-5, tolerance());
    const auto wanted = torch::autograd::grad({wanted_loss}, parameters);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TENSOR_CLOSE(got[i], wanted[i], 1e-4, 10 * tolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, MaskedAutoencoderDevice, testing::cpu_cases(), testing::case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, MaskedAutoencoderDevice, testing::cuda_cases(), testing::case_name);

TEST(MaskedPixelLoss, WorkedExample) {
  // Patches of 1 x 2 pixels do not exist; four patches of one pixel with two channels have the same two values each.
  const auto images = at::tensor({1.f, 0.f, 5.f, 2.f, 3.f, 2.f, 5.f, 6.f}).view({1, 2, 2, 2});
  const auto pred = at::tensor({1.f, 1.f, 9.f, 9.f, 4.f, 7.f, 0.f, 0.f}).view({1, 4, 2});
  const MaskedPixelLoss loss{{.patch = 1}};
  const auto of_one = [&](int64_t i) {
    return loss(pred, images, at::one_hot(at::tensor({i}), 4).to(at::kFloat)).item<double>();
  };
  EXPECT_NEAR(of_one(0), 2.0, 1e-6);
  EXPECT_NEAR(of_one(1), 65.0, 1e-5);
  EXPECT_NEAR(of_one(2), 2.5, 1e-6);
  EXPECT_NEAR(of_one(3), 20.0, 1e-5);
  EXPECT_NEAR(loss(pred, images, at::tensor({1.f, 0.f, 1.f, 0.f}).view({1, 4})).item<double>(), 2.25, 1e-6);
}

TEST(MaskedPixelLoss, NormalisedTargetsOfOneToFour) {
  const auto image = at::tensor({1.f, 2.f, 3.f, 4.f}).view({1, 1, 2, 2});
  const auto wanted = at::tensor({-1.161895f, -0.387298f, 0.387298f, 1.161895f}).view({1, 1, 4});
  const MaskedPixelLoss loss{{.patch = 2, .norm_pix = true}};
  EXPECT_NEAR(loss(wanted, image, at::ones({1, 1})).item<double>(), 0.0, 1e-9);
  EXPECT_NEAR(loss(wanted + 0.5, image, at::ones({1, 1})).item<double>(), 0.25, 1e-5);
  // A constant patch becomes zeros, not NaN.
  EXPECT_EQ(loss(at::zeros({1, 1, 4}), at::full({1, 1, 2, 2}, 3.f), at::ones({1, 1})).item<double>(), 0.0);
}

TEST(MaskedPixelLoss, NothingRemovedIsAnError) {
  EXPECT_ERROR((MaskedPixelLoss{{.patch = 2}}(at::zeros({1, 1, 4}), at::zeros({1, 1, 2, 2}), at::zeros({1, 1}))),
               "MaskedPixelLoss: mask must remove a patch (ratio 0 leaves no loss)");
}

TEST(MaskedAutoencoder, PredictionsOfKeptPatchesGetExactlyZeroGradient) {
  for (const bool norm_pix : {false, true}) {
    MaskedAutoencoderViT model(small(norm_pix));
    const auto out = model->forward(pictures(4), 3);
    const auto grad = torch::autograd::grad({out.loss}, {out.pred})[0];  // [B, L, P]
    const auto size = grad.abs().sum(-1);
    EXPECT_TRUE(size.masked_select(out.mask.eq(0)).eq(0).all().item<bool>());
    EXPECT_TRUE(size.masked_select(out.mask.eq(1)).gt(0).all().item<bool>());
  }
}

TEST(MaskedAutoencoder, PredictingTheRemovedPatchesAloneChangesNeitherLossNorGradients) {
  for (const bool norm_pix : {false, true}) {
    MaskedAutoencoderViT model(small(norm_pix));
    const auto images = pictures(4);
    const auto parameters = model->parameters();
    std::vector<at::Tensor> trained;
    for (const auto& p : parameters) {
      if (p.requires_grad()) trained.push_back(p);
    }
    const auto all = model->forward(images, 3);
    const auto some = model->forward(images, 3, {.removed_only = true});
    EXPECT_FALSE(all.ids_removed.defined());
    EXPECT_TENSOR_NEAR(some.loss, all.loss, 1e-6);
    const auto rows = some.ids_removed.unsqueeze(2).expand({-1, -1, all.pred.size(2)});
    EXPECT_TENSOR_NEAR(some.pred, all.pred.gather(1, rows), 1e-5);
    const auto wanted = torch::autograd::grad({all.loss}, trained), found = torch::autograd::grad({some.loss}, trained);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TENSOR_NEAR(found[i], wanted[i], 1e-5);
  }
}

TEST(MaskedAutoencoder, TheEncoderDoesNotSeeRemovedPixels) {
  MaskedAutoencoderViT model(small());
  const auto images = pictures(4);
  const auto before = model->forward(images, 3);
  const auto hidden = unpatchify(before.mask.unsqueeze(-1).expand({4, 6, 48}), 4, 8, 12);
  const auto changed = images + hidden * at::randn({4, 3, 8, 12}, make_generator(9));
  EXPECT_TENSOR_EQ(model->forward(changed, 3).latent, before.latent);
  // And it does see the others.
  EXPECT_FALSE(at::equal(model->forward(images + (1 - hidden), 3).latent, before.latent));
}

TEST(MaskedAutoencoder, AnImageThatNeedsAGradientGetsItThroughTheKeptPatches) {
  MaskedAutoencoderViT model(small());
  const auto images = pictures(3);
  const auto out = model->forward(images, 3);
  const auto leaf = images.clone().requires_grad_();
  const auto latent = model->encoder->encode(model->encoder->embed_kept(leaf, out.ids_keep));
  EXPECT_TENSOR_NEAR(latent, out.latent, 1e-6);
  latent.square().sum().backward();
  const auto touched = patchify(leaf.grad(), 4).abs().sum(-1).gt(0);
  EXPECT_TENSOR_EQ(touched, out.mask.eq(0));
  EXPECT_ERROR(model->forward(leaf, 3), "images must not require a gradient");  // they are the targets, too
}

TEST(MaskedAutoencoder, TheOrderOfKeptTokensDoesNotMatter) {
  MaskedAutoencoderViT model(small());
  const auto images = pictures(4);
  auto mask = draw_mask({.ratio = 0.5}, 4, 2, 3, make_generator(5));
  const auto out = model->forward(images, mask);
  const auto K = mask.ids_keep.size(1);
  mask.ids_keep = mask.ids_keep.flip(1);
  mask.ids_restore = at::where(mask.ids_restore.lt(K), K - 1 - mask.ids_restore, mask.ids_restore);
  EXPECT_TENSOR_NEAR(model->forward(images, mask).pred, out.pred, 1e-5);
}

TEST(MaskedAutoencoder, ForeignRestoreIndicesChangeThePrediction) {
  MaskedAutoencoderViT model(small());
  const auto images = pictures(4);
  auto mask = draw_mask({.ratio = 0.5}, 4, 2, 3, make_generator(5));
  const auto out = model->forward(images, mask);
  mask.ids_restore = mask.ids_restore.roll(1, 0);
  EXPECT_GT((model->forward(images, mask).pred - out.pred).abs().max().item<double>(), 1e-3);
}

TEST(MaskedAutoencoder, KeepingEverythingIsTheDenseViT) {
  MaskedAutoencoderViT model(small());
  const auto images = pictures(3);
  const auto dense = model->encode(images);  // [B, 1 + L, D]
  const auto noise = at::rand({3, 6}, make_generator(4));
  const auto mask = mask_from_ranking(noise, 6);
  const auto latent = model->encoder->encode(model->encoder->embed_kept(images, mask.ids_keep));
  const auto ids = mask.ids_restore.unsqueeze(-1).expand({3, 6, 16});
  EXPECT_TENSOR_NEAR(latent.slice(1, 1).gather(1, ids), dense.slice(1, 1), 1e-5);
  EXPECT_TENSOR_NEAR(latent.select(1, 0), dense.select(1, 0), 1e-5);
  const auto sorted = mask_from_ranking(at::arange(6, at::kFloat).expand({3, 6}), 6);
  EXPECT_TENSOR_NEAR(model->encoder->encode(model->encoder->embed_kept(images, sorted.ids_keep)), dense, 1e-6);
}

TEST(MaskedAutoencoder, ASeedRepeatsAndAnotherSeedDiffers) {
  MaskedAutoencoderViT model(small()), twin(small());
  const auto images = pictures(4);
  EXPECT_TENSOR_EQ(model->forward(images, 3).loss, twin->forward(images, 3).loss);
  EXPECT_FALSE(at::equal(model->forward(images, 3).mask, model->forward(images, 4).mask));
  auto other = small();
  other.encoder.seed = 8;
  EXPECT_FALSE(at::equal(MaskedAutoencoderViT(other)->decoder->mask_token, model->decoder->mask_token));
}

TEST(MaskedAutoencoder, StartWeightsFollowThePaper) {
  MaskedAutoencoderViT model(MaskedAutoencoderViTOptions{
      .encoder = {.image_height = 32, .image_width = 32, .patch = 8, .dim = 96, .depth = 1, .heads = 4},
      .decoder = {.dim = 64, .depth = 1, .heads = 4}});
  const auto w = model->named_parameters();
  const auto uniform = [&](const std::string& name, double bound) {  // the largest of 9216 and more draws is near
    const auto largest = w[name].abs().max().item<double>();
    EXPECT_LE(largest, bound) << name;
    EXPECT_GT(largest, 0.99 * bound) << name;
    EXPECT_NEAR(w[name].std().item<double>(), bound / std::sqrt(3.0), 0.02 * bound) << name;
  };
  uniform("blocks.0.attn.qkv.weight", std::sqrt(6.0 / (4 * 96)));  // one [3D, D] matrix
  uniform("blocks.0.attn.proj.weight", std::sqrt(6.0 / (2 * 96)));
  uniform("blocks.0.mlp.fc1.weight", std::sqrt(6.0 / (5 * 96)));
  uniform("patch_embed.proj.weight", std::sqrt(6.0 / (96 + 192)));  // the [D, C*p*p] view
  uniform("decoder_embed.weight", std::sqrt(6.0 / (96 + 64)));
  uniform("decoder_pred.weight", std::sqrt(6.0 / (64 + 192)));
  for (const auto& item : w) {
    if (!item.key().ends_with("bias")) continue;
    if (item.key() == "patch_embed.proj.bias") {
      EXPECT_LE(item.value().abs().max().item<double>(), 1 / std::sqrt(192.0));
      EXPECT_GT(item.value().abs().max().item<double>(), 0.8 / std::sqrt(192.0));
    } else {
      EXPECT_TENSOR_EQ(item.value(), at::zeros_like(item.value()));
    }
  }
  EXPECT_NEAR(w["cls_token"].std().item<double>(), 0.02, 0.006);
  EXPECT_NEAR(w["mask_token"].std().item<double>(), 0.02, 0.006);
  EXPECT_FALSE(w["pos_embed"].requires_grad());
  EXPECT_FALSE(w["decoder_pos_embed"].requires_grad());
  EXPECT_TENSOR_EQ(w["pos_embed"].select(1, 0), at::zeros({1, 96}));
  EXPECT_TENSOR_EQ(w["decoder_pos_embed"].select(1, 0), at::zeros({1, 64}));
}

TEST(MaskedAutoencoder, HiddenStatesAreTheInputsAndOutputsOfTheBlocks) {
  MaskedAutoencoderViT model(small());
  const auto out = model->forward(pictures(2), 1, {.hidden_states = true});
  ASSERT_EQ(out.hidden_states.size(), 3u);
  ASSERT_EQ(out.decoder_hidden_states.size(), 2u);
  EXPECT_TENSOR_EQ(model->encoder->norm->forward(out.hidden_states[2]), out.latent);
  EXPECT_TENSOR_EQ(model->encoder->blocks[1]->forward(out.hidden_states[1]), out.hidden_states[2]);
  const auto& last = out.decoder_hidden_states[1];
  EXPECT_TENSOR_EQ(model->decoder->pred->forward(model->decoder->norm->forward(last).slice(1, 1)), out.pred);
  EXPECT_TRUE(model->forward(pictures(2), 1).hidden_states.empty());
}

TEST(MaskedAutoencoder, AnotherImageSizeWithInterpolatedPositions) {
  MaskedAutoencoderViT model(small());
  const auto images = at::randn({2, 3, 16, 16}, make_generator(1));
  EXPECT_ERROR(model->forward(images, 1), "images must be 8 x 12 (position table of 2 x 3 patches), got 16 x 16");
  const auto out = model->forward(images, 1, {.interpolate_positions = true});
  EXPECT_EQ(out.pred.sizes(), (std::vector<int64_t>{2, 16, 48}));
  const auto same = pictures(2);  // its own size needs no resize
  EXPECT_TENSOR_EQ(model->forward(same, 1, {.interpolate_positions = true}).pred, model->forward(same, 1).pred);
}

TEST(MaskedAutoencoder, ACloneComputesTheSameAndIsItsOwn) {
  MaskedAutoencoderViT model(small());
  const auto images = pictures(2);
  const auto copy = std::dynamic_pointer_cast<MaskedAutoencoderViTImpl>(model->clone());
  const auto before = copy->forward(images, 1).loss.detach().clone();
  EXPECT_TENSOR_EQ(before, model->forward(images, 1).loss.detach());
  {
    const at::NoGradGuard no_grad;
    for (auto& parameter : model->parameters()) parameter.zero_();
  }
  EXPECT_TENSOR_EQ(copy->forward(images, 1).loss.detach(), before);
}

// A user's own network: a linear map of each patch and one mixing layer, without class token.
struct MixEncoder : Encoder {
  MixEncoder() {
    embedding = register_module("embedding", torch::nn::Linear(48, 10));
    positions = register_parameter("positions", at::randn({1, 6, 10}, make_generator(0)));
    head = register_module("head", torch::nn::Linear(20, 16));
  }
  EncoderGeometry geometry() const override {
    return {.channels = 3, .image_height = 8, .image_width = 12, .patch = 4, .dim = 16, .prefix_tokens = 0};
  }
  at::Tensor embed(const at::Tensor& images) override { return embedding(patchify(images, 4)) + positions; }
  at::Tensor encode(const at::Tensor& tokens) override {
    return head(at::cat({tokens, tokens.mean(1, true).expand_as(tokens)}, -1)).tanh();
  }
  torch::nn::Linear embedding{nullptr}, head{nullptr};
  at::Tensor positions;
};

TEST(MaskedAutoencoder, WorksAroundAnyEncoderAndTrainsIt) {
  MaskedAutoencoder model(
      std::make_shared<MixEncoder>(),
      MaskedAutoencoderOptions{.decoder = {.dim = 8, .depth = 1, .heads = 2}, .masking = {.ratio = 0.5}});
  const auto images = pictures(4);
  const auto out = model->forward(images, 3);
  EXPECT_EQ(out.latent.sizes(), (std::vector<int64_t>{4, 3, 16}));
  EXPECT_EQ(out.pred.sizes(), (std::vector<int64_t>{4, 6, 48}));
  out.loss.backward();
  for (const auto& item : model->named_parameters()) {
    EXPECT_EQ(item.value().grad().defined(), item.key() != "decoder.pos_embed") << item.key();
  }
  EXPECT_EQ(model->encode(images).sizes(), (std::vector<int64_t>{4, 6, 16}));
}

struct WrongEncoder : MixEncoder {
  at::Tensor encode(const at::Tensor& tokens) override { return MixEncoder::encode(tokens).slice(1, 1); }
};

TEST(MaskedAutoencoder, WrongArgumentsAreNamed) {
  auto o = small();
  o.encoder.image_height = 9;
  EXPECT_ERROR(MaskedAutoencoderViT{o}, "image_height must be a multiple of patch = 4, got 9");
  o = small();
  o.masking.ratio = 1.0;
  EXPECT_ERROR(MaskedAutoencoderViT{o}, "ratio must be in [0, 1), got 1");
  o = small();
  o.encoder.dim = 18;
  o.encoder.heads = 3;
  EXPECT_ERROR(MaskedAutoencoderViT{o}, "dim must be a multiple of 4 for a sine-cosine table, got 18");
  o = small();
  o.encoder.heads = 3;
  EXPECT_ERROR(MaskedAutoencoderViT{o}, "heads must divide dim = 16, got 3");
  o = small();
  o.decoder.heads = 3;
  EXPECT_ERROR(MaskedAutoencoderViT{o}, "heads must divide dim = 8, got 3");
  o = small();
  o.decoder.dim = 6;
  o.decoder.heads = 2;
  EXPECT_ERROR(MaskedAutoencoderViT{o}, "dim must be a multiple of 4 for its sine-cosine table, got 6");

  MaskedAutoencoderViT model(small());
  EXPECT_ERROR(model->forward(at::zeros({2, 3, 8, 16}), 0),
               "VitEncoder: images must be 8 x 12 (position table of 2 x 3 patches), got 8 x 16");
  EXPECT_ERROR(model->forward(at::zeros({2, 1, 8, 12}), 0), "VitEncoder: images must have 3 channels");
  EXPECT_ERROR(model->forward(pictures(2), at::zeros({2, 5})), "MaskedAutoencoder: noise must");
  EXPECT_ERROR(model->decoder->forward(at::zeros({2, 4, 16}), at::zeros({2, 5}, at::kLong)),
               "MaeDecoder: ids_restore must have shape [2, 6], got [2, 5]");
  MaskedAutoencoderViT all(small(false, 0.0));
  EXPECT_ERROR(all->forward(pictures(2), 0), "mask must remove a patch (ratio 0 leaves no loss)");
  MaskedAutoencoderViT none(small(false, 0.9));  // int(6 * 0.1) = 0
  EXPECT_ERROR(none->forward(pictures(2), at::zeros({2, 6})), "must leave a patch of 6, got 0.9");

  EXPECT_ERROR(MaskedAutoencoder(std::shared_ptr<Encoder>(), MaskedAutoencoderOptions{}), "encoder must not be null");
  MaskedAutoencoder wrong(std::make_shared<WrongEncoder>(),
                          MaskedAutoencoderOptions{.decoder = {.dim = 8, .depth = 1, .heads = 2}});
  EXPECT_ERROR(wrong->forward(pictures(2), 0), "the encoder's encode must give [2, 1, 16], got [2, 0, 16]");
}

}  // namespace
}  // namespace winnow::mae
