#include "winnow/mae/probe.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"

namespace winnow::mae {
namespace {

// Three classes around three far corners, with features of very different size.
LabelledFeatures clouds(int64_t per_class, double spread, uint64_t seed) {
  const auto generator = make_generator(seed);
  const auto labels = at::arange(3, at::kLong).repeat({per_class});
  auto x = at::randn({3 * per_class, 4}, generator) * spread;
  x.slice(1, 0, 3) += at::one_hot(labels, 3).to(at::kFloat) * 4;
  x *= at::tensor({1.f, 100.f, 0.01f, 1.f});
  return {.features = x, .labels = labels};
}

TEST(LinearProbe, LearnsSeparateCloudsFromBadlyScaledFeatures) {
  const auto train = clouds(64, 0.5, 1), test = clouds(100, 0.5, 2);
  auto probe = train_linear_probe(train, 3, {.epochs = 60, .warmup_epochs = 5, .batch = 64, .base_lr = 20.0});
  EXPECT_FALSE(probe->is_training());
  EXPECT_GT(accuracy(probe->forward(test.features), test.labels), 0.97);
}

TEST(LinearProbe, ASeedRepeatsTheTraining) {
  const auto train = clouds(20, 1.0, 1);
  const ProbeTraining how{.epochs = 3, .warmup_epochs = 1, .batch = 16, .seed = 4};
  EXPECT_TENSOR_EQ(train_linear_probe(train, 3, how)->head->weight, train_linear_probe(train, 3, how)->head->weight);
}

TEST(LinearProbe, NormalisesWithoutAnAffineMap) {
  LinearProbe probe(LinearProbeOptions{.dim = 4, .classes = 3});
  EXPECT_EQ(probe->parameters().size(), 2u);  // head weight and bias
  const auto x = clouds(50, 1.0, 1).features;
  const auto wanted = (x - x.mean(0)) / (x.var(0, /*unbiased=*/false) + 1e-6).sqrt();
  EXPECT_TENSOR_NEAR(probe->forward(x), at::linear(wanted, probe->head->weight, probe->head->bias), 1e-5);
}

TEST(Knn, AVoteIsWeightedByCosine) {
  // Two neighbours of class 1 at cosine 0.6 against one of class 0 at cosine 1.
  const LabelledFeatures train{.features = at::tensor({5.f, 0.f, 0.6f, 0.8f, 0.3f, -0.4f}).view({3, 2}),
                               .labels = at::tensor({0, 1, 1}, at::kLong)};
  const LabelledFeatures test{.features = at::tensor({2.f, 0.f}).view({1, 2}), .labels = at::tensor({0}, at::kLong)};
  // 1 against 2 * exp(-0.4 / T): the near one wins while T < 0.4 / ln 2 = 0.577.
  EXPECT_EQ(knn_accuracy(train, test, {.k = 3, .temperature = 0.5, .classes = 2}), 1.0);
  EXPECT_EQ(knn_accuracy(train, test, {.k = 3, .temperature = 0.7, .classes = 2}), 0.0);
  EXPECT_EQ(knn_accuracy(train, test, {.k = 1, .temperature = 0.7, .classes = 2}), 1.0);
}

TEST(Knn, ManyTestRowsInChunksEqualOneByOne) {
  const auto train = clouds(30, 2.0, 1), test = clouds(500, 2.0, 2);  // 1500 test rows: two chunks
  double right = 0;
  for (int64_t i = 0; i < 1500; i += 3) {
    right +=
        knn_accuracy(train, {test.features.slice(0, i, i + 3), test.labels.slice(0, i, i + 3)}, {.k = 5, .classes = 3});
  }
  EXPECT_NEAR(knn_accuracy(train, test, {.k = 5, .classes = 3}), right / 500, 1e-9);
}

TEST(RidgeProbe, EqualsTheClosedFormOnWhitenedFeatures) {
  // One feature, two classes: x = -1, 1 (whitened already), y = one-hot. Weight of class 1: (sum x (y - 1/2)) / (2 +
  // l2) = 1 / (2 + l2); the sign of x decides whatever l2 is.
  const LabelledFeatures train{.features = at::tensor({7.f, 9.f}).view({2, 1}),
                               .labels = at::tensor({0, 1}, at::kLong)};
  const LabelledFeatures test{.features = at::tensor({7.9f, 8.1f, 100.f}).view({3, 1}),
                              .labels = at::tensor({0, 1, 1}, at::kLong)};
  EXPECT_EQ(ridge_probe(train, test, {.l2 = 10, .classes = 2}), 1.0);
}

TEST(RidgeProbe, DoesNotChangeUnderALinearMapOfTheFeatures) {
  const auto train = clouds(5, 1.5, 1), test = clouds(300, 1.5, 2);
  const auto population = clouds(400, 1.5, 3).features;
  const auto map = at::randn({4, 4}, make_generator(4)) + 3 * at::eye(4);
  const auto mapped = [&](const at::Tensor& x) { return at::mm(x.to(at::kDouble), map.to(at::kDouble)) + 5; };
  const auto plain = ridge_probe(train, test, {.classes = 3}, population);
  EXPECT_GT(plain, 0.7);
  EXPECT_NEAR(ridge_probe({mapped(train.features), train.labels}, {mapped(test.features), test.labels}, {.classes = 3},
                          mapped(population)),
              plain, 0.005);
}

TEST(RidgeProbe, AConstantFeatureIsHarmless) {
  auto train = clouds(5, 0.3, 1), test = clouds(50, 0.3, 2);
  const auto with_ones = [](const at::Tensor& x) { return at::cat({x, at::ones({x.size(0), 1})}, 1); };
  EXPECT_GT(ridge_probe({with_ones(train.features), train.labels}, {with_ones(test.features), test.labels},
                        {.l2 = 1, .classes = 3}, with_ones(clouds(100, 0.3, 3).features)),
            0.95);
}

TEST(FewPerClass, TakesSoManyOfEachClassAndRepeatsBySeed) {
  const auto all = clouds(40, 1.0, 1);
  const auto few = few_per_class(all, 3, 7, 5);
  EXPECT_TENSOR_EQ(few.labels, at::arange(3, at::kLong).repeat_interleave(7));
  EXPECT_TENSOR_EQ(few_per_class(all, 3, 7, 5).features, few.features);
  EXPECT_FALSE(at::equal(few_per_class(all, 3, 7, 6).features, few.features));
  EXPECT_ERROR(few_per_class(all, 3, 41, 0), "few_per_class: class 0 must have 41 rows, got 40");
}

TEST(Probes, WrongArgumentsAreNamed) {
  const auto good = clouds(4, 1.0, 1);
  EXPECT_ERROR(train_linear_probe(good, 2, {}), "train_linear_probe: train labels");
  EXPECT_ERROR(train_linear_probe(good, 3, {.epochs = 5, .warmup_epochs = 5}),
               "warmup_epochs must be below epochs = 5");
  EXPECT_ERROR(knn_accuracy(good, good, {.k = 13, .classes = 3}), "knn_accuracy: k must be in [1, 12], got 13");
  EXPECT_ERROR(ridge_probe(good, good, {.l2 = 0, .classes = 3}), "Ridge: l2 must be > 0, got 0");
  EXPECT_ERROR(ridge_probe(good, {good.features.slice(1, 0, 2), good.labels}, {.classes = 3}),
               "test features must be as wide as those of train, 4, got 2");
  EXPECT_ERROR(accuracy(at::zeros({3, 2}), at::zeros({2}, at::kLong)), "accuracy: labels must");
}

}  // namespace
}  // namespace winnow::mae
