#include "winnow/nn/sampling.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/core/random.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// The rules by full sorts and plain loops in float64, one after the other, over a row of logits.
class PlainWarp {
 public:
  explicit PlainWarp(std::vector<double> logits) : x(std::move(logits)) {}
  void temperature(double t) {
    for (auto& v : x) v = static_cast<float>(v) / static_cast<float>(t);
  }
  void top_k(size_t k) {
    auto sorted = x;
    std::sort(sorted.rbegin(), sorted.rend());
    const auto bar = sorted[std::min(k, sorted.size()) - 1];
    for (auto& v : x) v = v < bar ? -INFINITY : v;
  }
  void top_p(double p, size_t least) {
    const auto order = by([&](size_t i) { return -x[i]; });
    const auto probs = softmax();
    double before = 0;
    for (size_t rank = 0; rank < order.size(); ++rank) {
      if (before >= p && rank >= least) x[order[rank]] = -INFINITY;
      before += probs[order[rank]];
    }
  }
  void min_p(double p, size_t least) {
    const auto order = by([&](size_t i) { return -x[i]; });
    const auto bar = x[order[0]] + std::log(p);
    for (size_t rank = least; rank < order.size(); ++rank) {
      if (x[order[rank]] < bar) x[order[rank]] = -INFINITY;
    }
  }
  void typical(double p, size_t least) {
    const auto probs = softmax();
    const auto h = entropy(probs);
    std::vector<double> distance(x.size(), INFINITY);
    for (size_t i = 0; i < x.size(); ++i) {
      if (probs[i] > 0) distance[i] = std::abs(-std::log(probs[i]) - h);
    }
    const auto order = by([&](size_t i) { return distance[i]; });
    size_t last = 0;
    for (double sum = probs[order[0]]; sum < p && last + 1 < order.size(); sum += probs[order[last]]) ++last;
    for (size_t rank = least; rank < order.size(); ++rank) {
      if (distance[order[rank]] > distance[order[last]] + 1e-12) x[order[rank]] = -INFINITY;
    }
  }
  void probable(double bar, size_t least) {
    const auto probs = softmax();
    auto sorted = x;
    std::sort(sorted.rbegin(), sorted.rend());
    for (size_t i = 0; i < x.size(); ++i) {
      if (probs[i] < bar && x[i] < sorted[std::min(least, x.size()) - 1]) x[i] = -INFINITY;
    }
  }
  void eta(double eta, size_t least) { probable(std::min(eta, std::sqrt(eta) * std::exp(-entropy(softmax()))), least); }
  std::vector<double> softmax() const {
    const auto top = *std::max_element(x.begin(), x.end());
    std::vector<double> out;
    for (const auto v : x) out.push_back(std::exp(v - top));
    const auto sum = std::accumulate(out.begin(), out.end(), 0.0);
    for (auto& v : out) v /= sum;
    return out;
  }

  std::vector<double> x;

