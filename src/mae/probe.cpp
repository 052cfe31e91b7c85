#include "winnow/mae/probe.h"

#include <torch/nn/functional/loss.h>
#include <torch/types.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/lars.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/schedule.h"

namespace winnow::mae {

Fields<LinearProbeOptions> LinearProbeOptions::fields() {
  return Fields<LinearProbeOptions>("LinearProbe")
      .add("dim", &LinearProbeOptions::dim, "width of the features", at_least(1))
      .add("classes", &LinearProbeOptions::classes, "number of classes", at_least(1))
      .add("eps", &LinearProbeOptions::eps, "of the batch normalisation", above(0.0))
      .add("seed", &LinearProbeOptions::seed, "of the start weights");
}

Fields<ProbeTraining> ProbeTraining::fields() {
  return Fields<ProbeTraining>("ProbeTraining")
      .add("epochs", &ProbeTraining::epochs, "passes over the features", at_least(1))
      .add("warmup_epochs", &ProbeTraining::warmup_epochs, "epochs of rising rate", at_least(0))
      .add("batch", &ProbeTraining::batch, "rows of a step", at_least(2))
      .add("base_lr", &ProbeTraining::base_lr, "rate at batch 256", above(0.0))
      .add("momentum", &ProbeTraining::momentum, "of LARS", in_range(0.0, 1.0, Ends::right_open))
      .add("seed", &ProbeTraining::seed, "of start weights and order")
      .rule([](const ProbeTraining& o) {
        WINNOW_CHECK(o.warmup_epochs < o.epochs, "ProbeTraining: warmup_epochs must be below epochs = {}, got {}",
                     o.epochs, o.warmup_epochs);
      });
}

Fields<KnnOptions> KnnOptions::fields() {
  return Fields<KnnOptions>("Knn")
      .add("k", &KnnOptions::k, "neighbours that vote", at_least(1))
      .add("temperature", &KnnOptions::temperature, "of the weight of a vote", above(0.0))
      .add("classes", &KnnOptions::classes, "number of classes", at_least(1));
}

Fields<RidgeOptions> RidgeOptions::fields() {
  return Fields<RidgeOptions>("Ridge")
      .add("l2", &RidgeOptions::l2, "penalty on the squared weights", above(0.0))
      .add("classes", &RidgeOptions::classes, "number of classes", at_least(1));
}

namespace {

void check_features(const char* what, const LabelledFeatures& rows, int64_t classes) {
  check_dim(fmt::format("{} features", what), rows.features, 2);
  check_floating(fmt::format("{} features", what), rows.features);
  check_dtype(fmt::format("{} labels", what), rows.labels, at::kLong);
  check_shape(fmt::format("{} labels", what), rows.labels, {rows.features.size(0)});
  WINNOW_CHECK(rows.features.size(0) >= 1, "{} features must have at least one row, got {}", what,
               rows.features.sizes());
  check_indices(fmt::format("{} labels", what), rows.labels, classes);
}

void check_pair(const char* what, const LabelledFeatures& train, const LabelledFeatures& test, int64_t classes) {
  check_features(fmt::format("{}: train", what).c_str(), train, classes);
  check_features(fmt::format("{}: test", what).c_str(), test, classes);
  WINNOW_CHECK(train.features.size(1) == test.features.size(1),
               "{}: test features must be as wide as those of train, {}, got {}", what, train.features.size(1),
               test.features.size(1));
}

}  // namespace

LinearProbeImpl::LinearProbeImpl(LinearProbeOptions opts) : options(std::move(opts)) {
  check(options);
  reset();
}

void LinearProbeImpl::reset() {
  norm = register_module(
      "norm",
      torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(options.dim).eps(options.eps).momentum(0.1).affine(false)));
  head = register_module("head", Linear(options.dim, options.classes));
  const at::NoGradGuard no_grad;
  normal_(head->weight, make_generator(options.seed), 0.01);
  head->bias.zero_();
}

at::Tensor LinearProbeImpl::forward(const at::Tensor& features) {
  check_shape("LinearProbe: features", features, {-1, options.dim});
  return head->forward(norm->forward(features));
}

LinearProbe train_linear_probe(const LabelledFeatures& train, int64_t classes, const ProbeTraining& training) {
  check(training);
  check_features("train_linear_probe: train", train, classes);
  const auto N = train.features.size(0);
  WINNOW_CHECK(N >= 2, "train_linear_probe: train must have at least 2 rows, got {}", N);
  const auto features = train.features.detach();
  LinearProbe probe(LinearProbeOptions{.dim = features.size(1), .classes = classes, .seed = training.seed});
  probe->to(features.device(), features.scalar_type());
  train::Lars lars({{.name = "head", .params = train::trainable_parameters(*probe)}}, {.momentum = training.momentum});
  const auto batch = std::min(training.batch, N);
  const auto steps = N / batch;  // of an epoch; what does not fill a batch waits for another order
  const train::WarmupCosine lr{.lr = train::scaled_lr(training.base_lr, batch),
                               .min_lr = 0,
                               .warmup = static_cast<double>(training.warmup_epochs),
                               .total = static_cast<double>(training.epochs)};
  Random random(derive_seed(training.seed, 1));
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch) {
    const auto order = at::tensor(random.permutation(N), at::kLong).to(features.device());
    for (int64_t step = 0; step < steps; ++step) {
      const auto rows = order.slice(0, step * batch, (step + 1) * batch);
      lars.zero_grad();
      at::cross_entropy_loss(probe->forward(features.index_select(0, rows)), train.labels.index_select(0, rows))
          .backward();
      lars.step(lr(static_cast<double>(epoch) + static_cast<double>(step) / static_cast<double>(steps)));
    }
  }
  probe->eval();
  return probe;
}

