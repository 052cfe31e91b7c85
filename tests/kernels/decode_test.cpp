// The kernels of decoding beside plain loops in double, on every target.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/targets.h"
#include "support/awkward_sizes.h"
#include "winnow/kernels/activation_rows.h"
#include "winnow/kernels/attention_rows.h"
#include "winnow/kernels/norm_rows.h"
#include "winnow/kernels/rotary_rows.h"

namespace winnow::kernels {
namespace {

using Values = std::vector<float>;

double wide(float x) {
  return static_cast<double>(x);
}
size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

struct NormCase {
  int64_t width;
  bool rms, with_delta, affine;
};

void check_norm(const NormCase& c) {
  constexpr int64_t kRows = 3, kGap = 2;
  const auto stride = c.width + kGap, y_stride = c.width + 1;
  auto x = normal_values<float>(kRows * stride, 1);
  const auto delta = normal_values<float>(kRows * c.width, 2), weight = normal_values<float>(c.width, 3),
             bias = normal_values<float>(c.width, 4);
  const auto before = x;
  Values y(at(kRows * y_stride), 9.0F);
  cpu::norm_rows({.x = x.data(),
                  .delta = c.with_delta ? delta.data() : nullptr,
                  .sum = c.with_delta ? x.data() : nullptr,
                  .weight = c.affine ? weight.data() : nullptr,
                  .bias = c.affine ? bias.data() : nullptr,
                  .y = y.data(),
                  .x_stride = stride,
                  .delta_stride = c.width,
                  .y_stride = y_stride,
                  .width = c.width,
                  .eps = 1e-5,
                  .rms = c.rms},
                 0, kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    std::vector<double> row;
    double mean = 0, square = 0;
    for (int64_t j = 0; j < c.width; ++j) {
      const float v = before[at(r * stride + j)] + (c.with_delta ? delta[at(r * c.width + j)] : 0.0F);
      ASSERT_EQ(x[at(r * stride + j)], v);
      row.push_back(wide(v));
      mean += wide(v) / static_cast<double>(c.width);
    }
    if (c.rms) mean = 0;
    for (const double v : row) square += (v - mean) * (v - mean) / static_cast<double>(c.width);
    for (int64_t j = 0; j < c.width; ++j) {
      double wanted = (row[at(j)] - mean) / std::sqrt(square + 1e-5);
      if (c.affine) wanted = wanted * wide(weight[at(j)]) + wide(bias[at(j)]);
      ASSERT_NEAR(wide(y[at(r * y_stride + j)]), wanted, c.width == 2 && !c.rms ? 1e-3 : 1e-5) << r << " " << j;
    }
    ASSERT_EQ(y[at(r * y_stride + c.width)], 9.0F);
  }
}

TEST(NormRowsKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    for (const auto width : testing::awkward_sizes()) {
      for (const bool rms : {false, true}) {
        SCOPED_TRACE(width);
        check_norm({.width = width, .rms = rms, .with_delta = false, .affine = true});
        check_norm({.width = width, .rms = rms, .with_delta = true, .affine = true});
        check_norm({.width = width, .rms = rms, .with_delta = true, .affine = false});
      }
    }
  });
}

TEST(NormRowsKernel, TheResultMayReplaceTheRowAndANaNStaysInItsRow) {
  on_every_target([] {
    for (const bool rms : {false, true}) {
      auto x = normal_values<float>(3 * 19, 1);
      x[19 + 7] = std::nanf("");
      Values y(x.size());
      NormRows args{.x = x.data(),
                    .delta = nullptr,
                    .sum = nullptr,
                    .weight = nullptr,
                    .bias = nullptr,
                    .y = y.data(),
                    .x_stride = 19,
                    .delta_stride = 0,
                    .y_stride = 19,
                    .width = 19,
                    .eps = 1e-6,
                    .rms = rms};
      cpu::norm_rows(args, 0, 3);
      for (int64_t i = 0; i < 57; ++i) EXPECT_EQ(std::isnan(y[at(i)]), i / 19 == 1) << i;
      args.y = x.data();
      cpu::norm_rows(args, 0, 3);
      EXPECT_EQ(std::memcmp(x.data(), y.data(), 19 * sizeof(float)), 0);
      EXPECT_EQ(std::memcmp(x.data() + 38, y.data() + 38, 19 * sizeof(float)), 0);
    }
  });
}

