#include "winnow/kernels/activation_rows.h"

#include <cstring>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using V32 = hn::Vec<F32>;

// x / (1 + exp(-k x)).
HWY_INLINE V32 times_sigmoid(F32 d, V32 x, float k) {
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), vector_exp(d, hn::Mul(x, hn::Set(d, -k)))));
}

// erf(x) within 2e-7: formula 7.1.26 of Abramowitz and Stegun, "Handbook of Mathematical Functions".
HWY_INLINE V32 vector_erf(F32 d, V32 x) {
  const auto a = hn::Abs(x), one = hn::Set(d, 1.0F);
  const auto t = hn::Div(one, hn::MulAdd(a, hn::Set(d, 0.3275911F), one));
  auto p = hn::Set(d, 1.061405429F);
  for (const float c : {-1.453152027F, 1.421413741F, -0.284496736F, 0.254829592F}) p = hn::MulAdd(p, t, hn::Set(d, c));
  const auto rest = hn::Mul(hn::Mul(p, t), vector_exp(d, hn::Neg(hn::Mul(a, a))));
  return hn::CopySign(hn::Sub(one, rest), x);
}

template <RowActivation kKind>
HWY_INLINE V32 activate(F32 d, V32 x) {
  if constexpr (kKind == RowActivation::silu) return times_sigmoid(d, x, 1.0F);
  if constexpr (kKind == RowActivation::quick_gelu) return times_sigmoid(d, x, 1.702F);
  if constexpr (kKind == RowActivation::relu) return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Zero(d), x);
  if constexpr (kKind == RowActivation::gelu) {
    const auto half = hn::Mul(x, hn::Set(d, 0.5F));
    return hn::MulAdd(half, vector_erf(d, hn::Mul(x, hn::Set(d, 0.70710678F))), half);
  }
  if constexpr (kKind == RowActivation::gelu_tanh) {
    // 0.5 (1 + tanh(u)) = sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
    const auto cubic = hn::Mul(hn::Mul(x, x), hn::Set(d, 0.044715F));
    const auto u = hn::Mul(hn::MulAdd(cubic, x, x), hn::Set(d, -2 * 0.79788456F));
    return hn::Div(x, hn::Add(hn::Set(d, 1.0F), vector_exp(d, u)));
  }
}

template <RowActivation kKind>
HWY_INLINE void range(const ActivationRows& a, int64_t begin, int64_t end) {
  const F32 d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + n <= end; i += n) {
    auto y = activate<kKind>(d, hn::LoadU(d, (a.gate == nullptr ? a.x : a.gate) + i));
    if (a.gate != nullptr) y = hn::Mul(y, hn::LoadU(d, a.x + i));
    hn::StoreU(y, d, a.x + i);
  }
  if (i == end) return;
  // The rest goes through vectors too, so that a value's result does not depend on where a range ends.
  HWY_ALIGN float x[hn::MaxLanes(d)] = {}, gate[hn::MaxLanes(d)] = {};
  const auto bytes = static_cast<size_t>(end - i) * sizeof(float);
  std::memcpy(x, a.x + i, bytes);
  if (a.gate != nullptr) std::memcpy(gate, a.gate + i, bytes);
  auto y = activate<kKind>(d, hn::Load(d, a.gate == nullptr ? x : gate));
  if (a.gate != nullptr) y = hn::Mul(y, hn::Load(d, x));
  hn::Store(y, d, x);
  std::memcpy(a.x + i, x, bytes);
}

void activation_range(const ActivationRows& a, int64_t begin, int64_t end) {
  switch (a.activation) {
    case RowActivation::gelu: return range<RowActivation::gelu>(a, begin, end);
    case RowActivation::gelu_tanh: return range<RowActivation::gelu_tanh>(a, begin, end);
    case RowActivation::quick_gelu: return range<RowActivation::quick_gelu>(a, begin, end);
    case RowActivation::relu: return range<RowActivation::relu>(a, begin, end);
    case RowActivation::silu: return range<RowActivation::silu>(a, begin, end);
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(activation_range);

void cpu::activation_rows(const ActivationRows& args, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(activation_range)(args, begin, end);
}

}  // namespace winnow::kernels
#endif
