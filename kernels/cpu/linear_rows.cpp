#include "winnow/kernels/linear_rows.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/sized_vectors.h"
#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_rows.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using V32 = hn::Vec<F32>;
constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(F32()));

// How a weight is stored, and its widening to float32.
struct Float32 {
  using Stored = float;
  static HWY_INLINE V32 load(const Stored* p) { return hn::LoadU(F32(), p); }
};

struct BFloat16 {
  using Stored = uint16_t;
  static HWY_INLINE V32 load(const Stored* p) {
    const F32 d;
    const hn::Rebind<uint16_t, F32> d16;
    const hn::RebindToUnsigned<F32> d32;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
  }
};

struct Float16 {
  using Stored = uint16_t;
  static HWY_INLINE V32 load(const Stored* p) {
    const F32 d;
    const hn::Rebind<uint16_t, F32> d16;
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR || (HWY_ARCH_X86 && HWY_TARGET > HWY_AVX2)
    // No instruction for it. The exponent is rebased by a product, which also makes subnormals normal; infinity and NaN
    // get the exponent of all ones back.
    const hn::RebindToUnsigned<F32> d32;
    const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, p));
    const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d32, 0x7FFFU)));
    const auto rebased = hn::BitCast(d32, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112F)));
    const auto special = hn::VecFromMask(d32, hn::Gt(magnitude, hn::Set(d32, (0x7C00U << 13) - 1)));
    const auto exponent = hn::And(special, hn::Set(d32, 0x7F800000U));
    const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d32, 0x8000U)));
    return hn::BitCast(d, hn::Or(hn::Or(rebased, exponent), sign));
#else
    const hn::Rebind<hwy::float16_t, F32> half;
    return hn::PromoteTo(d, hn::BitCast(half, hn::LoadU(d16, p)));
#endif
  }
};

constexpr int64_t kLine = 64;       // bytes of a cache line
constexpr int64_t kPrefetch = 256;  // bytes ahead in each stream, as measured

// The products of kRows rows with kOuts rows of weights: one accumulator each, so that nothing but `in` decides the
// order of a sum. The end of a row is padded with zeros.
template <class W, int kRows, int kOuts>
HWY_INLINE void multiply(const LinearRows& a, int64_t row, int64_t first, int64_t apart) {
  using T = typename W::Stored;
  const F32 d;
  const T* w[kOuts];
  const float* x[kRows];
  V32 sums[kRows][kOuts];
  for (int o = 0; o < kOuts; ++o) w[o] = static_cast<const T*>(a.weight) + (first + o * apart) * a.in;
  for (int r = 0; r < kRows; ++r) {
    x[r] = a.x + (row + r) * a.x_stride;
    for (int o = 0; o < kOuts; ++o) sums[r][o] = hn::Zero(d);
  }
  const auto add = [&](const auto& weight_at, const auto& x_at) HWY_ATTR {
    V32 rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = hn::LoadU(d, x_at(r));
    for (int o = 0; o < kOuts; ++o) {
      const auto v = W::load(weight_at(o));
      for (int r = 0; r < kRows; ++r) sums[r][o] = hn::MulAdd(v, rows[r], sums[r][o]);
    }
  };
  constexpr int64_t kStep = std::max(kLine / static_cast<int64_t>(sizeof(T)), kLanes);
  int64_t k = 0;
  for (; k + kStep <= a.in; k += kStep) {
    for (int o = 0; o < kOuts; ++o) hwy::Prefetch(reinterpret_cast<const char*>(w[o] + k) + kPrefetch);
    for (int64_t j = k; j < k + kStep; j += kLanes) {
      add([&](int o) HWY_ATTR { return w[o] + j; }, [&](int r) HWY_ATTR { return x[r] + j; });
    }
  }
  for (; k + kLanes <= a.in; k += kLanes) {
    add([&](int o) HWY_ATTR { return w[o] + k; }, [&](int r) HWY_ATTR { return x[r] + k; });
  }
  if (k < a.in) {
    const auto rest = static_cast<size_t>(a.in - k);
    T end_w[kOuts][kLanes] = {};
    float end_x[kRows][kLanes] = {};
    for (int o = 0; o < kOuts; ++o) std::memcpy(end_w[o], w[o] + k, rest * sizeof(T));
    for (int r = 0; r < kRows; ++r) std::memcpy(end_x[r], x[r] + k, rest * sizeof(float));
    add([&](int o) HWY_ATTR { return end_w[o]; }, [&](int r) HWY_ATTR { return end_x[r]; });
  }
  for (int o = 0; o < kOuts; ++o) {
    const int64_t out = first + o * apart;
    const float bias = a.bias == nullptr ? 0.0F : a.bias[out];
    for (int r = 0; r < kRows; ++r) {
      a.y[(row + r) * a.y_stride + out] = hn::GetLane(hn::SumOfLanes(d, sums[r][o])) + bias;
    }
  }
}