 private:
  template <typename Key>
  std::vector<size_t> by(const Key& key) const {
    std::vector<size_t> order(x.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
    return order;
  }
  static double entropy(const std::vector<double>& probs) {
    double h = 0;
    for (const auto p : probs) h -= p > 0 ? p * std::log(p) : 0;
    return h;
  }
};

PlainWarp plain_warp(const at::Tensor& row, const WarpOptions& o) {
  const auto values = row.to(at::kDouble);
  PlainWarp plain({values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()});
  const auto least = static_cast<size_t>(o.min_tokens);
  plain.temperature(o.temperature);
  if (o.top_k > 0) plain.top_k(static_cast<size_t>(std::max(o.top_k, o.min_tokens)));
  if (o.top_p < 1) plain.top_p(o.top_p, least);
  if (o.min_p > 0) plain.min_p(o.min_p, least);
  if (o.typical_p < 1) plain.typical(o.typical_p, least);
  if (o.epsilon_cutoff > 0) plain.probable(o.epsilon_cutoff, least);
  if (o.eta_cutoff > 0) plain.eta(o.eta_cutoff, least);
  return plain;
}

// Rows of different character: normal, nearly flat, one dominant token, wide, with ties, mostly impossible.
at::Tensor awkward_logits(int64_t V, uint64_t seed) {
  auto x = at::randn({6, V}, make_generator(seed));
  x[1] *= 0.01;
  x[2][V / 2] += 12;
  x[3] *= 8;
  x[4] = (x[4] * 2).round() / 2;
  x[5].masked_fill_(at::rand({V}, make_generator(seed + 1)) < 0.6, kNever);
  x[5][V - 1] = 0.3F;
  return x;
}

std::vector<WarpOptions> rules() {
  return {{},
          {.temperature = 0.6},
          {.top_k = 1},
          {.top_k = 7},
          {.temperature = 2.5, .top_k = 40},
          {.top_k = 3, .min_tokens = 5},
          {.top_p = 0.0},
          {.top_p = 0.3},
          {.top_p = 0.95},
          {.top_p = 0.2, .min_tokens = 4},
          {.min_p = 0.2},
          {.min_p = 1.0, .min_tokens = 3},
          {.typical_p = 0.2},
          {.typical_p = 0.9, .min_tokens = 2},
          {.epsilon_cutoff = 0.03},
          {.epsilon_cutoff = 0.5, .min_tokens = 2},
          {.eta_cutoff = 0.02},
          {.temperature = 0.8, .top_k = 50, .top_p = 0.9, .min_p = 0.02},
          {.temperature = 1.3, .top_k = 30, .top_p = 0.97, .typical_p = 0.8, .eta_cutoff = 0.004}};
}

TEST(Sampling, EveryRuleKeepsWhatAPlainSortKeeps) {
  for (const int64_t V : {1, 2, 5, 29, 64, 257, 5000}) {
    const auto logits = awkward_logits(V, static_cast<uint64_t>(V));
    for (const auto& options : rules()) {
      const auto warped = warp_logits(logits, options), probs = warp_probabilities(logits, options);
      for (int64_t b = 0; b < logits.size(0); ++b) {
        const auto plain = plain_warp(logits[b], options);
        EXPECT_TENSOR_CLOSE(warped[b], at::tensor(plain.x, at::kFloat), 1e-6, 0.0)
            << "V " << V << ", row " << b << ", " << to_json(options);
        EXPECT_TENSOR_NEAR(probs[b], at::tensor(plain.softmax(), at::kFloat), 2e-6)
            << "V " << V << ", row " << b << ", " << to_json(options);
      }
    }
  }
}

TEST(Sampling, ADrawIsTheFirstTokenWhoseCumulativeProbabilityExceedsTheNumber) {
  const int64_t V = 300;
  const auto logits = awkward_logits(V, 4);
  Random random(9);
  for (const auto& options : rules()) {
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<double> uniforms;
      for (int64_t b = 0; b < logits.size(0); ++b) uniforms.push_back(trial == 0 ? 0.0 : random.uniform());
      const auto tokens = sample_tokens(logits, options, uniforms);
      for (int64_t b = 0; b < logits.size(0); ++b) {
        const auto p = plain_warp(logits[b], options).softmax();
        const auto token = static_cast<size_t>(tokens[b].item<int64_t>());
        const auto before = std::accumulate(p.begin(), p.begin() + static_cast<ptrdiff_t>(token), 0.0);
        const auto u = uniforms[static_cast<size_t>(b)];
        EXPECT_LE(before, u + 1e-6);
        EXPECT_GE(before + p[token], u - 1e-6);
        EXPECT_GT(p[token], 0);
      }
    }
  }
}

TEST(Sampling, DrawsFollowTheWarpedDistribution) {
  const auto row = at::randn({1, 12}, make_generator(3));
  for (const WarpOptions& options :
       {WarpOptions{}, WarpOptions{.temperature = 0.7, .top_k = 6}, WarpOptions{.top_p = 0.8}}) {
    const auto p = plain_warp(row[0], options).softmax();
    std::vector<int64_t> counts(p.size(), 0);
    const int64_t n = 40000;
    const std::span<const float> values(row.const_data_ptr<float>(), p.size());
    for (int64_t i = 0; i < n; ++i) {
      const auto drawn = sample_row(values, options, stream_uniform(7, static_cast<uint64_t>(i)));
      ++counts[static_cast<size_t>(drawn.token)];
      EXPECT_NEAR(drawn.probability, p[static_cast<size_t>(drawn.token)], 1e-6);
    }
    double chi2 = 0, df = -1;
    for (size_t i = 0; i < p.size(); ++i) {
      if (p[i] == 0) {
        EXPECT_EQ(counts[i], 0);
        continue;
      }
      const auto expected = p[i] * static_cast<double>(n);
      chi2 += std::pow(static_cast<double>(counts[i]) - expected, 2) / expected;
      ++df;
    }
    EXPECT_LT(chi2, df + 4.5 * std::sqrt(2 * df)) << to_json(options);
    EXPECT_GT(chi2, 0);
  }
}

