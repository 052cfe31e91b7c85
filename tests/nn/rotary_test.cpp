#include "winnow/nn/rotary.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

RotaryOptions options_of(int64_t dim, RotaryLayout layout = RotaryLayout::halves) {
  RotaryOptions options;
  options.dim = dim;
  options.layout = layout;
  return options;
}

// The definition: a pair of elements is a complex number, turned by exp(i m theta^(-2i/r)).
at::Tensor turned_by_complex(const at::Tensor& x, const RotaryOptions& o, const std::vector<double>& positions) {
  auto out = x.clone();
  const auto r = o.dim;
  for (int64_t l = 0; l < x.size(2); ++l) {
    for (int64_t i = 0; i < r / 2; ++i) {
      const int64_t a = o.layout == RotaryLayout::halves ? i : 2 * i;
      const int64_t b = o.layout == RotaryLayout::halves ? i + r / 2 : 2 * i + 1;
      const double angle =
          positions[static_cast<size_t>(l)] * std::pow(o.theta, -2.0 * static_cast<double>(i) / static_cast<double>(r));
      const auto factor = std::polar(1.0, angle);
      for (int64_t n = 0; n < x.size(0); ++n) {
        for (int64_t h = 0; h < x.size(1); ++h) {
          const auto z = std::complex<double>(x[n][h][l][a].item<double>(), x[n][h][l][b].item<double>()) * factor;
          out[n][h][l][a] = z.real();
          out[n][h][l][b] = z.imag();
        }
      }
    }
  }
  return out;
}

TEST(Rotary, TurnsPairsAsComplexNumbersInBothLayoutsAlsoPartially) {
  const auto x = at::randn({2, 3, 4, 10}, at::kDouble);
  for (const int64_t dim : {2, 6, 10}) {
    for (const auto layout : {RotaryLayout::halves, RotaryLayout::interleaved}) {
      const auto options = options_of(dim, layout);
      const auto table = rotary_table(options, at::tensor({0, 1, 5, 2}, at::kLong), at::kDouble);
      EXPECT_TENSOR_NEAR(apply_rotary(x, table), turned_by_complex(x, options, {0, 1, 5, 2}), 1e-12);
    }
  }
}

TEST(Rotary, ScoresDependOnTheDistanceOnly) {
  const auto options = options_of(8);
  const auto q = at::randn({1, 1, 1, 8}, at::kDouble), k = at::randn({1, 1, 1, 8}, at::kDouble);
  const auto score = [&](int64_t m, int64_t n) {
    const auto at_m = apply_rotary(q, rotary_table(options, at::tensor({m}, at::kLong), at::kDouble));
    const auto at_n = apply_rotary(k, rotary_table(options, at::tensor({n}, at::kLong), at::kDouble));
    return (at_m * at_n).sum().item<double>();
  };
  EXPECT_NEAR(score(9, 4), score(105, 100), 1e-10);
  EXPECT_GT(std::abs(score(9, 4) - score(9, 5)), 1e-6);
}

TEST(Rotary, EachRowOfTheBatchMayHavePositionsOfItsOwn) {
  const auto options = options_of(4);
  const auto x = at::randn({2, 2, 3, 4}, at::kDouble);
  const auto positions = at::tensor({0, 1, 2, 7, 8, 9}, at::kLong).view({2, 3});
  const auto got = apply_rotary(x, rotary_table(options, positions, at::kDouble));
  for (int64_t row = 0; row < 2; ++row) {
    const auto alone = apply_rotary(x.narrow(0, row, 1), rotary_table(options, positions[row], at::kDouble));
    EXPECT_TENSOR_NEAR(got.narrow(0, row, 1), alone, 1e-14);
  }
}

TEST(Rotary, LinearScalingIsPositionInterpolation) {
  auto options = options_of(8);
  const auto plain = rotary_table(options, at::tensor({0.0, 0.25, 0.5}, at::kDouble), at::kDouble);
  options.scaling = RotaryScaling::linear;
  options.factor = 4.0;
  const auto scaled = rotary_table(options, at::tensor({0, 1, 2}, at::kLong), at::kDouble);
  EXPECT_TENSOR_NEAR(scaled.cos, plain.cos, 1e-14);
  EXPECT_TENSOR_NEAR(scaled.sin, plain.sin, 1e-14);
}

