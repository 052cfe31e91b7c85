#include "winnow/kernels/norm_rows.h"

#include <cmath>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The mean of x, or of sum = x + delta, which is written on the way.
HWY_INLINE float add_and_mean(const NormRows& a, const float* x, const float* delta, float* sum) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  auto total = hn::Zero(d);
  double rest = 0;
  int64_t j = 0;
  for (; j + n <= a.width; j += n) {
    auto v = hn::LoadU(d, x + j);
    if (delta != nullptr) {
      v = hn::Add(v, hn::LoadU(d, delta + j));
      hn::StoreU(v, d, sum + j);
    }
    total = hn::Add(total, v);
  }
  for (; j < a.width; ++j) {
    const float v = delta == nullptr ? x[j] : x[j] + delta[j];
    if (delta != nullptr) sum[j] = v;
    rest += static_cast<double>(v);
  }
  rest += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, total)));
  return static_cast<float>(rest / static_cast<double>(a.width));
}

// Mean of (x - mean)^2, where the mean's own rounding is taken out again.
HWY_INLINE double mean_square(const float* x, int64_t width, float mean) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto m = hn::Set(d, mean);
  auto squares = hn::Zero(d), errors = hn::Zero(d);
  double square = 0, error = 0;
  int64_t j = 0;
  for (; j + n <= width; j += n) {
    const auto v = hn::Sub(hn::LoadU(d, x + j), m);
    errors = hn::Add(errors, v);
    squares = hn::MulAdd(v, v, squares);
  }
  for (; j < width; ++j) {
    const auto v = static_cast<double>(x[j] - mean);
    error += v;
    square += v * v;
  }
  const auto count = static_cast<double>(width);
  error = (error + static_cast<double>(hn::GetLane(hn::SumOfLanes(d, errors)))) / count;
  square = (square + static_cast<double>(hn::GetLane(hn::SumOfLanes(d, squares)))) / count;
  return mean == 0.0F ? square : square - error * error;
}

void norm_range(const NormRows& a, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float* x = a.x + r * a.x_stride;
    const float* delta = a.delta == nullptr ? nullptr : a.delta + r * a.delta_stride;
    float mean = 0;
    if (delta != nullptr || !a.rms)
      mean = add_and_mean(a, x, delta, delta == nullptr ? nullptr : a.sum + r * a.x_stride);
    if (delta != nullptr) x = a.sum + r * a.x_stride;
    if (a.rms) mean = 0;
    const double variance = mean_square(x, a.width, mean);
    // std::max would turn NaN into 0.
    const auto s = static_cast<float>(1.0 / std::sqrt((variance < 0 ? 0 : variance) + a.eps));
    const auto vmean = hn::Set(d, mean), vs = hn::Set(d, s);
    float* y = a.y + r * a.y_stride;
    int64_t j = 0;
    for (; j + n <= a.width; j += n) {
      auto v = hn::Mul(hn::Sub(hn::LoadU(d, x + j), vmean), vs);
      if (a.weight != nullptr) v = hn::Mul(v, hn::LoadU(d, a.weight + j));
      if (a.bias != nullptr) v = hn::Add(v, hn::LoadU(d, a.bias + j));
      hn::StoreU(v, d, y + j);
    }
    for (; j < a.width; ++j) {
      float v = (x[j] - mean) * s;
      if (a.weight != nullptr) v *= a.weight[j];
      if (a.bias != nullptr) v += a.bias[j];
      y[j] = v;
    }
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(norm_range);

void cpu::norm_rows(const NormRows& args, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(norm_range)(args, begin, end);
}

}  // namespace winnow::kernels
#endif