TEST(Sampling, StreamsAreUniformAndIndependentOfEachOther) {
  double mean = 0, product = 0;
  const int64_t n = 20000;
  for (uint64_t i = 0; i < n; ++i) {
    const auto a = stream_uniform(derive_seed(1, 0), i), b = stream_uniform(derive_seed(1, 1), i);
    EXPECT_GE(a, 0);
    EXPECT_LT(a, 1);
    mean += a / n;
    product += (a - 0.5) * (b - 0.5) / n;
  }
  EXPECT_NEAR(mean, 0.5, 4.5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(product, 0, 4.5 / 12 / std::sqrt(n));
  EXPECT_EQ(stream_uniform(5, 3), stream_uniform(5, 3));
}

TEST(Sampling, ARowDrawsTheSameAloneAndInABatch) {
  const auto logits = at::randn({5, 2000}, make_generator(8));
  const std::vector<double> uniforms{0.1, 0.5, 0.9, 0.999, 0.3};
  for (const auto& options : rules()) {
    const auto together = sample_tokens(logits, options, uniforms);
    for (int64_t b = 0; b < 5; ++b) {
      EXPECT_TENSOR_EQ(sample_tokens(logits[b], options, {&uniforms[static_cast<size_t>(b)], 1}),
                       together.slice(0, b, b + 1));
    }
  }
}

TEST(Sampling, TiesGoToTheLowerId) {
  const auto logits = at::tensor({0.0F, 3.0F, 1.0F, 3.0F, 3.0F}).view({1, 5});
  EXPECT_EQ(greedy_tokens(logits).item<int64_t>(), 1);
  EXPECT_TENSOR_EQ(warp_logits(logits, {.temperature = 0}),
                   at::tensor({kNever, 0.0F, kNever, kNever, kNever}).view({1, 5}));
  // Half of the mass is reached by the first two of the three equal tokens.
  EXPECT_TENSOR_EQ(warp_logits(logits, {.top_p = 0.5}), at::tensor({kNever, 3.0F, kNever, 3.0F, kNever}).view({1, 5}));
  EXPECT_TENSOR_EQ(warp_logits(logits, {.top_k = 2}), at::tensor({kNever, 3.0F, kNever, 3.0F, 3.0F}).view({1, 5}));
}

TEST(Sampling, VanishingTemperatureIsGreedy) {
  const auto logits = at::randn({4, 50}, make_generator(2));
  const std::vector<double> uniforms{0.0, 0.4, 0.7, 0.9999};
  for (const double t : {0.0, 1e-3, 1e-38, 1e-45}) {
    EXPECT_TENSOR_EQ(sample_tokens(logits, {.temperature = t}, uniforms), greedy_tokens(logits));
  }
}

TEST(Sampling, LogProbabilitiesAreThoseOfSoftmax) {
  for (const int64_t V : {1, 7, 3000}) {
    const auto logits = at::randn({3, V}, make_generator(1)) * 5;
    const auto tokens = at::tensor({int64_t{0}, V / 2, V - 1});
    const auto wanted = logits.to(at::kDouble).log_softmax(-1).gather(1, tokens.unsqueeze(1)).squeeze(1);
    EXPECT_TENSOR_NEAR(token_log_probs(logits, tokens), wanted.to(at::kFloat), 2e-6);
  }
}

TEST(Sampling, HalfPrecisionAndSingleRowsAreTaken) {
  const auto logits = at::randn({40}, make_generator(6)).to(at::kBFloat16);
  EXPECT_EQ(warp_logits(logits, {.top_k = 3}).sizes(), (std::vector<int64_t>{40}));
  EXPECT_TENSOR_EQ(warp_logits(logits, {.top_k = 3}), warp_logits(logits.to(at::kFloat), {.top_k = 3}));
}

TEST(Sampling, WeightsAreDrawnInOrderOfIds) {
  const auto weights = at::tensor({0.0F, 2.0F, 0.0F, 6.0F, 0.0F}).view({1, 5});
  const auto draw = [&](double u) { return draw_tokens(weights, {&u, 1}).item<int64_t>(); };
  EXPECT_EQ(draw(0), 1);
  EXPECT_EQ(draw(0.2499), 1);
  EXPECT_EQ(draw(0.25), 3);
  EXPECT_EQ(draw(std::nextafter(1.0, 0.0)), 3);
}

TEST(Sampling, BadLogitsAndOptionsAreNamed) {
  const auto fine = at::zeros({2, 3});
  auto nan = fine.clone(), infinite = fine.clone(), empty = fine.clone();
  nan[1][2] = NAN;
  infinite[0][0] = INFINITY;
  empty[1].fill_(kNever);
  const std::vector<double> u{0.5, 0.5}, outside{0.5, 1.0};
  EXPECT_ERROR(sample_tokens(nan, {}, u), "sample_tokens: logits of row 1 must hold no NaN and no +infinity");
  EXPECT_ERROR(warp_logits(infinite, {}), "warp_logits: logits of row 0 must hold no NaN and no +infinity");
  EXPECT_ERROR(greedy_tokens(empty), "greedy_tokens: logits of row 1 must have a finite entry, all 3 are -infinity");
  EXPECT_ERROR(sample_tokens(fine, {.temperature = -1}, u), "Warp: temperature must be in [0, 1e+30], got -1");
  EXPECT_ERROR(sample_tokens(fine, {.top_p = 1.5}, u), "Warp: top_p must be in [0, 1], got 1.5");
  EXPECT_ERROR(sample_tokens(fine, {}, outside), "sample_tokens: uniforms must be in [0, 1), got 1");
  EXPECT_ERROR(sample_tokens(fine, {}, {u.data(), 1}), "sample_tokens: uniforms must have one number a row, 2, got 1");
  EXPECT_ERROR(draw_tokens(fine, u), "draw_tokens: weights of row 0 must not all be 0");
  EXPECT_ERROR(draw_tokens(fine - 1, u), "draw_tokens: weights must be >= 0 and finite, got -1 in row 0");
  EXPECT_ERROR(warp_logits(at::zeros({2, 0}), {}), "warp_logits must have shape [B, V] or [V] with V >= 1, got [2, 0]");
  EXPECT_ERROR(token_log_probs(fine, at::tensor({int64_t{0}, int64_t{3}})), "token_log_probs: tokens");
}

}  // namespace
}  // namespace winnow
