#include "winnow/kernels/linear_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/targets.h"
#include "support/awkward_sizes.h"

namespace winnow::kernels {
namespace {

// The value of a float16 or bfloat16, from the definition of the format.
double value_of(uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits >> 15) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

struct Weights {
  RowsDtype dtype;
  std::vector<float> f32;
  std::vector<uint16_t> halves;

  [[nodiscard]] const void* data() const {
    return dtype == RowsDtype::f32 ? static_cast<const void*>(f32.data()) : halves.data();
  }
  [[nodiscard]] double at(size_t i) const {
    if (dtype == RowsDtype::f32) return static_cast<double>(f32[i]);
    return dtype == RowsDtype::f16 ? value_of(halves[i], 5, 10) : value_of(halves[i], 8, 7);
  }
};

// Normal values; the halves are random bits with an exponent near one, so that no rounding rule is needed.
Weights random_weights(RowsDtype dtype, int64_t count, uint32_t seed) {
  Weights w{.dtype = dtype, .f32 = {}, .halves = {}};
  if (dtype == RowsDtype::f32) {
    w.f32 = normal_values<float>(count, seed);
    return w;
  }
  std::mt19937 engine(seed);
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<uint16_t>(engine());
    const bool f16 = dtype == RowsDtype::f16;
    const int exponent = f16 ? (13 + bits % 3) << 10 : (125 + bits % 3) << 7;
    w.halves.push_back(static_cast<uint16_t>((bits & (f16 ? 0x83FF : 0x807F)) | exponent));
  }
  return w;
}

constexpr RowsDtype kDtypes[] = {RowsDtype::f32, RowsDtype::f16, RowsDtype::bf16};

struct Case {
  int64_t n, in, out, x_stride, y_stride;
  bool bias = true;
};

// x and weights begin one element past an aligned address; what lies between the rows of x is NaN.
void check_against_a_plain_loop(const Case& c, RowsDtype dtype) {
  SCOPED_TRACE(::testing::Message() << c.n << " x " << c.in << " -> " << c.out << " dtype " << static_cast<int>(dtype));
  const auto w = random_weights(dtype, 1 + c.out * c.in, 1);
  auto x = normal_values<float>(1 + c.n * c.x_stride, 2);
  for (int64_t r = 0; r < c.n; ++r) {
    for (int64_t k = c.in; k < c.x_stride; ++k) x[static_cast<size_t>(1 + r * c.x_stride + k)] = std::nanf("");
  }
  const auto bias = normal_values<float>(c.out, 3);
  std::vector<float> y(static_cast<size_t>(1 + c.n * c.y_stride), -7.0F);
  const auto* weight = static_cast<const char*>(w.data()) + (dtype == RowsDtype::f32 ? 4 : 2);
  const LinearRows args{.x = x.data() + 1,
                        .x_stride = c.x_stride,
                        .weight = weight,
                        .dtype = dtype,
                        .bias = c.bias ? bias.data() : nullptr,
                        .y = y.data() + 1,
                        .y_stride = c.y_stride,
                        .n = c.n,
                        .in = c.in,
                        .out = c.out};
  cpu::linear_rows(args, 0, c.out);
  EXPECT_EQ(y[0], -7.0F);
  for (int64_t r = 0; r < c.n; ++r) {
    for (int64_t o = 0; o < c.y_stride; ++o) {
      const float got = y[static_cast<size_t>(1 + r * c.y_stride + o)];
      if (o >= c.out) {
        ASSERT_EQ(got, -7.0F) << "written past the outputs";
        continue;
      }
      double sum = c.bias ? static_cast<double>(bias[static_cast<size_t>(o)]) : 0.0, size = std::abs(sum);
      for (int64_t k = 0; k < c.in; ++k) {
        const double product = static_cast<double>(x[static_cast<size_t>(1 + r * c.x_stride + k)]) *
                               w.at(static_cast<size_t>(1 + o * c.in + k));
        sum += product;
        size += std::abs(product);
      }
      ASSERT_NEAR(static_cast<double>(got), sum, 2e-6 * size + 1e-12) << "row " << r << " output " << o;
    }
  }
}

TEST(LinearRowsKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    std::mt19937 engine(5);
    for (const auto dtype : kDtypes) {
      for (const auto in : testing::awkward_sizes_and_empty()) {
        const auto n = static_cast<int64_t>(1 + engine() % 9), out = static_cast<int64_t>(engine() % 30);
        check_against_a_plain_loop({.n = n, .in = in, .out = out, .x_stride = in, .y_stride = out}, dtype);
      }
      for (int64_t n = 0; n <= kLinearRowsMax; n += n < 18 ? 1 : 23) {
        check_against_a_plain_loop({.n = n, .in = 45, .out = 13, .x_stride = 50, .y_stride = 17, .bias = n % 2 == 0},
                                   dtype);
      }
      check_against_a_plain_loop({.n = 2, .in = 700, .out = 300, .x_stride = 701, .y_stride = 300}, dtype);
    }
  });
}