TEST(RotaryRowsKernel, TurnsPairsAsComplexNumbersOnEveryTarget) {
  on_every_target([] {
    for (const bool interleaved : {false, true}) {
      for (const int64_t half : {1, 3, 4, 8, 9, 17, 32}) {
        for (const int64_t rest : {0, 5}) {
          const int64_t rows = 3, heads = 2, d = 2 * half + rest, stride = heads * d + 3;
          const auto before = normal_values<float>(rows * stride, 1), angles = normal_values<float>(rows * half, 2);
          auto x = before;
          Values cos, sin;
          for (const float angle : angles) {
            cos.push_back(std::cos(angle));
            sin.push_back(std::sin(angle));
          }
          cpu::rotary_rows({x.data(), cos.data(), sin.data(), stride, heads, d, half, interleaved}, 0, rows);
          auto wanted = before;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t h = 0; h < heads; ++h) {
              for (int64_t i = 0; i < half; ++i) {
                const auto base = r * stride + h * d;
                const auto a = at(base + (interleaved ? 2 * i : i)),
                           b = at(base + (interleaved ? 2 * i + 1 : half + i));
                const auto angle = wide(angles[at(r * half + i)]);
                wanted[a] = static_cast<float>(wide(before[a]) * std::cos(angle) - wide(before[b]) * std::sin(angle));
                wanted[b] = static_cast<float>(wide(before[b]) * std::cos(angle) + wide(before[a]) * std::sin(angle));
              }
            }
          }
          for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], wanted[i], 2e-6F) << half << " at " << i;
        }
      }
    }
  });
}

double exact(RowActivation activation, double x) {
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  switch (activation) {
    case RowActivation::gelu: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case RowActivation::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case RowActivation::quick_gelu: return x * sigmoid(1.702 * x);
    case RowActivation::relu: return x > 0 ? x : 0;
    case RowActivation::silu: return x * sigmoid(x);
  }
  return 0;
}

constexpr RowActivation kActivations[] = {RowActivation::gelu, RowActivation::gelu_tanh, RowActivation::quick_gelu,
                                          RowActivation::relu, RowActivation::silu};

TEST(ActivationRowsKernel, AgreesWithTheExactFunctionOnEveryTarget) {
  on_every_target([] {
    for (const auto activation : kActivations) {
      Values x;
      for (double v = -30; v < 30; v += 0.01) x.push_back(static_cast<float>(v));
      for (const float v : {0.0F, -0.0F, 1e-30F, -1e-30F, 1000.0F, -1000.0F, 1e30F}) x.push_back(v);
      const auto up = normal_values<float>(static_cast<int64_t>(x.size()), 1);
      auto plain = x, gated = up;
      const auto count = static_cast<int64_t>(x.size());
      cpu::activation_rows({plain.data(), nullptr, activation}, 0, count);
      cpu::activation_rows({gated.data(), x.data(), activation}, 0, count);
      for (size_t i = 0; i < x.size(); ++i) {
        const double wanted = exact(activation, wide(x[i])), size = 1 + std::abs(wide(x[i]));
        ASSERT_NEAR(wide(plain[i]), wanted, 2e-7 * size) << "at " << x[i] << " of " << static_cast<int>(activation);
        ASSERT_NEAR(wide(gated[i]), wanted * wide(up[i]), 3e-7 * size * (1 + std::abs(wide(up[i]))));
      }
    }
  });
}

TEST(ActivationRowsKernel, AValueDoesNotDependOnItsPlaceAndANaNStaysWhereItIs) {
  on_every_target([] {
    for (const auto activation : kActivations) {
      Values x(37, 0.7F);
      x[5] = x[36] = std::nanf("");
      cpu::activation_rows({x.data(), nullptr, activation}, 0, 21);
      cpu::activation_rows({x.data(), nullptr, activation}, 21, 37);
      for (size_t i = 0; i < x.size(); ++i) {
        if (i == 5 || i == 36) {
          EXPECT_TRUE(std::isnan(x[i]));
        } else {
          EXPECT_EQ(x[i], x[0]) << i;
        }
      }
    }
  });
}

struct AttentionCase {
  int64_t n, length, kv_heads, group, head_dim, window = 0;
};

struct AttentionData {
  AttentionCase c;
  int64_t room, row;
  Values q, keys, values;
  explicit AttentionData(const AttentionCase& c_)
      : c(c_),
        room(c.length + 3),
        row(c.kv_heads * c.group * c.head_dim + 5),
        q(normal_values<float>(c.n * row, 1)),
        keys(normal_values<float>(c.kv_heads * room * c.head_dim, 2)),
        values(normal_values<float>(c.kv_heads * room * c.head_dim, 3)) {}
  // Of the queries first .. first + n of the c.n.
  [[nodiscard]] Values run(int64_t first, int64_t n) const {
    Values out(at(n * c.kv_heads * c.group * c.head_dim));
    cpu::attention_rows({.q = q.data() + first * row,
                         .keys = keys.data(),
                         .values = values.data(),
                         .out = out.data(),
                         .q_stride = row,
                         .head_stride = room * c.head_dim,
                         .out_stride = c.kv_heads * c.group * c.head_dim,
                         .n = n,
                         .kv_heads = c.kv_heads,
                         .group = c.group,
                         .head_dim = c.head_dim,
                         .length = c.length - c.n + first + n,
                         .window = c.window,
                         .scale = 0.3F},
                        0, c.kv_heads);
    return out;
  }
};

