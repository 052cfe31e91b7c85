// A masked autoencoder fills removed patches far better than the mean image, and its encoder's features beat those of
// the same encoder at random initialisation; with another sample's ids_restore both get worse (He et al. 2021).

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "claims.h"
#include "winnow/core/log.h"
#include "winnow/core/program.h"
#include "winnow/core/random.h"
#include "winnow/data/datasets.h"
#include "winnow/data/transforms.h"
#include "winnow/mae/evaluation.h"
#include "winnow/mae/masked_autoencoder.h"
#include "winnow/mae/masking.h"
#include "winnow/mae/probe.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/optimizer.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/schedule.h"

namespace {

using namespace winnow;  // NOLINT: a program

struct Pictures {
  at::Tensor train, test;  // [N, C, H, W], normalised
  at::Tensor train_labels, test_labels;
  int64_t classes;
};

Pictures fashion() {
  const auto train = data::fashion_mnist("data/fashion-mnist", data::Part::train);
  const auto test = data::fashion_mnist("data/fashion-mnist", data::Part::test);
  const auto norm = data::fashion_mnist_normalization();
  return {.train = data::to_float(train->images(), norm),
          .test = data::to_float(test->images(), norm),
          .train_labels = train->labels(),
          .test_labels = test->labels(),
          .classes = 10};
}

// Colour rectangles; every fifth picture of the shuffled set is a test picture.
Pictures cliparts() {
  const auto all = data::openclipart("data/openclipart");
  const auto images = data::to_float(all->images(), data::imagenet_normalization());
  const auto order = at::tensor(Random(7).permutation(all->size()), at::kLong);
  const auto held_out = all->size() / 5;
  const auto part = [&](const at::Tensor& x, int64_t from, int64_t to) {
    return x.index_select(0, order.slice(0, from, to));
  };
  return {.train = part(images, held_out, all->size()),
          .test = part(images, 0, held_out),
          .train_labels = part(all->labels(), held_out, all->size()),
          .test_labels = part(all->labels(), 0, held_out),
          .classes = all->num_classes()};
}

struct Recipe {
  mae::MaskedAutoencoderViTOptions model;
  int64_t steps;
  double lr;
  int64_t batch = 64;
};

// Pre-training as in the paper. `foreign`: each sample is decoded with its neighbour's ids_restore.
mae::MaskedAutoencoderViT fit(const Recipe& recipe, const at::Tensor& images, uint64_t seed, bool foreign) {
  auto options = recipe.model;
  options.encoder.seed = seed;
  mae::MaskedAutoencoderViT model(options);
  train::FusedAdamW adamw(train::weight_decay_groups(*model, 0.05), {.beta2 = 0.95});
  const auto steps = static_cast<double>(recipe.steps);
  const train::WarmupCosine lr{.lr = recipe.lr, .min_lr = 0, .warmup = 0.1 * steps, .total = steps};
  const auto generator = make_generator(derive_seed(seed, 1));
  for (int64_t step = 0; step < recipe.steps; ++step) {
    throw_if_stopped();
    const auto rows = at::randint(images.size(0), {recipe.batch}, generator, at::kLong);
    auto mask = mae::draw_mask(options.masking, recipe.batch, model->encoder->grid_height(),
                               model->encoder->grid_width(), generator);
    if (foreign) mask.ids_restore = mask.ids_restore.roll(1, 0);
    const auto loss = model->forward(images.index_select(0, rows), mask, {.removed_only = true}).loss;
    adamw.zero_grad();
    loss.backward();
    adamw.step(lr(static_cast<double>(step)));
    if ((step + 1) % 500 == 0) log_info("  step {}: loss {:.4f}", step + 1, loss.item<double>());
  }
  model->eval();
  return model;
}

struct Quality {
  double few, many, knn;  // percent: ridge probe with few and many labels per class, nearest neighbours
};
Quality quality(mae::MaskedAutoencoderViT& model, const Pictures& pictures, int64_t few, int64_t many, uint64_t seed) {
  const auto rows = std::min<int64_t>(pictures.train.size(0), 20000);
  const mae::LabelledFeatures train{.features = mae::image_features(model->encoder, pictures.train.slice(0, 0, rows)),
                                    .labels = pictures.train_labels.slice(0, 0, rows)};
  const mae::LabelledFeatures test{.features = mae::image_features(model->encoder, pictures.test),
                                   .labels = pictures.test_labels};
  const auto probe = [&](int64_t labels) {  // mean of five draws of the labelled pictures
    double sum = 0;
    for (uint64_t draw = 0; draw < 5; ++draw) {
      sum += mae::ridge_probe(mae::few_per_class(train, pictures.classes, labels, derive_seed(seed, draw)), test,
                              {.l2 = 10, .classes = pictures.classes}, train.features);
    }
    return 100 * sum / 5;
  };
  return {.few = probe(few),
          .many = probe(many),
          .knn = 100 * mae::knn_accuracy(train, test, {.k = 20, .classes = pictures.classes})};
}

// Least or largest differences; an absent one is reported without judgement.
struct Marks {
  double mse;
  std::optional<double> few, many, knn, foreign_mse, foreign_few;
};

void judge(const std::string& set, const Pictures& pictures, const Recipe& recipe, int64_t few, int64_t many,
           const Marks& marks, uint64_t seed, claims::Table& table) {
  auto start = recipe.model;
  start.encoder.seed = seed;
  mae::MaskedAutoencoderViT random(start);
  random->eval();
  const auto before = quality(random, pictures, few, many, seed);
  auto model = fit(recipe, pictures.train, seed, /*foreign=*/false);
  const auto mean_image = pictures.train.mean(0, /*keepdim=*/true);
  const auto error = mae::held_out_error(model, pictures.test, mean_image, seed);
  const auto after = quality(model, pictures, few, many, seed);
  table.report(set + ": masked MSE of the mean image", error.mean_image);
  table.at_most(set + ": masked MSE / that of the mean image", error.model / error.mean_image, marks.mse);
  const auto gain = [&](const std::string& what, double trained, double untrained, std::optional<double> mark) {
    table.report(set + ": " + what + ", %", trained);
    const auto name = set + ": " + what + " - untrained, points";
    mark ? table.at_least(name, trained - untrained, *mark) : table.report(name, trained - untrained);
  };
  gain(std::to_string(few) + " labels a class", after.few, before.few, marks.few);
  gain(std::to_string(many) + " labels a class", after.many, before.many, marks.many);
  gain("nearest neighbours", after.knn, before.knn, marks.knn);
  if (table.quick()) return;
  auto ablation = fit(recipe, pictures.train, seed, /*foreign=*/true);
  const auto worse = mae::held_out_error(ablation, pictures.test, mean_image, seed).model / error.model;
  const auto lost = quality(ablation, pictures, few, many, seed).few - after.few;
  const auto mse_name = set + ": MSE, foreign ids_restore / own";
  const auto few_name = set + ": " + std::to_string(few) + " labels a class, foreign - own, points";
  marks.foreign_mse ? table.at_least(mse_name, worse, *marks.foreign_mse, 1.0) : table.report(mse_name, worse);
  marks.foreign_few ? table.at_most(few_name, lost, *marks.foreign_few, 0.0) : table.report(few_name, lost);
}

}  // namespace

