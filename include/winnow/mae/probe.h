#pragma once

// How good frozen features are: linear probe (batch normalisation, linear layer, LARS), k nearest neighbours, ridge
// regression. Source: He et al. 2021, arXiv 2111.06377, appendix A.1 (linear probe); Wu et al. 2018, arXiv 1805.01978,
// section 3.4 (kNN).

#include <ATen/core/Tensor.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

#include "winnow/core/options.h"
#include "winnow/nn/linear.h"

namespace winnow::mae {

// Features and what they stand for.
struct LabelledFeatures {
  at::Tensor features;  // [N, D] float
  at::Tensor labels;    // [N] int64, in [0, classes)
};

struct LinearProbeOptions {
  int64_t dim = 0;  // D
  int64_t classes = 0;
  double eps = 1e-6;
  uint64_t seed = 0;  // of the start weights of the head, N(0, 0.01); bias 0
  static Fields<LinearProbeOptions> fields();
};
// features [N, D] -> logits [N, classes]: norm (BatchNorm1d without affine, momentum 0.1), then head (Linear).
struct LinearProbeImpl : torch::nn::Cloneable<LinearProbeImpl> {
  explicit LinearProbeImpl(LinearProbeOptions opts);
  void reset() override;
  at::Tensor forward(const at::Tensor& features);

  LinearProbeOptions options;
  torch::nn::BatchNorm1d norm{nullptr};
  Linear head{nullptr};
};
TORCH_MODULE(LinearProbe);

struct ProbeTraining {
  int64_t epochs = 90;
  int64_t warmup_epochs = 10;
  int64_t batch = 1024;
  double base_lr = 0.1;  // the rate is base_lr * batch / 256, warm-up and cosine
  double momentum = 0.9;
  uint64_t seed = 0;  // of the order
  static Fields<ProbeTraining> fields();
};
// Trains a probe by LARS on fixed features and leaves it in evaluation mode.
LinearProbe train_linear_probe(const LabelledFeatures& train, int64_t classes, const ProbeTraining& training);

// Share of rows whose largest logit is the label; equal logits: the lower class.
double accuracy(const at::Tensor& logits, const at::Tensor& labels);

struct KnnOptions {
  int64_t k = 20;
  double temperature = 0.07;
  int64_t classes = 0;
  static Fields<KnnOptions> fields();
};
// Each test row votes among its k nearest training rows by cosine, weight exp(cosine / temperature).
double knn_accuracy(const LabelledFeatures& train, const LabelledFeatures& test, const KnnOptions& options);

struct RidgeOptions {
  double l2 = 10.0;
  int64_t classes = 0;
  static Fields<RidgeOptions> fields();
};
// Ridge regression in closed form (float64, with intercept) of one-hot labels on whitened features: the accuracy on the
// test rows. Whitening takes away mean and covariance of the rows of `population` [M, D] (unlabelled features, many
// more than D of them; undefined: the training rows); directions under 1e-6 of the largest variance are scaled as if
// they had that.
double ridge_probe(const LabelledFeatures& train, const LabelledFeatures& test, const RidgeOptions& options,
                   const at::Tensor& population = {});

// The first `per_class` rows of every class, in the order of a permutation drawn from `seed`. Throws where a class has
// fewer.
LabelledFeatures few_per_class(const LabelledFeatures& all, int64_t classes, int64_t per_class, uint64_t seed);

}  // namespace winnow::mae
