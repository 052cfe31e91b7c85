#include "winnow/kernels/blocked_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/targets.h"

namespace winnow::kernels {
namespace {

struct Case {
  int64_t batch, heads, kv_heads, length, width;
  bool causal;
};

// One tensor [batch, length, heads, width] with room between its rows.
struct Heads {
  int64_t heads, length, width;
  std::vector<float> values;
  Heads(int64_t batch, int64_t h, int64_t l, int64_t w, uint32_t seed)
      : heads(h), length(l), width(w), values(normal_values<float>(batch * l * (h * w + 3), seed)) {}
  [[nodiscard]] HeadStrides strides() const {
    return {.batch = length * (heads * width + 3), .head = width, .token = heads * width + 3};
  }
  [[nodiscard]] size_t place(int64_t b, int64_t h, int64_t t, int64_t j) const {
    const auto s = strides();
    return static_cast<size_t>(b * s.batch + h * s.head + t * s.token + j);
  }
  [[nodiscard]] double at(int64_t b, int64_t h, int64_t t, int64_t j) const {
    return static_cast<double>(values[place(b, h, t, j)]);
  }
};

struct Reference {
  std::vector<std::vector<double>> p;  // of one head: weights [length][length]
  std::vector<double> lse;
};

Reference weights_of(const Case& c, const Heads& q, const Heads& k, int64_t b, int64_t h, double scale) {
  const auto kv = h / (c.heads / c.kv_heads);
  Reference r;
  for (int64_t i = 0; i < c.length; ++i) {
    std::vector<double> row(static_cast<size_t>(c.length), 0.0);
    double sum = 0;
    for (int64_t t = 0; t < (c.causal ? i + 1 : c.length); ++t) {
      double dot = 0;
      for (int64_t j = 0; j < c.width; ++j) dot += q.at(b, h, i, j) * k.at(b, kv, t, j);
      sum += row[static_cast<size_t>(t)] = std::exp(scale * dot);
    }
    for (auto& x : row) x /= sum;
    r.p.push_back(row);
    r.lse.push_back(std::log(sum));
  }
  return r;
}

void check_against_plain_loops(const Case& c) {
  SCOPED_TRACE(::testing::Message() << c.batch << ' ' << c.heads << ' ' << c.kv_heads << ' ' << c.length << ' '
                                    << c.width << ' ' << c.causal);
  const double scale = 0.6 / std::sqrt(static_cast<double>(c.width));
  const Heads q(c.batch, c.heads, c.length, c.width, 1), k(c.batch, c.kv_heads, c.length, c.width, 2),
      v(c.batch, c.kv_heads, c.length, c.width, 3), g(c.batch, c.heads, c.length, c.width, 4);
  auto out = q, grad_q = q, grad_k = k, grad_v = v;
  std::vector<float> lse(static_cast<size_t>(c.batch * c.heads * c.length));
  const BlockedAttention args{.q = q.values.data(),
                              .k = k.values.data(),
                              .v = v.values.data(),
                              .q_strides = q.strides(),
                              .k_strides = k.strides(),
                              .v_strides = v.strides(),
                              .batch = c.batch,
                              .heads = c.heads,
                              .kv_heads = c.kv_heads,
                              .length = c.length,
                              .width = c.width,
                              .scale = static_cast<float>(scale),
                              .causal = c.causal};
  std::vector<float> scratch(static_cast<size_t>(blocked_attention_scratch(args)), std::nanf(""));
  const auto units = c.batch * c.kv_heads, middle = units / 2;
  cpu::blocked_attention(args, out.values.data(), out.strides(), lse.data(), scratch.data(), 0, middle);
  cpu::blocked_attention(args, out.values.data(), out.strides(), lse.data(), scratch.data(), middle, units);
  const BlockedAttentionGrad grad{.inputs = args,
                                  .out = out.values.data(),
                                  .grad_out = g.values.data(),
                                  .lse = lse.data(),
                                  .out_strides = out.strides(),
                                  .grad_strides = g.strides(),
                                  .grad_q = grad_q.values.data(),
                                  .grad_k = grad_k.values.data(),
                                  .grad_v = grad_v.values.data(),
                                  .grad_q_strides = grad_q.strides(),
                                  .grad_k_strides = grad_k.strides(),
                                  .grad_v_strides = grad_v.strides()};
  cpu::blocked_attention_backward(grad, scratch.data(), 0, units);

  const auto L = static_cast<size_t>(c.length);
  for (int64_t b = 0; b < c.batch; ++b) {
    std::vector<double> wanted_k(static_cast<size_t>(c.kv_heads) * L * static_cast<size_t>(c.width), 0.0);
    auto wanted_v = wanted_k;
    for (int64_t h = 0; h < c.heads; ++h) {
      const auto kv = h / (c.heads / c.kv_heads);
      const auto r = weights_of(c, q, k, b, h, scale);
      for (int64_t i = 0; i < c.length; ++i) {
        const auto& p = r.p[static_cast<size_t>(i)];
        EXPECT_NEAR(lse[static_cast<size_t>((b * c.heads + h) * c.length + i)], r.lse[static_cast<size_t>(i)], 1e-5);
        std::vector<double> dp(L, 0.0);
        double mean = 0;
        for (size_t t = 0; t < L; ++t) {
          for (int64_t j = 0; j < c.width; ++j) dp[t] += g.at(b, h, i, j) * v.at(b, kv, static_cast<int64_t>(t), j);
          mean += p[t] * dp[t];
        }
        for (int64_t j = 0; j < c.width; ++j) {
          double y = 0, dq = 0;
          for (size_t t = 0; t < L; ++t) {
            const auto key = static_cast<int64_t>(t);
            const auto at = (static_cast<size_t>(kv) * L + t) * static_cast<size_t>(c.width) + static_cast<size_t>(j);
            const double ds = scale * p[t] * (dp[t] - mean);
            y += p[t] * v.at(b, kv, key, j);
            dq += ds * k.at(b, kv, key, j);
            wanted_k[at] += ds * q.at(b, h, i, j);
            wanted_v[at] += p[t] * g.at(b, h, i, j);
          }
          EXPECT_NEAR(out.at(b, h, i, j), y, 1e-5);
          EXPECT_NEAR(grad_q.at(b, h, i, j), dq, 2e-5);
        }
      }
    }
    for (int64_t h = 0; h < c.kv_heads; ++h) {
      for (int64_t t = 0; t < c.length; ++t) {
        for (int64_t j = 0; j < c.width; ++j) {
          const auto at = static_cast<size_t>((h * c.length + t) * c.width + j);
          EXPECT_NEAR(grad_k.at(b, h, t, j), wanted_k[at], 5e-5);
          EXPECT_NEAR(grad_v.at(b, h, t, j), wanted_v[at], 5e-5);
        }
      }
    }
  }
}

TEST(BlockedAttentionKernel, EqualsPlainLoopsOnEveryTarget) {
  on_every_target([] {
    for (const auto& c : std::vector<Case>{{1, 1, 1, 1, 1, true},
                                           {2, 2, 2, 3, 5, false},
                                           {1, 4, 2, 34, 8, true},
                                           {1, 2, 1, 33, 33, false},
                                           {1, 1, 1, 67, 16, true},
                                           {2, 3, 1, 17, 40, true}}) {
      check_against_plain_loops(c);
    }
  });
}

}  // namespace
}  // namespace winnow::kernels
