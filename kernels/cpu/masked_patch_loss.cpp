#include "winnow/kernels/masked_patch_loss.h"

#include <cmath>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/masked_patch_loss.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Pixel (channel 0, row 0, column 0) of the patch of prediction i.
template <typename T>
const T* patch_origin(const MaskedPatchLoss<T>& a, int64_t i) {
  const int64_t number = a.patches == nullptr ? i : a.patches[i];
  const int64_t grid_w = a.width / a.patch, per_image = (a.height / a.patch) * grid_w;
  const int64_t b = number / per_image, row = number % per_image / grid_w, col = number % grid_w;
  return a.image + (b * a.channels * a.height + row * a.patch) * a.width + col * a.patch;
}

// Sum over the patch of (x - shift) and of its square, minus nothing: one pass. D has at most `patch` lanes or four.
template <bool kSquare, class D, typename T>
double shifted_sum(D d, const MaskedPatchLoss<T>& a, const T* origin, T shift) {
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto vshift = hn::Set(d, shift);
  auto sum = hn::Zero(d);
  double tail = 0;
  for (int64_t c = 0; c < a.channels; ++c) {
    for (int64_t y = 0; y < a.patch; ++y) {
      const T* row = origin + (c * a.height + y) * a.width;
      int64_t x = 0;
      for (; x + n <= a.patch; x += n) {
        const auto v = hn::Sub(hn::LoadU(d, row + x), vshift);
        sum = kSquare ? hn::MulAdd(v, v, sum) : hn::Add(sum, v);
      }
      for (; x < a.patch; ++x) {
        const double v = static_cast<double>(row[x] - shift);
        tail += kSquare ? v * v : v;
      }
    }
  }
  return tail + static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
}

template <class D, typename T>
void patch_statistics(D d, const MaskedPatchLoss<T>& a, const T* origin, T* mean, T* inverse_deviation) {
  const auto count = static_cast<double>(a.patch * a.patch * a.channels);
  // Shifted by the first pixel: a constant patch has its mean exactly and a variance of exactly zero.
  *mean = static_cast<T>(static_cast<double>(origin[0]) + shifted_sum<false>(d, a, origin, origin[0]) / count);
  const double variance = count > 1 ? shifted_sum<true>(d, a, origin, *mean) / (count - 1) : 0.0;
  *inverse_deviation = static_cast<T>(1.0 / std::sqrt(variance + 1e-6));
}

// kChannels values for each of Lanes(d) pixels, apart by channel.
template <int kChannels, class D, typename T>
HWY_INLINE void load_pixels(D d, const T* from, hn::Vec<D>* v) {
  if constexpr (kChannels == 1) v[0] = hn::LoadU(d, from);
  if constexpr (kChannels == 2) hn::LoadInterleaved2(d, from, v[0], v[1]);
  if constexpr (kChannels == 3) hn::LoadInterleaved3(d, from, v[0], v[1], v[2]);
  if constexpr (kChannels == 4) hn::LoadInterleaved4(d, from, v[0], v[1], v[2], v[3]);
}

template <int kChannels, class D, typename T>
HWY_INLINE void store_pixels(D d, const hn::Vec<D>* v, T* to) {
  if constexpr (kChannels == 1) hn::StoreU(v[0], d, to);
  if constexpr (kChannels == 2) hn::StoreInterleaved2(v[0], v[1], d, to);
  if constexpr (kChannels == 3) hn::StoreInterleaved3(v[0], v[1], v[2], d, to);
  if constexpr (kChannels == 4) hn::StoreInterleaved4(v[0], v[1], v[2], v[3], d, to);
}

// Forward (gradient null): the sum of squared differences. Backward: gradient = factor * difference. kChannels 0: any
// number.
template <int kChannels, class D, typename T>
double compare_patch(D d, const MaskedPatchLoss<T>& a, const T* origin, const T* prediction, T mean,
                     T inverse_deviation, T factor, T* gradient) {
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  const auto vmean = hn::Set(d, mean), vinverse = hn::Set(d, inverse_deviation), vfactor = hn::Set(d, factor);
  auto sum = hn::Zero(d);
  double tail = 0;
  for (int64_t y = 0; y < a.patch; ++y) {
    const T* row = origin + y * a.width;
    const int64_t base = y * a.patch * a.channels;
    int64_t x = 0;
    if constexpr (kChannels > 0) {
      for (; x + n <= a.patch; x += n) {
        hn::Vec<D> v[kChannels];
        load_pixels<kChannels>(d, prediction + base + x * kChannels, v);
        for (int c = 0; c < kChannels; ++c) {
          const auto pixel = hn::LoadU(d, row + c * a.height * a.width + x);
          v[c] = hn::NegMulAdd(hn::Sub(pixel, vmean), vinverse, v[c]);
          if (gradient == nullptr) {
            sum = hn::MulAdd(v[c], v[c], sum);
          } else {
            v[c] = hn::Mul(v[c], vfactor);
          }
        }
        if (gradient != nullptr) store_pixels<kChannels>(d, v, gradient + base + x * kChannels);
      }
    }
    for (; x < a.patch; ++x) {
      for (int64_t c = 0; c < a.channels; ++c) {
        const int64_t j = base + x * a.channels + c;
        const T difference = prediction[j] - (row[c * a.height * a.width + x] - mean) * inverse_deviation;
        if (gradient == nullptr) {
          tail += static_cast<double>(difference) * static_cast<double>(difference);
        } else {
          gradient[j] = factor * difference;
        }
      }
    }
  }
  return tail + static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
}

