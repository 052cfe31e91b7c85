// Facts about the family: sizes, work, losses, fine-tuning, threads.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <thread>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/models/deit.h"
#include "winnow/models/dinov2.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

struct Size {
  int64_t dim, depth, heads, patch;
};
constexpr Size kBase{768, 12, 12, 16}, kLarge{1024, 24, 16, 16}, kHuge{1280, 32, 16, 14};

VitTrunkConfig trunk(const Size& size, int64_t depth) {
  return {.patch_size = size.patch,
          .hidden_size = size.dim,
          .num_hidden_layers = depth,
          .num_attention_heads = size.heads,
          .intermediate_size = 4 * size.dim};
}

// f(depth) of something that grows by the same amount with each block, from one and two blocks.
template <typename F>
int64_t at_depth(int64_t depth, F f) {
  const auto one = f(1), two = f(2);
  return one + (depth - 1) * (two - one);
}

TEST(ViTFacts, ParametersOfTheClassifierWith1000Classes) {
  EXPECT_EQ(count_parameters(*ViT(ViTConfig{.trunk = trunk(kBase, 12), .labels = default_labels(1000)})).total(),
            86567656);
}

TEST(ViTFacts, ParametersOfTheMaskedAutoencoders) {
  const auto count = [](const Size& size, bool frozen) {
    const auto encoder = at_depth(size.depth, [&](int64_t depth) {
      const ViTMae model(ViTMaeConfig{.trunk = trunk(size, depth), .decoder_num_hidden_layers = 1});
      const auto counts = count_parameters(*model);
      return frozen ? counts.frozen : counts.trainable;
    });
    // The decoder's other seven blocks.
    return encoder + (frozen ? 0 : 7 * 3152384);
  };
  EXPECT_EQ(count(kBase, false), 111655680);
  EXPECT_EQ(count(kBase, true), 111907840 - 111655680);
  EXPECT_EQ(count(kLarge, false), 303099904 + 26139392);
  EXPECT_EQ(count(kHuge, false), 630435840 + 26178124);
}

// Matrix products of one 224 image through the trunk.
TEST(ViTFacts, MultiplyAddsOfTheBaseTrunk) {
  const at::NoGradGuard no_grad;
  const auto count = at_depth(12, [](int64_t depth) {
    ViT model(ViTConfig{.trunk = trunk(kBase, depth), .head = ViTHead::none});
    model->eval();
    const auto images = at::zeros({1, 3, 224, 224});
    const OpCounter counter;
    model->forward(images);
    return counter.counts().multiply_adds;
  });
  // 12 blocks of 12 N D^2 + 2 N^2 D with N = 197, D = 768, and the patch embedding 196 * 768 * 768.
  EXPECT_EQ(count, int64_t{12} * (12 * 197 * 768 * 768 + 2 * 197 * 197 * 768) + 196 * 768 * 768);
  EXPECT_NEAR(static_cast<double>(count), 17.563e9, 0.0005e9);
}

ViTConfig tiny(ViTHead head = ViTHead::classifier, int64_t classes = 3) {
  return {.trunk = {.image_height = 8,
                    .image_width = 8,
                    .patch_size = 4,
                    .num_channels = 1,
                    .hidden_size = 8,
                    .num_hidden_layers = 2,
                    .num_attention_heads = 2,
                    .intermediate_size = 16},
          .head = head,
          .labels = default_labels(classes)};
}

at::Tensor random(std::vector<int64_t> shape, uint64_t seed) {
  return at::randn(shape, make_generator(seed));
}

TEST(ViTFacts, TheSameSeedGivesTheSameStartAndAnotherSeedAnother) {
  auto config = tiny();
  const auto images = random({2, 1, 8, 8}, 1);
  const auto first = ViT(config)->forward(images).logits;
  EXPECT_TENSOR_EQ(ViT(config)->forward(images).logits, first);
  config.trunk.seed = 1;
  EXPECT_FALSE(at::equal(ViT(config)->forward(images).logits, first));
}

TEST(ViTFacts, HiddenStatesAreTheEmbeddingsAndEachBlocksOutput) {
  ViT model(tiny());
  model->eval();
  const auto out = model->forward(random({2, 1, 8, 8}, 1), {.hidden_states = true});
  ASSERT_EQ(out.hidden_states.size(), 3u);
  for (const auto& state : out.hidden_states) EXPECT_EQ(state.sizes(), at::IntArrayRef({2, 5, 8}));
  EXPECT_TENSOR_EQ(model->encoder->norm->forward(out.hidden_states[2]), out.last_hidden_state);
  EXPECT_TRUE(model->forward(random({2, 1, 8, 8}, 1)).hidden_states.empty());
}

