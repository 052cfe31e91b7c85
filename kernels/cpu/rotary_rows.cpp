#include "winnow/kernels/rotary_rows.h"

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rotary_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE void turn_halves(float* x, const float* cos, const float* sin, int64_t half) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= half; i += n) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    const auto c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, x + i);
    hn::StoreU(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

HWY_INLINE void turn_interleaved(float* x, const float* cos, const float* sin, int64_t half) {
  const hn::ScalableTag<float> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + n <= half; i += n) {
    hn::Vec<decltype(d)> a, b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const auto c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    hn::StoreInterleaved2(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), hn::Add(hn::Mul(b, c), hn::Mul(a, s)), d, x + 2 * i);
  }
  for (; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void rotary_range(const RotaryRows& a, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float *cos = a.cos + r * a.half, *sin = a.sin + r * a.half;
    for (int64_t h = 0; h < a.heads; ++h) {
      float* x = a.x + r * a.x_stride + h * a.head_dim;
      if (a.interleaved) {
        turn_interleaved(x, cos, sin, a.half);
      } else {
        turn_halves(x, cos, sin, a.half);
      }
    }
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(rotary_range);

void cpu::rotary_rows(const RotaryRows& args, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(rotary_range)(args, begin, end);
}

}  // namespace winnow::kernels
#endif