void check_attention(const AttentionCase& c) {
  SCOPED_TRACE(::testing::Message() << c.n << " of " << c.length << ", " << c.kv_heads << " x " << c.group
                                    << " heads of " << c.head_dim << ", window " << c.window);
  const AttentionData data(c);
  const auto out = data.run(0, c.n);
  for (int64_t i = 0; i < c.n; ++i) {
    const int64_t last = c.length - c.n + i, first = c.window > 0 ? std::max<int64_t>(0, last - c.window + 1) : 0;
    for (int64_t h = 0; h < c.kv_heads * c.group; ++h) {
      const auto* q = data.q.data() + i * data.row + h * c.head_dim;
      const auto base = (h / c.group) * data.room;
      std::vector<double> scores;
      double top = -1e300, sum = 0;
      for (int64_t t = first; t <= last; ++t) {
        double score = 0;
        for (int64_t j = 0; j < c.head_dim; ++j)
          score += 0.3 * wide(q[j]) * wide(data.keys[at((base + t) * c.head_dim + j)]);
        scores.push_back(score);
        top = std::max(top, score);
      }
      for (auto& score : scores) sum += (score = std::exp(score - top));
      for (int64_t j = 0; j < c.head_dim; ++j) {
        double wanted = 0;
        for (int64_t t = first; t <= last; ++t) {
          wanted += scores[at(t - first)] / sum * wide(data.values[at((base + t) * c.head_dim + j)]);
        }
        ASSERT_NEAR(wide(out[at((i * c.kv_heads * c.group + h) * c.head_dim + j)]), wanted, 5e-6)
            << i << " " << h << " " << j;
      }
    }
  }
}

TEST(AttentionRowsKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    for (const auto length : testing::awkward_sizes()) {
      check_attention({.n = std::min<int64_t>(length, 3), .length = length, .kv_heads = 2, .group = 2, .head_dim = 16});
    }
    for (const auto head_dim : testing::awkward_sizes()) {
      check_attention({.n = 2, .length = 70, .kv_heads = 1, .group = 3, .head_dim = head_dim});
    }
    for (const int64_t window : {1, 5, 63, 64, 65, 200}) {
      check_attention({.n = 16, .length = 150, .kv_heads = 2, .group = 1, .head_dim = 32, .window = window});
    }
    check_attention({.n = 16, .length = 140, .kv_heads = 1, .group = 9, .head_dim = 64});
  });
}

TEST(AttentionRowsKernel, ATokenIsTheSameToTheBitAloneAndInARun) {
  on_every_target([] {
    for (const int64_t window : {0, 20, 100}) {
      const AttentionData data({.n = 16, .length = 201, .kv_heads = 2, .group = 3, .head_dim = 24, .window = window});
      const auto all = data.run(0, 16);
      const int64_t width = 2 * 3 * 24;
      for (const auto& [first, n] : std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {7, 1}, {15, 1}, {3, 6}, {8, 8}}) {
        const auto some = data.run(first, n);
        EXPECT_EQ(std::memcmp(some.data(), all.data() + first * width, some.size() * sizeof(float)), 0)
            << first << " " << n;
      }
    }
  });
}

TEST(AttentionRowsKernel, ScoresFarApartGiveTheLargestAlone) {
  on_every_target([] {
    const Values q(8, 100.0F);
    Values keys(3 * 8, -100.0F), values(3 * 8), out(8);
    for (size_t j = 0; j < 8; ++j) keys[8 + j] = 100.0F;
    for (size_t j = 0; j < 24; ++j) values[j] = static_cast<float>(j);
    cpu::attention_rows({.q = q.data(),
                         .keys = keys.data(),
                         .values = values.data(),
                         .out = out.data(),
                         .q_stride = 8,
                         .head_stride = 24,
                         .out_stride = 8,
                         .n = 1,
                         .kv_heads = 1,
                         .group = 1,
                         .head_dim = 8,
                         .length = 3,
                         .window = 0,
                         .scale = 1.0F},
                        0, 1);
    for (size_t j = 0; j < 8; ++j) EXPECT_EQ(out[j], static_cast<float>(8 + j));
  });
}

TEST(AttentionRowsKernel, ANaNReachesOnlyWhoSeesIt) {
  on_every_target([] {
    AttentionData data({.n = 4, .length = 80, .kv_heads = 2, .group = 1, .head_dim = 8});
    data.keys[at(77 * 8)] = std::nanf("");     // head 0: queries at positions 77, 78, 79
    data.q[at(data.row + 8)] = std::nanf("");  // query 1 of head 1
    const auto out = data.run(0, 4);
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t h = 0; h < 2; ++h) {
        EXPECT_EQ(std::isnan(out[at(i * 16 + h * 8)]), h == 0 ? i >= 1 : i == 1) << i << " " << h;
      }
    }
  });
}

}  // namespace
}  // namespace winnow::kernels