TEST(ViTFacts, WrongImagesAreTold) {
  ViT model(tiny());
  EXPECT_ERROR(model->forward(at::zeros({1, 8, 8})), "ViT: images must");
  EXPECT_ERROR(model->forward(at::zeros({1, 3, 8, 8})), "images must have 1 channels");
  EXPECT_ERROR(model->forward(at::zeros({1, 1, 8, 12})),
               "ViT: images must be 8 x 8 (or ask for interpolate_positions), got 8 x 12");
  EXPECT_ERROR(model->forward(at::zeros({1, 1, 8, 8}, at::kDouble)), "ViT: images must");
  EXPECT_ERROR(model->forward(at::zeros({1, 1, 3, 8}), {.interpolate_positions = true}),
               "ViT: images must hold at least one patch of 4 pixels, got 3 x 8");
}

TEST(ViTFacts, OnlyAClassifierClassifies) {
  ViT model(tiny(ViTHead::pooler));
  EXPECT_TRUE(model->labels().empty());
  EXPECT_ERROR_KIND(model->classify(at::zeros({1, 1, 8, 8})), ErrorKind::unsupported,
                    "ViTModel: this network has no classifier");
  EXPECT_EQ(ViT(tiny())->labels(), default_labels(3));
}

TEST(ClassificationLoss, WorkedNumbers) {
  const auto logits = at::tensor({0.0, std::log(3.0), 0.0, 0.0}).view({2, 2});
  // Cross-entropy: -log(3/4) and -log(1/2).
  const double wanted = (std::log(4.0 / 3.0) + std::log(2.0)) / 2;
  EXPECT_NEAR(classification_loss(logits, at::tensor({1, 0}, at::kLong)).item<double>(), wanted, 1e-12);
  // Binary cross-entropy: targets 0, 1 -> log 2 and -log(3/4); 1, 0 -> log 2 twice.
  const auto targets = at::tensor({0.0, 1.0, 1.0, 0.0}).view({2, 2});
  EXPECT_NEAR(classification_loss(logits, targets).item<double>(), (3 * std::log(2.0) + std::log(4.0 / 3.0)) / 4,
              1e-12);
  // One class: mean squared error.
  const auto one = at::tensor({1.0, 3.0}).view({2, 1});
  EXPECT_NEAR(classification_loss(one, at::tensor({0.0, 5.0})).item<double>(), 2.5, 1e-12);
  EXPECT_NEAR(classification_loss(logits, targets, "regression").item<double>(),
              (0 + std::pow(std::log(3.0) - 1, 2) + 1 + 0) / 4, 1e-12);
  EXPECT_ERROR(classification_loss(logits, at::tensor({1, 0, 1}, at::kLong)), "classification_loss: labels must");
  EXPECT_ERROR(classification_loss(logits, at::tensor({1, 0}, at::kLong), "ranking"), "problem_type ranking");
}

TEST(FineTune, CopiesTheTrunkAndTrainsPositions) {
  mae::MaskedAutoencoderViTOptions options;
  options.encoder = {.image_height = 8, .image_width = 12, .channels = 2, .patch = 4, .dim = 8, .depth = 2, .heads = 2};
  options.decoder = {.dim = 8, .depth = 1, .heads = 2};
  const mae::MaskedAutoencoderViT mae(options);
  for (const auto head : {ViTHead::mean_pool, ViTHead::classifier}) {
    const auto model =
        fine_tune(mae->encoder, {.labels = {"cat", "dog"}, .head = head, .drop_path_rate = 0.2, .seed = 3});
    auto copied = model->encoder->named_parameters();
    for (const auto& source : mae->encoder->named_parameters()) {
      const auto* target = copied.find(source.key());
      if (head == ViTHead::mean_pool && source.key().starts_with("norm.")) {
        EXPECT_EQ(target, nullptr);
        continue;
      }
      ASSERT_NE(target, nullptr) << source.key();
      EXPECT_TENSOR_EQ(*target, source.value());
      EXPECT_TRUE(target->requires_grad());
      EXPECT_NE(target->data_ptr(), source.value().data_ptr());
    }
    EXPECT_EQ(model->labels(), (std::vector<std::string>{"cat", "dog"}));
    EXPECT_LT(model->head->weight.abs().max().item<double>(), 2e-4);
    EXPECT_GT(model->head->weight.abs().max().item<double>(), 0.0);
    EXPECT_TENSOR_EQ(model->head->bias, at::zeros({2}));
    EXPECT_EQ(model->config.trunk.image_width, 12);
    EXPECT_EQ(model->config.trunk.layer_norm_eps, 1e-6);
    EXPECT_EQ(model->config.trunk.intermediate_size, 32);
    EXPECT_EQ(model->config.trunk.drop_path_rate, 0.2);
  }
  EXPECT_ERROR(fine_tune(mae->encoder, {.labels = {"a"}, .head = ViTHead::pooler}), "fine_tune: head must be");
  EXPECT_ERROR(fine_tune(mae->encoder, {}), "labels must not be empty");
}