template <class D, typename T>
double compare_any(D d, const MaskedPatchLoss<T>& a, const T* origin, const T* prediction, T mean, T inverse_deviation,
                   T factor, T* gradient) {
  switch (a.channels) {
    case 1: return compare_patch<1>(d, a, origin, prediction, mean, inverse_deviation, factor, gradient);
    case 2: return compare_patch<2>(d, a, origin, prediction, mean, inverse_deviation, factor, gradient);
    case 3: return compare_patch<3>(d, a, origin, prediction, mean, inverse_deviation, factor, gradient);
    case 4: return compare_patch<4>(d, a, origin, prediction, mean, inverse_deviation, factor, gradient);
    default: return compare_patch<0>(d, a, origin, prediction, mean, inverse_deviation, factor, gradient);
  }
}

template <class D, typename T>
void loss_range(D d, const MaskedPatchLoss<T>& a, T* loss, T* mean, T* inverse_deviation, int64_t begin, int64_t end) {
  const int64_t size = a.patch * a.patch * a.channels;
  for (int64_t i = begin; i < end; ++i) {
    mean[i] = 0;
    inverse_deviation[i] = 1;
    loss[i] = 0;
    if (a.weight[i] == T{0}) continue;
    const T* origin = patch_origin(a, i);
    if (a.normalize) patch_statistics(d, a, origin, mean + i, inverse_deviation + i);
    const T* prediction = a.prediction + i * size;
    const double sum =
        compare_any(d, a, origin, prediction, mean[i], inverse_deviation[i], T{0}, static_cast<T*>(nullptr));
    loss[i] = static_cast<T>(sum / static_cast<double>(size));
  }
}

template <class D, typename T>
void gradient_range(D d, const MaskedPatchLoss<T>& a, const T* mean, const T* inverse_deviation, T scale, T* gradient,
                    int64_t begin, int64_t end) {
  const int64_t size = a.patch * a.patch * a.channels;
  for (int64_t i = begin; i < end; ++i) {
    T* row = gradient + i * size;
    if (a.weight[i] == T{0}) {
      for (int64_t j = 0; j < size; ++j) row[j] = 0;
      continue;
    }
    const T factor = scale * a.weight[i] * static_cast<T>(2.0 / static_cast<double>(size));
    compare_any(d, a, patch_origin(a, i), a.prediction + i * size, mean[i], inverse_deviation[i], factor, row);
  }
}

// Whole vectors where a patch row fills one, else vectors of at most four, so that small patches are not all remainder.
template <typename T>
void forward(const MaskedPatchLoss<T>& a, T* loss, T* mean, T* inverse_deviation, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> wide;
  if (a.patch >= static_cast<int64_t>(hn::Lanes(wide))) {
    loss_range(wide, a, loss, mean, inverse_deviation, begin, end);
  } else {
    loss_range(hn::CappedTag<T, 4>(), a, loss, mean, inverse_deviation, begin, end);
  }
}

template <typename T>
void backward(const MaskedPatchLoss<T>& a, const T* mean, const T* inverse_deviation, T scale, T* gradient,
              int64_t begin, int64_t end) {
  const hn::ScalableTag<T> wide;
  if (a.patch >= static_cast<int64_t>(hn::Lanes(wide))) {
    gradient_range(wide, a, mean, inverse_deviation, scale, gradient, begin, end);
  } else {
    gradient_range(hn::CappedTag<T, 4>(), a, mean, inverse_deviation, scale, gradient, begin, end);
  }
}

void loss_f32(const MaskedPatchLoss<float>& a, float* loss, float* mean, float* inverse_deviation, int64_t begin,
              int64_t end) {
  forward(a, loss, mean, inverse_deviation, begin, end);
}
void loss_f64(const MaskedPatchLoss<double>& a, double* loss, double* mean, double* inverse_deviation, int64_t begin,
              int64_t end) {
  forward(a, loss, mean, inverse_deviation, begin, end);
}
void gradient_f32(const MaskedPatchLoss<float>& a, const float* mean, const float* inverse_deviation, float scale,
                  float* gradient, int64_t begin, int64_t end) {
  backward(a, mean, inverse_deviation, scale, gradient, begin, end);
}
void gradient_f64(const MaskedPatchLoss<double>& a, const double* mean, const double* inverse_deviation, double scale,
                  double* gradient, int64_t begin, int64_t end) {
  backward(a, mean, inverse_deviation, scale, gradient, begin, end);
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(loss_f32);
HWY_EXPORT(loss_f64);
HWY_EXPORT(gradient_f32);
HWY_EXPORT(gradient_f64);

namespace cpu {

void masked_patch_loss(const MaskedPatchLoss<float>& args, float* loss, float* mean, float* inverse_deviation,
                       int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(loss_f32)(args, loss, mean, inverse_deviation, begin, end);
}
void masked_patch_loss(const MaskedPatchLoss<double>& args, double* loss, double* mean, double* inverse_deviation,
                       int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(loss_f64)(args, loss, mean, inverse_deviation, begin, end);
}
void masked_patch_loss_backward(const MaskedPatchLoss<float>& args, const float* mean, const float* inverse_deviation,
                                float scale, float* gradient, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(gradient_f32)(args, mean, inverse_deviation, scale, gradient, begin, end);
}
void masked_patch_loss_backward(const MaskedPatchLoss<double>& args, const double* mean,
                                const double* inverse_deviation, double scale, double* gradient, int64_t begin,
                                int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(gradient_f64)(args, mean, inverse_deviation, scale, gradient, begin, end);
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