int main(int argc, char** argv) {
  return claims::run(
      "masked_autoencoder", argc, argv,
      [](uint64_t seed, claims::Table& table) {
        const bool quick = table.quick();
        judge("Fashion-MNIST", fashion(),
              {.model = {.encoder = {.image_height = 28,
                                     .image_width = 28,
                                     .channels = 1,
                                     .patch = 7,
                                     .dim = 64,
                                     .depth = 3,
                                     .heads = 4},
                         .decoder = {.dim = 48, .depth = 1, .heads = 4}},
               .steps = quick ? 500 : 2000,
               .lr = 2e-3},
              10, 100,
              quick ? Marks{.mse = 0.65, .few = 5, .many = {}, .knn = {}, .foreign_mse = {}, .foreign_few = {}}
                    : Marks{.mse = 0.45, .few = 14, .many = 6, .knn = 8, .foreign_mse = 1.025, .foreign_few = -2},
              seed, table);
        judge("openclipart", cliparts(),
              {.model = {.encoder = {.image_height = 64,
                                     .image_width = 96,
                                     .channels = 3,
                                     .patch = 8,
                                     .dim = 64,
                                     .depth = 3,
                                     .heads = 4},
                         .decoder = {.dim = 48, .depth = 1, .heads = 4}},
               .steps = quick ? 250 : 1000,
               .lr = 2e-3},
              10, 100,
              quick ? Marks{.mse = 0.9, .few = {}, .many = {}, .knn = {}, .foreign_mse = {}, .foreign_few = {}}
                    : Marks{.mse = 0.5, .few = 2, .many = {}, .knn = {}, .foreign_mse = 1.05, .foreign_few = {}},
              seed, table);
      },
      {.claim = "A masked autoencoder beats the mean image and its encoder beats random features (arXiv 2111.06377).",
       .minutes = "20 minutes, 1 for --quick",
       // After 500 steps seeds 1, 2 and 3 gained 6.3, 11.1 and 8.0 points with few labels, where 7 are expected: the
       // quick mark is set below that, so that one seed can carry it.
       .quick_seed = 1});
}