TEST(ViTMaeFacts, ANetworkThatIsTrainedIsTheOneThatIsNamed) {
  mae::MaskedAutoencoderViTOptions options;
  options.encoder = {.image_height = 8, .image_width = 8, .patch = 4, .dim = 8, .depth = 1, .heads = 2};
  options.decoder = {.dim = 12, .depth = 1, .heads = 3};
  options.masking.ratio = 0.5;
  options.norm_pix = true;
  mae::MaskedAutoencoderViT network(options);
  ViTMae model(network);
  EXPECT_EQ(model->config.decoder_intermediate_size, 48);
  EXPECT_EQ(model->config.mask_ratio, 0.5);
  EXPECT_TRUE(model->config.norm_pix_loss);
  const auto images = random({2, 3, 8, 8}, 2);
  const auto out = model->forward(images, 5);
  EXPECT_TENSOR_EQ(out.loss, network->forward(images, 5).loss);
  EXPECT_TENSOR_EQ(out.mask, model->forward(images, 5).mask);
  EXPECT_TENSOR_EQ(out.mask.sum(1), at::full({2}, 2.0f));
  const auto published = model->weight_map().value("vit.encoder.layer.0.attention.attention.key.weight");
  EXPECT_TENSOR_EQ(published, network->encoder->blocks[0]->attn->qkv->weight.slice(0, 8, 16));
  options.decoder.activation = Activation::relu;
  EXPECT_ERROR(ViTMae(mae::MaskedAutoencoderViT(options)), "ViTMae: the network must have");
}

// One module, four threads, each with its own images: the same bits as one after the other.
template <typename Forward>
void expect_same_from_threads(Forward forward) {
  constexpr int kThreads = 4, kRounds = 8;
  std::vector<at::Tensor> wanted, got(kThreads);
  for (int t = 0; t < kThreads; ++t) wanted.push_back(forward(t));
  std::vector<std::thread> threads;
  std::vector<std::string> errors(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const at::NoGradGuard no_grad;
      try {
        for (int round = 0; round < kRounds; ++round) {
          const auto out = forward(t);
          if (round > 0 && !at::equal(out, got[static_cast<size_t>(t)]))
            errors[static_cast<size_t>(t)] = "rounds differ";
          got[static_cast<size_t>(t)] = out;
        }
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(t)] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    const auto i = static_cast<size_t>(t);
    EXPECT_EQ(errors[i], "");
    EXPECT_TENSOR_EQ(got[i], wanted[i]);
  }
}

TEST(ConcurrentInference, FourThreadsGiveTheBitsOfOne) {
  const at::NoGradGuard no_grad;
  const auto threads_before = at::get_num_threads();
  at::set_num_threads(1);
  const VitTrunkConfig trunk{.image_height = 32,
                             .image_width = 32,
                             .patch_size = 8,
                             .hidden_size = 48,
                             .num_hidden_layers = 3,
                             .num_attention_heads = 3,
                             .intermediate_size = 96};
  const auto images = [](int t) { return random({2, 3, 32, 32}, 10 + static_cast<uint64_t>(t)); };
  ViT vit(ViTConfig{.trunk = trunk});
  DeiT deit(DeiTConfig{.trunk = trunk});
  Dinov2 dinov2(Dinov2Config{.trunk = trunk, .head = Dinov2Head::classifier});
  ViTMae mae(ViTMaeConfig{.trunk = trunk, .decoder_hidden_size = 32, .decoder_num_hidden_layers = 1});
  for (auto* model : std::vector<torch::nn::Module*>{vit.get(), deit.get(), dinov2.get(), mae.get()}) model->eval();
  expect_same_from_threads([&](int t) { return vit->classify(images(t)); });
  expect_same_from_threads([&](int t) { return deit->classify(images(t)); });
  expect_same_from_threads([&](int t) { return dinov2->classify(images(t)); });
  expect_same_from_threads([&](int t) { return mae->forward(images(t), static_cast<uint64_t>(t)).pred; });
  at::set_num_threads(threads_before);
}

}  // namespace
}  // namespace winnow::models