// Rows of 33 values so that vectors, their rest and the padding all take part.
TEST(LinearRowsKernel, ARowIsTheSameToTheBitWhateverRowsStandBesideItAndHoweverOutputsAreSplit) {
  on_every_target([] {
    for (const auto dtype : kDtypes) {
      for (const int64_t in : {33, 256, 1000}) {
        const int64_t out = 61;
        const auto w = random_weights(dtype, out * in, 7);
        const auto x = normal_values<float>(kLinearRowsMax * in, 8), bias = normal_values<float>(out, 9);
        const auto run = [&](int64_t first, int64_t n, const std::vector<int64_t>& cuts) {
          std::vector<float> y(static_cast<size_t>(n * out));
          const LinearRows args{x.data() + first * in, in, w.data(), dtype, bias.data(), y.data(), out, n, in, out};
          for (size_t i = 0; i + 1 < cuts.size(); ++i) cpu::linear_rows(args, cuts[i], cuts[i + 1]);
          return y;
        };
        const auto all = run(0, kLinearRowsMax, {0, out});
        for (int64_t n = 1; n <= 17; ++n) {
          const int64_t first = (n * 5) % 40;
          const auto some = run(first, n, {0, n, 20, 21, out});
          ASSERT_EQ(std::memcmp(some.data(), all.data() + first * out, some.size() * sizeof(float)), 0)
              << n << " rows from " << first << ", in " << in;
        }
      }
    }
  });
}

TEST(LinearRowsKernel, EveryFloat16AndBFloat16IsWidenedExactly) {
  on_every_target([] {
    for (const auto dtype : {RowsDtype::f16, RowsDtype::bf16}) {
      std::vector<uint16_t> weight(1 << 16);
      for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<uint16_t>(i);
      std::vector<float> y(weight.size());
      const float one = 1.0F;
      const auto out = static_cast<int64_t>(weight.size());
      cpu::linear_rows({&one, 1, weight.data(), dtype, nullptr, y.data(), out, 1, 1, out}, 0, out);
      // Whole vectors too: a row of 16 equal weights against (1, 0, 0 ...) gives the weight.
      std::vector<uint16_t> wide(16);
      std::vector<float> first(16, 0.0F);
      first[0] = 1.0F;
      for (size_t i = 0; i < weight.size(); ++i) {
        const double wanted = dtype == RowsDtype::f16 ? value_of(weight[i], 5, 10) : value_of(weight[i], 8, 7);
        if (std::isnan(wanted)) {
          ASSERT_TRUE(std::isnan(y[i])) << i;
          continue;
        }
        ASSERT_EQ(static_cast<double>(y[i]), wanted) << i;
        if (std::isinf(wanted)) continue;
        std::fill(wide.begin(), wide.end(), weight[i]);
        float got = 0;
        cpu::linear_rows({first.data(), 16, wide.data(), dtype, nullptr, &got, 1, 1, 16, 1}, 0, 1);
        ASSERT_EQ(static_cast<double>(got), wanted) << i;
      }
    }
  });
}

TEST(LinearRowsKernel, ANaNStaysInItsRowOrItsOutput) {
  on_every_target([] {
    const int64_t n = 5, in = 21, out = 9;
    for (const int64_t place : {0, 8, 20}) {
      auto x = normal_values<float>(n * in, 1), w = normal_values<float>(out * in, 2);
      x[static_cast<size_t>(2 * in + place)] = std::nanf("");
      w[static_cast<size_t>(4 * in + place)] = std::nanf("");
      std::vector<float> y(static_cast<size_t>(n * out));
      cpu::linear_rows({x.data(), in, w.data(), RowsDtype::f32, nullptr, y.data(), out, n, in, out}, 0, out);
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t o = 0; o < out; ++o) {
          EXPECT_EQ(std::isnan(y[static_cast<size_t>(r * out + o)]), r == 2 || o == 4) << r << " " << o;
        }
      }
    }
  });
}

TEST(LinearRowsKernel, TheGrainIsAtLeastOneOutput) {
  EXPECT_EQ(linear_rows_grain(0), 1);
  EXPECT_EQ(linear_rows_grain(kLinearRowsGrain + 1), 1);
  EXPECT_EQ(linear_rows_grain(kLinearRowsGrain / 4), 4);
}

}  // namespace
}  // namespace winnow::kernels