double accuracy(const at::Tensor& logits, const at::Tensor& labels) {
  check_dim("accuracy: logits", logits, 2);
  check_shape("accuracy: labels", labels, {logits.size(0)});
  WINNOW_CHECK(logits.size(0) >= 1 && logits.size(1) >= 1, "accuracy: logits must not be empty, got shape {}",
               logits.sizes());
  return logits.argmax(1).eq(labels).to(at::kDouble).mean().item<double>();
}

double knn_accuracy(const LabelledFeatures& train, const LabelledFeatures& test, const KnnOptions& options) {
  constexpr int64_t kChunk = 1024;  // test rows at once: memory kChunk * N
  check(options);
  check_pair("knn_accuracy", train, test, options.classes);
  const auto N = train.features.size(0), M = test.features.size(0);
  WINNOW_CHECK(options.k <= N, "knn_accuracy: k must be in [1, {}], got {}", N, options.k);
  const at::NoGradGuard no_grad;
  const auto unit = [](const at::Tensor& x) { return x / x.norm(2, 1, true).clamp_min(1e-12); };
  const auto keys = unit(train.features).t().contiguous();  // [D, N]
  double right = 0;
  for (int64_t begin = 0; begin < M; begin += kChunk) {
    const auto rows = std::min(kChunk, M - begin);
    const auto queries = unit(test.features.slice(0, begin, begin + rows));
    const auto [cosine, index] = at::mm(queries, keys).topk(options.k, 1);  // [rows, k]
    const auto votes = at::zeros({rows, options.classes}, cosine.options())
                           .scatter_add_(1, train.labels.index_select(0, index.flatten()).view_as(index),
                                         ((cosine - 1.0) / options.temperature).exp());
    right += accuracy(votes, test.labels.slice(0, begin, begin + rows)) * static_cast<double>(rows);
  }
  return right / static_cast<double>(M);
}

double ridge_probe(const LabelledFeatures& train, const LabelledFeatures& test, const RidgeOptions& options,
                   const at::Tensor& population) {
  check(options);
  check_pair("ridge_probe", train, test, options.classes);
  const auto D = train.features.size(1);
  const auto& rows = population.defined() ? population : train.features;
  check_shape("ridge_probe: population", rows, {-1, D});
  WINNOW_CHECK(rows.size(0) >= 1, "ridge_probe: population must have at least one row");
  const at::NoGradGuard no_grad;
  const auto all = rows.to(at::kDouble);
  const auto mean = all.mean(0);  // [D]
  const auto centred = all - mean;
  const auto covariance = at::mm(centred.t(), centred) / static_cast<double>(all.size(0));  // [D, D]
  const auto [variance, axes] = at::linalg_eigh(covariance);
  const auto floor = std::max(variance.max().item<double>() * 1e-6, 1e-300);
  const auto whitening = axes * variance.clamp_min(floor).rsqrt();  // [D, D]
  const auto x = at::mm(train.features.to(at::kDouble) - mean, whitening);
  const auto y = at::one_hot(train.labels, options.classes).to(at::kDouble);
  const auto x_mean = x.mean(0), y_mean = y.mean(0);
  const auto a = x - x_mean;
  const auto normal = at::mm(a.t(), a) + options.l2 * at::eye(D, a.options());
  const auto weights = at::linalg_solve(normal, at::mm(a.t(), y - y_mean));  // [D, classes]
  const auto logits = at::mm(at::mm(test.features.to(at::kDouble) - mean, whitening) - x_mean, weights) + y_mean;
  return accuracy(logits, test.labels);
}

LabelledFeatures few_per_class(const LabelledFeatures& all, int64_t classes, int64_t per_class, uint64_t seed) {
  check_features("few_per_class: all", all, classes);
  WINNOW_CHECK(per_class >= 1, "few_per_class: per_class must be >= 1, got {}", per_class);
  const auto labels = all.labels.cpu();
  Random random(seed);
  std::vector<at::Tensor> chosen;
  for (int64_t c = 0; c < classes; ++c) {
    const auto members = labels.eq(c).nonzero().flatten();  // [members]
    WINNOW_CHECK(members.size(0) >= per_class, "few_per_class: class {} must have {} rows, got {}", c, per_class,
                 members.size(0));
    auto order = random.permutation(members.size(0));
    order.resize(static_cast<size_t>(per_class));
    chosen.push_back(members.index_select(0, at::tensor(order, at::kLong)));
  }
  const auto rows = at::cat(chosen).to(all.features.device());
  return {.features = all.features.index_select(0, rows), .labels = all.labels.index_select(0, rows)};
}

}  // namespace winnow::mae
