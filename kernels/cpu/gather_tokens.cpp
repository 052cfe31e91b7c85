#include "winnow/kernels/gather_tokens.h"

#include <algorithm>
#include <cstring>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gather_tokens.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
void scatter_add(const T* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width, T* grad_x,
                 int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t b = begin; b < end; ++b) {
    T* sample = grad_x + b * length * width;
    std::fill(sample, sample + length * width, T{0});
    for (int64_t k = 0; k < kept; ++k) {
      const T* from = grad + (b * kept + k) * width;
      T* to = sample + ids[b * kept + k] * width;
      int64_t j = 0;
      for (; j + n <= width; j += n) hn::StoreU(hn::Add(hn::LoadU(d, to + j), hn::LoadU(d, from + j)), d, to + j);
      for (; j < width; ++j) to[j] += from[j];
    }
  }
}

void scatter_f32(const float* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width, float* grad_x,
                 int64_t begin, int64_t end) {
  scatter_add(grad, ids, length, kept, width, grad_x, begin, end);
}
void scatter_f64(const double* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width, double* grad_x,
                 int64_t begin, int64_t end) {
  scatter_add(grad, ids, length, kept, width, grad_x, begin, end);
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(scatter_f32);
HWY_EXPORT(scatter_f64);

namespace cpu {

// The two copies use memcpy, which the C library dispatches itself.
void gather_tokens(const void* x, const int64_t* ids, int64_t length, int64_t kept, int64_t row_bytes, void* out,
                   int64_t begin, int64_t end) {
  const auto* from = static_cast<const char*>(x);
  auto* to = static_cast<char*>(out);
  const auto bytes = static_cast<size_t>(row_bytes);
  for (int64_t r = begin; r < end; ++r) {
    std::memcpy(to + r * row_bytes, from + (r / kept * length + ids[r]) * row_bytes, bytes);
  }
}

void gather_tokens_backward(const float* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width,
                            float* grad_x, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(scatter_f32)(grad, ids, length, kept, width, grad_x, begin, end);
}
void gather_tokens_backward(const double* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width,
                            double* grad_x, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(scatter_f64)(grad, ids, length, kept, width, grad_x, begin, end);
}

void gather_patches(const GatherPatches& args, void* out, int64_t begin, int64_t end) {
  const auto* image = static_cast<const char*>(args.image);
  auto* to = static_cast<char*>(out);
  const int64_t grid_w = args.width / args.patch, p = args.patch, size = args.element_size;
  const auto row_bytes = static_cast<size_t>(p * size);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t b = r / args.kept, top = args.ids[r] / grid_w * p, left = args.ids[r] % grid_w * p;
    char* target = to + r * args.channels * p * p * size;
    for (int64_t c = 0; c < args.channels; ++c) {
      const char* plane = image + (((b * args.channels + c) * args.height + top) * args.width + left) * size;
      for (int64_t y = 0; y < p; ++y) {
        std::memcpy(target + (c * p + y) * p * size, plane + y * args.width * size, row_bytes);
      }
    }
  }
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
