#include "winnow/kernels/restore_tokens.h"

#include <algorithm>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/restore_tokens.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to = a + b, or a alone where b is null.
template <typename T>
HWY_INLINE void add_row(const T* a, const T* b, int64_t width, T* to) {
  if (b == nullptr) {
    std::copy(a, a + width, to);
    return;
  }
  const hn::ScalableTag<T> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + n <= width; j += n) hn::StoreU(hn::Add(hn::LoadU(d, a + j), hn::LoadU(d, b + j)), d, to + j);
  for (; j < width; ++j) to[j] = a[j] + b[j];
}

template <typename T>
void restore(const RestoreTokens<T>& a, const T* tokens, const T* mask_token, const T* positions, T* out, int64_t begin,
             int64_t end) {
  const int64_t rows_in = a.prefix + a.kept, rows_out = a.prefix + a.length;
  for (int64_t b = begin; b < end; ++b) {
    for (int64_t j = 0; j < rows_out; ++j) {
      const int64_t from = j < a.prefix ? j : a.prefix + a.ids_restore[b * a.length + j - a.prefix];
      const T* row = from < rows_in ? tokens + (b * rows_in + from) * a.width : mask_token;
      add_row(row, positions == nullptr ? nullptr : positions + j * a.width, a.width,
              out + (b * rows_out + j) * a.width);
    }
  }
}

template <typename T>
void restore_backward(const RestoreTokens<T>& a, const T* grad, T* grad_tokens, T* grad_mask, int64_t begin,
                      int64_t end) {
  const int64_t rows_in = a.prefix + a.kept, rows_out = a.prefix + a.length;
  for (int64_t b = begin; b < end; ++b) {
    T* mask_row = grad_mask + b * a.width;
    std::fill(mask_row, mask_row + a.width, T{0});
    for (int64_t j = 0; j < rows_out; ++j) {
      const int64_t from = j < a.prefix ? j : a.prefix + a.ids_restore[b * a.length + j - a.prefix];
      const T* row = grad + (b * rows_out + j) * a.width;
      if (from < rows_in) {
        std::copy(row, row + a.width, grad_tokens + (b * rows_in + from) * a.width);
      } else {
        add_row(mask_row, row, a.width, mask_row);
      }
    }
  }
}

void restore_f32(const RestoreTokens<float>& a, const float* tokens, const float* mask_token, const float* positions,
                 float* out, int64_t begin, int64_t end) {
  restore(a, tokens, mask_token, positions, out, begin, end);
}
void restore_f64(const RestoreTokens<double>& a, const double* tokens, const double* mask_token,
                 const double* positions, double* out, int64_t begin, int64_t end) {
  restore(a, tokens, mask_token, positions, out, begin, end);
}
void restore_backward_f32(const RestoreTokens<float>& a, const float* grad, float* grad_tokens, float* grad_mask,
                          int64_t begin, int64_t end) {
  restore_backward(a, grad, grad_tokens, grad_mask, begin, end);
}
void restore_backward_f64(const RestoreTokens<double>& a, const double* grad, double* grad_tokens, double* grad_mask,
                          int64_t begin, int64_t end) {
  restore_backward(a, grad, grad_tokens, grad_mask, begin, end);
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(restore_f32);
HWY_EXPORT(restore_f64);
HWY_EXPORT(restore_backward_f32);
HWY_EXPORT(restore_backward_f64);

namespace cpu {

void restore_tokens(const RestoreTokens<float>& args, const float* tokens, const float* mask_token,
                    const float* positions, float* out, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(restore_f32)(args, tokens, mask_token, positions, out, begin, end);
}
void restore_tokens(const RestoreTokens<double>& args, const double* tokens, const double* mask_token,
                    const double* positions, double* out, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(restore_f64)(args, tokens, mask_token, positions, out, begin, end);
}
void restore_tokens_backward(const RestoreTokens<float>& args, const float* grad, float* grad_tokens, float* grad_mask,
                             int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(restore_backward_f32)(args, grad, grad_tokens, grad_mask, begin, end);
}
void restore_tokens_backward(const RestoreTokens<double>& args, const double* grad, double* grad_tokens,
                             double* grad_mask, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(restore_backward_f64)(args, grad, grad_tokens, grad_mask, begin, end);
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
