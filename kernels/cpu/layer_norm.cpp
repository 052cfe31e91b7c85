#include "winnow/kernels/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layer_norm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V>
HWY_INLINE double total(D d, V v) {
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, v)));
}

template <typename T>
void norm_range(const AddLayerNorm<T>& a, T* sum, T* normalized, T* mean, T* rstd, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto count = static_cast<double>(a.width);
  for (int64_t r = begin; r < end; ++r) {
    const T* row = a.x + r * a.width;
    auto vsum = hn::Zero(d);
    double tail = 0;
    int64_t j = 0;
    const T* delta = a.delta + r * a.width;
    T* added = sum + r * a.width;
    for (; j + n <= a.width; j += n) {
      const auto v = hn::Add(hn::LoadU(d, row + j), hn::LoadU(d, delta + j));
      hn::StoreU(v, d, added + j);
      vsum = hn::Add(vsum, v);
    }
    for (; j < a.width; ++j) tail += static_cast<double>(added[j] = row[j] + delta[j]);
    row = added;
    const T m = static_cast<T>((tail + total(d, vsum)) / count);
    const auto vmean = hn::Set(d, m);
    auto vsquare = hn::Zero(d), verror = hn::Zero(d);
    double square = 0, error = 0;
    for (j = 0; j + n <= a.width; j += n) {
      const auto v = hn::Sub(hn::LoadU(d, row + j), vmean);
      verror = hn::Add(verror, v);
      vsquare = hn::MulAdd(v, v, vsquare);
    }
    for (; j < a.width; ++j) {
      const auto v = static_cast<double>(row[j] - m);
      error += v;
      square += v * v;
    }
    // m is rounded to T: the rest of the mean is taken out of the variance exactly.
    error = (error + total(d, verror)) / count;
    const double variance = std::max(0.0, (square + total(d, vsquare)) / count - error * error);
    const T s = static_cast<T>(1.0 / std::sqrt(variance + a.eps));
    mean[r] = m;
    rstd[r] = s;
    const auto vrstd = hn::Set(d, s);
    T* to = normalized + r * a.width;
    for (j = 0; j + n <= a.width; j += n) {
      const auto v = hn::Mul(hn::Sub(hn::LoadU(d, row + j), vmean), vrstd);
      hn::StoreU(hn::MulAdd(v, hn::LoadU(d, a.weight + j), hn::LoadU(d, a.bias + j)), d, to + j);
    }
    for (; j < a.width; ++j) to[j] = (row[j] - m) * s * a.weight[j] + a.bias[j];
  }
}

