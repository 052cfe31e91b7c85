#include "winnow/nn/rotary.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow {

EnumNames<RotaryLayout> enum_names(RotaryLayout) {
  return {{"halves", RotaryLayout::halves}, {"interleaved", RotaryLayout::interleaved}};
}

EnumNames<RotaryScaling> enum_names(RotaryScaling) {
  return {{"none", RotaryScaling::none},
          {"linear", RotaryScaling::linear},
          {"llama3", RotaryScaling::llama3},
          {"yarn", RotaryScaling::yarn}};
}

Fields<RotaryOptions> RotaryOptions::fields() {
  return Fields<RotaryOptions>("Rotary")
      .add("dim", &RotaryOptions::dim, "elements of a head that are turned, even", at_least(2))
      .add("theta", &RotaryOptions::theta, "base of the frequencies", above(1))
      .add("layout", &RotaryOptions::layout, "which elements turn together")
      .add("scaling", &RotaryOptions::scaling, "change of the frequencies for longer contexts")
      .add("factor", &RotaryOptions::factor, "how many times longer the context is", above(0))
      .add("original_max_positions", &RotaryOptions::original_max_positions, "context trained on; llama3 and yarn",
           at_least(0))
      .add("low_freq_factor", &RotaryOptions::low_freq_factor, "llama3: longer wavelengths are scaled", above(0))
      .add("high_freq_factor", &RotaryOptions::high_freq_factor, "llama3: shorter wavelengths are kept", above(0))
      .add("beta_fast", &RotaryOptions::beta_fast, "yarn: turns from which frequencies are kept", above(0))
      .add("beta_slow", &RotaryOptions::beta_slow, "yarn: turns below which frequencies are scaled", above(0))
      .add("truncate", &RotaryOptions::truncate, "yarn: whole ends of the ramp")
      .add("attention_factor", &RotaryOptions::attention_factor, "yarn: factor of the table", above(0))
      .add("mscale", &RotaryOptions::mscale, "yarn: numerator of the table's factor")
      .add("mscale_all_dim", &RotaryOptions::mscale_all_dim, "yarn: denominator of the table's factor")
      .rule([](const RotaryOptions& o) {
        WINNOW_CHECK(o.dim % 2 == 0, "Rotary: dim must be even, got {}", o.dim);
        const bool needs_length = o.scaling == RotaryScaling::llama3 || o.scaling == RotaryScaling::yarn;
        WINNOW_CHECK(!needs_length || o.original_max_positions >= 1,
                     "Rotary: original_max_positions must be >= 1 with {} scaling, got {}", enum_name(o.scaling),
                     o.original_max_positions);
        WINNOW_CHECK(o.scaling != RotaryScaling::llama3 || o.low_freq_factor < o.high_freq_factor,
                     "Rotary: low_freq_factor must be below high_freq_factor {}, got {}", o.high_freq_factor,
                     o.low_freq_factor);
      });
}

namespace {

at::Tensor llama3_frequencies(const RotaryOptions& o, const at::Tensor& plain) {
  const auto original = static_cast<double>(o.original_max_positions);
  const auto wavelength = 2.0 * std::numbers::pi / plain;
  const auto ramp = (original / wavelength - o.low_freq_factor) / (o.high_freq_factor - o.low_freq_factor);
  const auto between = (1.0 - ramp) * plain / o.factor + ramp * plain;
  auto scaled = at::where(wavelength > original / o.low_freq_factor, plain / o.factor, plain);
  const auto in_between =
      (wavelength >= original / o.high_freq_factor).logical_and(wavelength <= original / o.low_freq_factor);
  return at::where(in_between, between, scaled);
}

// The frequency number at which a context makes `turns` full turns.
double yarn_dimension(const RotaryOptions& o, double turns) {
  const auto dim = static_cast<double>(o.dim), original = static_cast<double>(o.original_max_positions);
  return dim * std::log(original / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(o.theta));
}

at::Tensor yarn_frequencies(const RotaryOptions& o, const at::Tensor& bases) {
  double low = yarn_dimension(o, o.beta_fast), high = yarn_dimension(o, o.beta_slow);
  if (o.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(o.dim - 1));
  if (low == high) high += 0.001;
  const auto number = at::arange(o.dim / 2, bases.options());
  const auto kept = 1.0 - ((number - low) / (high - low)).clamp(0.0, 1.0);
  return (1.0 / (bases * o.factor)) * (1.0 - kept) + (1.0 / bases) * kept;
}

void check_rotary_dtype(at::ScalarType dtype) {
  WINNOW_CHECK(dtype == at::kFloat || dtype == at::kDouble, "Rotary: dtype must be float32 or float64, got {}",
               c10::toString(dtype));
}

}  // namespace

