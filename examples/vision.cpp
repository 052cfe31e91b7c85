#include "vision.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/data/datasets.h"

namespace winnow::examples {

EnumNames<DataName> enum_names(DataName) {
  return {{"fashion_mnist", DataName::fashion_mnist},
          {"cifar10", DataName::cifar10},
          {"cifar100", DataName::cifar100},
          {"openclipart", DataName::openclipart},
          {"image_folder", DataName::image_folder}};
}

Fields<DataOptions> DataOptions::fields() {
  return Fields<DataOptions>("Data")
      .add("name", &DataOptions::name, "the data set")
      .add("folder", &DataOptions::folder, "where its files are")
      .add("crop", &DataOptions::crop, "of training pictures")
      .add("flip", &DataOptions::flip, "probability of a mirrored training picture", in_range(0, 1))
      .add("crop_scale_min", &DataOptions::crop_scale_min, "least share of the picture in a random crop",
           in_range(0, 1, Ends::left_open))
      .add("erasing", &DataOptions::erasing, "probability of random erasing", in_range(0, 1))
      .add("test_share", &DataOptions::test_share, "held out where the set has no test part",
           in_range(0, 1, Ends::open))
      .add("batch_size", &DataOptions::batch_size, "pictures of a step and process", at_least(1))
      .add("workers", &DataOptions::workers, "threads that prepare pictures, 0 = none of their own", at_least(0))
      .add("seed", &DataOptions::seed, "of order, augmentation and held-out part")
      .add("device", &DataOptions::device, "where the network runs", one_of({"cpu", "cuda"}));
}

Fields<EvaluationOptions> EvaluationOptions::fields() {
  return Fields<EvaluationOptions>("Evaluation")
      .add("images", &EvaluationOptions::images, "held-out pictures of the error while training", at_least(1))
      .add("probe_images", &EvaluationOptions::probe_images, "pictures of each part in probes", at_least(2))
      .add("probe_epochs", &EvaluationOptions::probe_epochs, "of the linear probe", at_least(1))
      .add("knn", &EvaluationOptions::knn, "neighbours that vote", at_least(1))
      .add("pool", &EvaluationOptions::pool, "which output is the feature of a picture")
      .add("sheet", &EvaluationOptions::sheet, "samples on a sheet of pictures", at_least(1))
      .add("sheet_scale", &EvaluationOptions::sheet_scale, "side of a pixel there", at_least(1));
}

Fields<OptimizerOptions> OptimizerOptions::fields() {
  return Fields<OptimizerOptions>("Optimizer")
      .add("weight_decay", &OptimizerOptions::weight_decay, "of tensors with more than one dimension", at_least(0))
      .add("beta2", &OptimizerOptions::beta2, "memory of the squared gradient", in_range(0, 1, Ends::right_open))
      .add("layer_decay", &OptimizerOptions::layer_decay, "factor of the rate from a block to the one below",
           in_range(0, 1, Ends::left_open));
}

namespace {

struct Parts {
  data::DatasetPtr train, test;
  int64_t channels;
  data::Normalization normalization;
};

Parts open_parts(const DataOptions& o, int64_t channels, int64_t height, int64_t width) {
  const auto share = [&](data::DatasetPtr all) {
    auto parts = data::split(all, 1.0 - o.test_share, o.seed, /*stratified=*/true);
    return Parts{parts.first, parts.second, channels, data::imagenet_normalization()};
  };
  switch (o.name) {
    case DataName::fashion_mnist:
      return {data::fashion_mnist(o.folder, data::Part::train), data::fashion_mnist(o.folder, data::Part::test), 1,
              data::fashion_mnist_normalization()};
    case DataName::cifar10:
      return {data::cifar10(o.folder, data::Part::train), data::cifar10(o.folder, data::Part::test), 3,
              data::imagenet_normalization()};
    case DataName::cifar100:
      return {data::cifar100(o.folder, data::Part::train), data::cifar100(o.folder, data::Part::test), 3,
              data::imagenet_normalization()};
    case DataName::openclipart: {
      auto parts = share(data::openclipart(o.folder, {.width = width, .height = height}));
      parts.channels = 3;
      return parts;
    }
    case DataName::image_folder: {
      auto parts = share(std::make_shared<data::ImageFolder>(o.folder, data::ImageFolderOptions{.channels = channels}));
      if (channels == 1) parts.normalization = {.mean = {0.5}, .std = {0.25}};
      return parts;
    }
  }
  fail(ErrorKind::argument, "Data: name must be a known data set");
}

}  // namespace

VisionData open_data(const DataOptions& options, int64_t channels, int64_t height, int64_t width) {
  auto parts = open_parts(options, channels, height, width);
  WINNOW_CHECK_KIND(parts.channels == channels, ErrorKind::config,
                    "data.name {} has pictures of {} channel{}, the model wants {}", enum_name(options.name),
                    parts.channels, parts.channels == 1 ? "" : "s", channels);
  data::ImageTransformOptions evaluation{
      .height = height, .width = width, .mean = parts.normalization.mean, .std = parts.normalization.std};
  auto training = evaluation;
  training.crop = options.crop;
  training.range.scale_min = options.crop_scale_min;
  training.flip_probability = options.flip;
  training.erasing.probability = options.erasing;
  return {.train = std::move(parts.train),
          .test = std::move(parts.test),
          .normalization = std::move(parts.normalization),
          .training = data::ImageTransform(training),
          .evaluation = data::ImageTransform(evaluation)};
}

LabelledImages load_images(const data::Dataset& dataset, const data::ImageTransform& transform, int64_t count) {
  const auto N = std::min(count, dataset.size());
  WINNOW_CHECK(N >= 1, "load_images: the data set must not be empty, got size {}", dataset.size());
  LabelledImages out;
  out.labels = at::empty({N}, at::kLong);
  for (int64_t i = 0; i < N; ++i) {
    const auto index = i * dataset.size() / N;
    if (i == 0) {
      const auto first = transform(dataset.get(index, 0).image, 0);
      out.images = at::empty({N, first.size(0), first.size(1), first.size(2)});
    }
    out.labels[i] = transform.apply(dataset, index, 0, out.images[i]);
  }
  return out;
}

ProbeResult probe(VitEncoder& encoder, const LabelledImages& train, const LabelledImages& test, int64_t classes,
                  const EvaluationOptions& options) {
  encoder->eval();
  const auto features = [&](const LabelledImages& set) {
    return mae::LabelledFeatures{mae::image_features(encoder, set.images, options.pool), set.labels};
  };
  const auto from = features(train), on = features(test);
  auto linear = mae::train_linear_probe(
      from, classes,
      {.epochs = options.probe_epochs, .warmup_epochs = options.probe_epochs / 10, .batch = 512, .base_lr = 4.0});
  const at::NoGradGuard no_grad;
  return {.linear = mae::accuracy(linear->forward(on.features), on.labels),
          .knn = mae::knn_accuracy(from, on, {.k = std::min(options.knn, from.features.size(0)), .classes = classes})};
}

void print_table(const std::string& title, const std::vector<TableRow>& rows) {
  fmt::print("\n{:<28} {:>10} {:>10}\n", title, "this run", "baseline");
  for (const auto& row : rows) {
    fmt::print("{:<28} {:>10.4f} {:>10.4f}  ({})\n", row.name, row.value, row.other, row.of_other);
  }
}

io::ProcessorConfig processor_config(int64_t height, int64_t width, const data::Normalization& normalization) {
  io::ProcessorConfig config;
  config.size = {.height = height, .width = width, .shortest_edge = {}, .longest_edge = {}};
  config.resample = io::Resample::bicubic;
  config.image_mean = normalization.mean;
  config.image_std = normalization.std;
  return config;
}

}  // namespace winnow::examples