template <typename T>
void norm_backward_range(const AddLayerNormGrad<T>& a, T* grad_x, T* partial_weight, T* partial_bias, int64_t begin,
                         int64_t end) {
  const hn::ScalableTag<T> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto count = static_cast<double>(a.width);
  for (int64_t k = begin; k < end; ++k) {
    T* dweight = partial_weight + k * a.width;
    T* dbias = partial_bias + k * a.width;
    std::fill(dweight, dweight + a.width, T{0});
    std::fill(dbias, dbias + a.width, T{0});
    for (int64_t r = k * kLayerNormBlock; r < std::min(a.rows, (k + 1) * kLayerNormBlock); ++r) {
      const T* grad = a.grad_normalized + r * a.width;
      const T* row = a.sum + r * a.width;
      const T m = a.mean[r], s = a.rstd[r];
      const auto vmean = hn::Set(d, m), vrstd = hn::Set(d, s);
      auto vsum = hn::Zero(d), vdot = hn::Zero(d);
      double sum = 0, dot = 0;
      int64_t j = 0;
      for (; j + n <= a.width; j += n) {
        const auto g = hn::LoadU(d, grad + j);
        const auto x = hn::Mul(hn::Sub(hn::LoadU(d, row + j), vmean), vrstd);
        hn::StoreU(hn::Add(hn::LoadU(d, dbias + j), g), d, dbias + j);
        hn::StoreU(hn::MulAdd(g, x, hn::LoadU(d, dweight + j)), d, dweight + j);
        const auto gw = hn::Mul(g, hn::LoadU(d, a.weight + j));
        vsum = hn::Add(vsum, gw);
        vdot = hn::MulAdd(gw, x, vdot);
      }
      for (; j < a.width; ++j) {
        const T x = (row[j] - m) * s, gw = grad[j] * a.weight[j];
        dbias[j] += grad[j];
        dweight[j] += grad[j] * x;
        sum += static_cast<double>(gw);
        dot += static_cast<double>(gw * x);
      }
      const T mean_sum = static_cast<T>((sum + total(d, vsum)) / count);
      const T mean_dot = static_cast<T>((dot + total(d, vdot)) / count);
      const auto vmean_sum = hn::Set(d, mean_sum), vmean_dot = hn::Set(d, mean_dot);
      const T* residual = a.grad_sum == nullptr ? nullptr : a.grad_sum + r * a.width;
      T* to = grad_x + r * a.width;
      for (j = 0; j + n <= a.width; j += n) {
        const auto x = hn::Mul(hn::Sub(hn::LoadU(d, row + j), vmean), vrstd);
        const auto gw = hn::Mul(hn::LoadU(d, grad + j), hn::LoadU(d, a.weight + j));
        auto v = hn::Mul(hn::Sub(gw, hn::MulAdd(x, vmean_dot, vmean_sum)), vrstd);
        if (residual != nullptr) v = hn::Add(v, hn::LoadU(d, residual + j));
        hn::StoreU(v, d, to + j);
      }
      for (; j < a.width; ++j) {
        const T x = (row[j] - m) * s;
        to[j] = (grad[j] * a.weight[j] - mean_sum - x * mean_dot) * s + (residual == nullptr ? T{0} : residual[j]);
      }
    }
  }
}

void norm_f32(const AddLayerNorm<float>& a, float* sum, float* normalized, float* mean, float* rstd, int64_t begin,
              int64_t end) {
  norm_range(a, sum, normalized, mean, rstd, begin, end);
}
void norm_f64(const AddLayerNorm<double>& a, double* sum, double* normalized, double* mean, double* rstd, int64_t begin,
              int64_t end) {
  norm_range(a, sum, normalized, mean, rstd, begin, end);
}
void norm_backward_f32(const AddLayerNormGrad<float>& a, float* grad_x, float* partial_weight, float* partial_bias,
                       int64_t begin, int64_t end) {
  norm_backward_range(a, grad_x, partial_weight, partial_bias, begin, end);
}
void norm_backward_f64(const AddLayerNormGrad<double>& a, double* grad_x, double* partial_weight, double* partial_bias,
                       int64_t begin, int64_t end) {
  norm_backward_range(a, grad_x, partial_weight, partial_bias, begin, end);
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(norm_f32);
HWY_EXPORT(norm_f64);
HWY_EXPORT(norm_backward_f32);
HWY_EXPORT(norm_backward_f64);

namespace cpu {

void add_layer_norm(const AddLayerNorm<float>& args, float* sum, float* normalized, float* mean, float* rstd,
                    int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(norm_f32)(args, sum, normalized, mean, rstd, begin, end);
}
void add_layer_norm(const AddLayerNorm<double>& args, double* sum, double* normalized, double* mean, double* rstd,
                    int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(norm_f64)(args, sum, normalized, mean, rstd, begin, end);
}
void add_layer_norm_backward(const AddLayerNormGrad<float>& args, float* grad_x, float* partial_weight,
                             float* partial_bias, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(norm_backward_f32)(args, grad_x, partial_weight, partial_bias, begin, end);
}
void add_layer_norm_backward(const AddLayerNormGrad<double>& args, double* grad_x, double* partial_weight,
                             double* partial_bias, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(norm_backward_f64)(args, grad_x, partial_weight, partial_bias, begin, end);
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