// The rows in groups of kRows or one less (`groups` of them), so that the weights of a few outputs, once read, serve
// every row from the nearest cache.
template <class W, int kRows, int kOuts>
HWY_INLINE void multiply_groups(const LinearRows& a, int64_t groups, int64_t first, int64_t apart) {
  int64_t row = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t size = a.n / groups + (g < a.n % groups ? 1 : 0);
    if constexpr (kRows > 1) {
      if (size < kRows) {
        multiply<W, kRows - 1, kOuts>(a, row, first, apart);
        row += size;
        continue;
      }
    }
    multiply<W, kRows, kOuts>(a, row, first, apart);
    row += size;
  }
}

// Weights are read in kOuts streams, each a consecutive part of the range: several far apart are read faster than one.
template <class W, int kRows, int kOuts>
void multiply_range(const LinearRows& a, int64_t begin, int64_t end) {
  const int64_t groups = (a.n + kRows - 1) / kRows;
  const int64_t apart = (end - begin) / kOuts;
  for (int64_t i = 0; i < apart; ++i) multiply_groups<W, kRows, kOuts>(a, groups, begin + i, apart);
  for (int64_t o = begin + apart * kOuts; o < end; ++o) multiply_groups<W, kRows, 1>(a, groups, o, 1);
}

// kRows x kOuts accumulators and what they are fed with fill 16 vector registers.
template <class W>
void rows_of(const LinearRows& a, int64_t begin, int64_t end) {
  switch (a.n) {
    case 0: return;
    case 1: return multiply_range<W, 1, 6>(a, begin, end);
    case 2: return multiply_range<W, 2, 6>(a, begin, end);
    case 3: return multiply_range<W, 3, 4>(a, begin, end);
    case 5: return multiply_range<W, 3, 4>(a, begin, end);
    default: return multiply_range<W, 4, 3>(a, begin, end);
  }
}

void rows_f32(const LinearRows& a, int64_t begin, int64_t end) {
  rows_of<Float32>(a, begin, end);
}
void rows_f16(const LinearRows& a, int64_t begin, int64_t end) {
  rows_of<Float16>(a, begin, end);
}
void rows_bf16(const LinearRows& a, int64_t begin, int64_t end) {
  rows_of<BFloat16>(a, begin, end);
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(rows_f32);
HWY_EXPORT(rows_f16);
HWY_EXPORT(rows_bf16);

namespace cpu {

void linear_rows(const LinearRows& args, int64_t out_begin, int64_t out_end) {
  select_target();
  switch (args.dtype) {
    case RowsDtype::f32: return HWY_DYNAMIC_DISPATCH(rows_f32)(args, out_begin, out_end);
    case RowsDtype::f16: return HWY_DYNAMIC_DISPATCH(rows_f16)(args, out_begin, out_end);
    case RowsDtype::bf16: return HWY_DYNAMIC_DISPATCH(rows_bf16)(args, out_begin, out_end);
  }
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
