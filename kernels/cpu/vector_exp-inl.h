// exp of vectors of float32, as every kernel here needs it. Included once for each target, after highway.h.
#if defined(WINNOW_KERNELS_CPU_VECTOR_EXP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef WINNOW_KERNELS_CPU_VECTOR_EXP_INL_H
#undef WINNOW_KERNELS_CPU_VECTOR_EXP_INL_H
#else
#define WINNOW_KERNELS_CPU_VECTOR_EXP_INL_H
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {

// exp(x) within 2 units in the last place for x in [-87, 88]; beyond, that of the nearer end. NaN stays NaN.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V vector_exp(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToSigned<D> di;
  const auto low = hn::Set(d, -87.0F), high = hn::Set(d, 88.0F);
  x = hn::IfThenElse(hn::Lt(x, low), low, x);
  x = hn::IfThenElse(hn::Gt(x, high), high, x);
  // x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts; exp(r) by its Taylor series to the seventh order.
  const auto n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504F)));
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145752F), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6F), r);
  auto p = hn::Set(d, 1.0F / 5040);
  for (const float c : {1.0F / 720, 1.0F / 120, 1.0F / 24, 1.0F / 6, 0.5F, 1.0F, 1.0F}) {
    p = hn::MulAdd(p, r, hn::Set(d, c));
  }
  const auto whole = hn::IfThenElse(hn::Eq(n, n), n, hn::Zero(d));  // NaN has no integer; p carries it
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, whole), hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(d, exponent));
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