at::Tensor rotary_frequencies(const RotaryOptions& options, at::ScalarType dtype) {
  check(options);
  check_rotary_dtype(dtype);
  const auto exponent = at::arange(0, options.dim, 2, at::TensorOptions(dtype)) / options.dim;
  const auto bases = at::pow(options.theta, exponent);  // [r/2]
  switch (options.scaling) {
    case RotaryScaling::none: return 1.0 / bases;
    case RotaryScaling::linear: return 1.0 / bases / options.factor;
    case RotaryScaling::llama3: return llama3_frequencies(options, 1.0 / bases);
    case RotaryScaling::yarn: return yarn_frequencies(options, bases);
  }
  fail(ErrorKind::argument, "Rotary: scaling must be one of the enum, got {}", static_cast<int>(options.scaling));
}

double rotary_table_factor(const RotaryOptions& options) {
  if (options.scaling != RotaryScaling::yarn) return 1.0;
  if (options.attention_factor) return *options.attention_factor;
  const auto magnitude = [&](double mscale) {
    return options.factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(options.factor) + 1.0;
  };
  const double upper = options.mscale.value_or(0.0), lower = options.mscale_all_dim.value_or(0.0);
  return upper != 0.0 && lower != 0.0 ? magnitude(upper) / magnitude(lower) : magnitude(1.0);
}

namespace {

RotaryTable table_of_angles(const RotaryOptions& options, const at::Tensor& angles) {
  const double factor = rotary_table_factor(options);
  auto cos = angles.cos(), sin = angles.sin();
  if (factor != 1.0) {
    cos.mul_(factor);
    sin.mul_(factor);
  }
  return {.cos = std::move(cos), .sin = std::move(sin), .layout = options.layout};
}

}  // namespace

RotaryTable rotary_table(const RotaryOptions& options, const at::Tensor& positions, at::ScalarType dtype) {
  check_defined("rotary_table: positions", positions);
  WINNOW_CHECK(positions.dim() == 1 || positions.dim() == 2, "rotary_table: positions must be [L] or [B, L], got [{}]",
               fmt::join(positions.sizes(), ", "));
  const auto frequencies = rotary_frequencies(options, dtype).to(positions.device());
  return table_of_angles(options, positions.detach().to(dtype).unsqueeze(-1) * frequencies);
}

RotaryTable rotary_table_2d(const RotaryOptions& options, GridSize grid, GridOrder order, at::ScalarType dtype) {
  check(options);
  WINNOW_CHECK(options.dim % 4 == 0, "rotary_table_2d: dim must be divisible by 4, got {}", options.dim);
  WINNOW_CHECK(grid.rows >= 1 && grid.columns >= 1, "rotary_table_2d: grid must be at least 1 x 1, got {} x {}",
               grid.rows, grid.columns);
  auto axis = options;
  axis.dim = options.dim / 2;
  const auto frequencies = rotary_frequencies(axis, dtype);  // [r/4]
  const auto quarter = options.dim / 4;
  const auto angles = [&](int64_t size) { return at::outer(at::arange(size, at::TensorOptions(dtype)), frequencies); };
  const auto row = angles(grid.rows).view({grid.rows, 1, quarter}).expand({-1, grid.columns, -1});
  const auto column = angles(grid.columns).view({1, grid.columns, quarter}).expand({grid.rows, -1, -1});
  const auto both = order == GridOrder::row_first ? at::cat({row, column}, 2) : at::cat({column, row}, 2);
  return table_of_angles(options, both.flatten(0, 1));
}

at::Tensor apply_rotary(const at::Tensor& x, const RotaryTable& table) {
  WINNOW_CHECK(table.defined() && table.sin.defined(), "apply_rotary: table must be defined");
  check_dim("apply_rotary: x", x, 4);
  const auto half = table.cos.size(-1);
  WINNOW_CHECK(x.size(3) >= 2 * half, "apply_rotary: x must have heads of at least {}, got {}", 2 * half, x.size(3));
  WINNOW_CHECK(table.cos.size(-2) == x.size(2), "apply_rotary: table must have {} positions, got {}", x.size(2),
               table.cos.size(-2));
  const bool per_row = table.cos.dim() == 3;
  WINNOW_CHECK(!per_row || table.cos.size(0) == x.size(0) || table.cos.size(0) == 1,
               "apply_rotary: table must have {} or 1 rows of positions, got {}", x.size(0), table.cos.size(0));
  auto cos = table.cos.to(x.options()), sin = table.sin.to(x.options());
  if (per_row) {
    cos = cos.unsqueeze(1);  // [B, 1, L, r/2]
    sin = sin.unsqueeze(1);
  }
  const auto turned = x.narrow(3, 0, 2 * half);
  std::vector<at::Tensor> parts;
  if (table.layout == RotaryLayout::halves) {
    const auto a = x.narrow(3, 0, half), b = x.narrow(3, half, half);
    parts = {a * cos - b * sin, b * cos + a * sin};
  } else {
    const auto pairs = turned.unflatten(3, {half, 2});
    const auto a = pairs.select(4, 0), b = pairs.select(4, 1);
    parts = {at::stack({a * cos - b * sin, b * cos + a * sin}, 4).flatten(3)};
  }
  if (x.size(3) > 2 * half) parts.push_back(x.narrow(3, 2 * half, x.size(3) - 2 * half));
  return parts.size() == 1 ? parts[0] : at::cat(parts, 3);
}

}  // namespace winnow