TEST(Rotary, Llama3KeepsShortWavelengthsDividesLongOnesAndBlendsBetween) {
  auto options = options_of(16);
  options.theta = 5000.0;
  options.scaling = RotaryScaling::llama3;
  options.factor = 8.0;
  options.original_max_positions = 64;
  const auto got = rotary_frequencies(options, at::kDouble);
  int kept = 0, divided = 0, blended = 0;
  for (int64_t i = 0; i < 8; ++i) {
    const double f = std::pow(5000.0, -static_cast<double>(i) / 8.0), wavelength = 2 * std::numbers::pi / f;
    double wanted = f;
    if (wavelength > 64.0 / 1.0) {
      wanted = f / 8.0;
      ++divided;
    } else if (wavelength < 64.0 / 4.0) {
      ++kept;
    } else {
      const double s = (64.0 / wavelength - 1.0) / 3.0;
      wanted = (1 - s) * f / 8.0 + s * f;
      ++blended;
    }
    EXPECT_NEAR(got[i].item<double>(), wanted, 1e-14);
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(divided, 0);
  EXPECT_GT(blended, 0);
}

TEST(Rotary, YarnKeepsFastDividesSlowAndScalesTheTable) {
  auto options = options_of(64);
  options.scaling = RotaryScaling::yarn;
  options.factor = 4.0;
  options.original_max_positions = 2048;
  const auto got = rotary_frequencies(options, at::kDouble);
  // Frequency i makes 2048 f_i / 2 pi turns; the ramp runs between the rounded places of 32 and of 1 turn.
  const auto place = [](double turns) {
    return 64.0 * std::log(2048.0 / (turns * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
  };
  const double low = std::floor(place(32.0)), high = std::ceil(place(1.0));
  EXPECT_EQ(low, 8.0);
  EXPECT_EQ(high, 21.0);
  for (int64_t i = 0; i < 32; ++i) {
    const double f = std::pow(10000.0, -static_cast<double>(i) / 32.0);
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    EXPECT_NEAR(got[i].item<double>(), f / 4.0 * ramp + f * (1 - ramp), 1e-14);
  }
  EXPECT_NEAR(rotary_table_factor(options), 0.1 * std::log(4.0) + 1.0, 1e-15);
  const auto table = rotary_table(options, at::tensor({0}, at::kLong), at::kDouble);
  EXPECT_TENSOR_NEAR(table.cos, at::full({1, 32}, 0.1 * std::log(4.0) + 1.0, at::kDouble), 1e-15);
  options.mscale = 1.0;
  options.mscale_all_dim = 0.5;
  EXPECT_NEAR(rotary_table_factor(options), (0.1 * std::log(4.0) + 1.0) / (0.05 * std::log(4.0) + 1.0), 1e-15);
  options.attention_factor = 1.5;
  EXPECT_EQ(rotary_table_factor(options), 1.5);
}

TEST(Rotary, AxialTablesTurnHalfOfThePairsWithEachCoordinate) {
  const auto options = options_of(8);
  const auto by_row = rotary_table_2d(options, {3, 4}, GridOrder::row_first, at::kDouble);
  const auto by_column = rotary_table_2d(options, {3, 4}, GridOrder::column_first, at::kDouble);
  ASSERT_EQ(by_row.cos.sizes(), (std::vector<int64_t>{12, 4}));
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 4; ++c) {
      for (int64_t i = 0; i < 2; ++i) {
        const double f = std::pow(10000.0, -static_cast<double>(i) / 2.0);
        const auto token = r * 4 + c;
        EXPECT_NEAR(by_row.sin[token][i].item<double>(), std::sin(static_cast<double>(r) * f), 1e-14);
        EXPECT_NEAR(by_row.sin[token][2 + i].item<double>(), std::sin(static_cast<double>(c) * f), 1e-14);
        EXPECT_NEAR(by_column.cos[token][i].item<double>(), std::cos(static_cast<double>(c) * f), 1e-14);
        EXPECT_NEAR(by_column.cos[token][2 + i].item<double>(), std::cos(static_cast<double>(r) * f), 1e-14);
      }
    }
  }
}

TEST(Rotary, TheGradientIsTheInverseTurn) {
  const auto options = options_of(6, RotaryLayout::interleaved);
  const auto table = rotary_table(options, at::tensor({3, 4}, at::kLong), at::kDouble);
  const auto inverse = rotary_table(options, at::tensor({-3, -4}, at::kLong), at::kDouble);
  const auto x = at::randn({1, 2, 2, 7}, at::kDouble).requires_grad_();
  const auto cotangent = at::randn({1, 2, 2, 7}, at::kDouble);
  (apply_rotary(x, table) * cotangent).sum().backward();
  EXPECT_TENSOR_NEAR(x.grad(), apply_rotary(cotangent, inverse), 1e-12);
}

TEST(Rotary, KeepsTheDtypeOfTheHeads) {
  const auto table = rotary_table(options_of(4), at::tensor({0, 1}, at::kLong));
  EXPECT_EQ(table.cos.scalar_type(), at::kFloat);
  EXPECT_EQ(apply_rotary(at::randn({1, 1, 2, 4}).to(at::kBFloat16), table).scalar_type(), at::kBFloat16);
}

TEST(Rotary, SaysWhatIsWrong) {
  const auto table = rotary_table(options_of(4), at::tensor({0, 1}, at::kLong));
  EXPECT_ERROR(apply_rotary(at::randn({1, 1, 2, 3}), table), "apply_rotary: x must have heads of at least 4, got 3");
  EXPECT_ERROR(apply_rotary(at::randn({1, 1, 3, 4}), table), "apply_rotary: table must have 3 positions, got 2");
  EXPECT_ERROR(apply_rotary(at::randn({1, 3, 4}), table), "apply_rotary: x must");
  EXPECT_ERROR(apply_rotary(at::randn({1, 1, 2, 4}), {}), "apply_rotary: table must be defined");
  EXPECT_ERROR(rotary_frequencies(options_of(5)), "Rotary: dim must be even, got 5");
  EXPECT_ERROR(rotary_frequencies(options_of(4), at::kHalf), "Rotary: dtype must be float32 or float64, got Half");
  EXPECT_ERROR(rotary_table_2d(options_of(6), {2, 2}), "rotary_table_2d: dim must be divisible by 4, got 6");
  EXPECT_ERROR(rotary_table_2d(options_of(8), {0, 2}), "rotary_table_2d: grid must be at least 1 x 1, got 0 x 2");
  EXPECT_ERROR(rotary_table(options_of(4), at::zeros({1, 1, 1})), "rotary_table: positions must be [L] or [B, L]");
  auto llama = options_of(4);
  llama.scaling = RotaryScaling::llama3;
  EXPECT_ERROR(rotary_frequencies(llama), "Rotary: original_max_positions must be >= 1 with llama3 scaling, got 0");
  llama.original_max_positions = 8;
  llama.low_freq_factor = 4.0;
  EXPECT_ERROR(rotary_frequencies(llama), "Rotary: low_freq_factor must be below high_freq_factor 4, got 4");
}

}  // namespace
}  // namespace winnow
