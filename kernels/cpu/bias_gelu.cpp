#include "winnow/kernels/bias_gelu.h"

#include <algorithm>
#include <cmath>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bias_gelu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Phi(x), the normal distribution function, and e = exp(-x^2/2), which its density needs too. Abramowitz and Stegun,
// formula 7.1.26: erfc(z) = (a1 t + ... + a5 t^5) exp(-z^2), t = 1 / (1 + p z), within 1.5e-7; z = |x| / sqrt(2).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V normal_cdf(D d, V x, V* e) {
  const auto z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678118654752F));
  const auto t = hn::Div(hn::Set(d, 1.0F), hn::MulAdd(z, hn::Set(d, 0.3275911F), hn::Set(d, 1.0F)));
  *e = hn::Exp(d, hn::Neg(hn::Mul(z, z)));
  auto poly = hn::MulAdd(t, hn::Set(d, 1.061405429F), hn::Set(d, -1.453152027F));
  poly = hn::MulAdd(t, poly, hn::Set(d, 1.421413741F));
  poly = hn::MulAdd(t, poly, hn::Set(d, -0.284496736F));
  poly = hn::MulAdd(t, poly, hn::Set(d, 0.254829592F));
  const auto tail = hn::Mul(hn::Mul(hn::Mul(t, poly), *e), hn::Set(d, 0.5F));  // Phi(-|x|)
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0F), tail));
}

void gelu_f32(const float* x, const float* bias, int64_t width, float* out, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> wide;
  const hn::CappedTag<float, 1> one;
  const auto n = static_cast<int64_t>(hn::Lanes(wide));
  for (int64_t r = begin; r < end; ++r) {
    const float* row = x + r * width;
    float* to = out + r * width;
    int64_t j = 0;
    for (; j + n <= width; j += n) {
      const auto v = hn::Add(hn::LoadU(wide, row + j), hn::LoadU(wide, bias + j));
      auto e = v;
      hn::StoreU(hn::Mul(v, normal_cdf(wide, v, &e)), wide, to + j);
    }
    for (; j < width; ++j) {
      const auto v = hn::Set(one, row[j] + bias[j]);
      auto e = v;
      hn::StoreU(hn::Mul(v, normal_cdf(one, v, &e)), one, to + j);
    }
  }
}

// grad * (Phi(x) + x * density(x)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_gradient(D d, V x, V grad) {
  auto e = x;
  const auto cdf = normal_cdf(d, x, &e);
  const auto density = hn::Mul(e, hn::Set(d, 0.39894228040143268F));
  return hn::Mul(grad, hn::MulAdd(x, density, cdf));
}

void gelu_backward_f32(const float* grad, const float* x, const float* bias, int64_t rows, int64_t width, float* grad_x,
                       float* partial, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> wide;
  const hn::CappedTag<float, 1> one;
  const auto n = static_cast<int64_t>(hn::Lanes(wide));
  for (int64_t k = begin; k < end; ++k) {
    float* sums = partial + k * width;
    std::fill(sums, sums + width, 0.0F);
    for (int64_t r = k * kBiasGeluBlock; r < std::min(rows, (k + 1) * kBiasGeluBlock); ++r) {
      const int64_t base = r * width;
      int64_t j = 0;
      for (; j + n <= width; j += n) {
        const auto v = hn::Add(hn::LoadU(wide, x + base + j), hn::LoadU(wide, bias + j));
        const auto g = gelu_gradient(wide, v, hn::LoadU(wide, grad + base + j));
        hn::StoreU(g, wide, grad_x + base + j);
        hn::StoreU(hn::Add(hn::LoadU(wide, sums + j), g), wide, sums + j);
      }
      for (; j < width; ++j) {
        const auto g = gelu_gradient(one, hn::Set(one, x[base + j] + bias[j]), hn::Set(one, grad[base + j]));
        hn::StoreU(g, one, grad_x + base + j);
        sums[j] += grad_x[base + j];
      }
    }
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(gelu_f32);
HWY_EXPORT(gelu_backward_f32);

namespace cpu {

void bias_gelu(const float* x, const float* bias, int64_t width, float* out, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(gelu_f32)(x, bias, width, out, begin, end);
}

void bias_gelu_backward(const float* grad, const float* x, const float* bias, int64_t rows, int64_t width,
                        float* grad_x, float* partial, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(gelu_backward_f32)(grad, x, bias, rows, width, grad_x, partial, begin, end);
}

// double serves gradient checks, which want every digit: the C library's erfc.
void bias_gelu(const double* x, const double* bias, int64_t width, double* out, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    for (int64_t j = 0; j < width; ++j) {
      const double v = x[r * width + j] + bias[j];
      out[r * width + j] = v * 0.5 * std::erfc(-v * 0.70710678118654752440);
    }
  }
}

void bias_gelu_backward(const double* grad, const double* x, const double* bias, int64_t rows, int64_t width,
                        double* grad_x, double* partial, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    double* sums = partial + k * width;
    std::fill(sums, sums + width, 0.0);
    for (int64_t r = k * kBiasGeluBlock; r < std::min(rows, (k + 1) * kBiasGeluBlock); ++r) {
      for (int64_t j = 0; j < width; ++j) {
        const double v = x[r * width + j] + bias[j];
        const double cdf = 0.5 * std::erfc(-v * 0.70710678118654752440);
        const double density = 0.39894228040143267794 * std::exp(-0.5 * v * v);
        const double g = grad[r * width + j] * (cdf + v * density);
        grad_x[r * width + j] = g;
        sums[j] += g;
      }
    }
  }
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
