#include "winnow/kernels/selective_scan.h"

#include <algorithm>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/selective_scan.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kGroup = kSelectiveScanGroup, kChunk = kSelectiveScanChunk;
constexpr int64_t kStateBlock = 16;  // states whose values stay in the first cache at once

// At most kGroup lanes, so that a group is whole vectors but for its last.
template <typename T>
using Tag = hn::CappedTag<T, static_cast<size_t>(kGroup)>;

template <class D, typename T>
HWY_INLINE hn::Vec<D> load_some(D d, const T* from, int64_t count) {
  if (count == static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, from);
  HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
}

template <class D, class V, typename T>
HWY_INLINE void store_some(D d, V v, T* to, int64_t count) {
  if (count == static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(v, d, to);
    return;
  }
  HWY_ALIGN T lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

template <class D, class V, typename T>
HWY_INLINE void add_some(D d, V v, T* to, int64_t count) {
  store_some(d, hn::Add(load_some(d, to, count), v), to, count);
}

// e^x within 1.5 units of the last place, x held to [-87.3, 88.3]; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> exp_of(D d, hn::Vec<D> x, float) {
  const hn::RebindToSigned<D> di;
  const auto low = hn::Set(d, -87.3F), high = hn::Set(d, 88.3F), magic = hn::Set(d, 12582912.0F);  // 1.5 * 2^23
  x = hn::IfThenElse(hn::Lt(x, low), low, hn::IfThenElse(hn::Gt(x, high), high, x));
  const auto shifted = hn::MulAdd(x, hn::Set(d, 1.44269504F), magic);  // its last bits hold n = round(x / ln 2)
  const auto n = hn::Sub(shifted, magic);
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145752F), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6F), r);
  auto q = hn::MulAdd(hn::Set(d, 0.00139465007F), r, hn::Set(d, 0.0083691868F));
  q = hn::MulAdd(q, r, hn::Set(d, 0.0416662624F));
  q = hn::MulAdd(q, r, hn::Set(d, 0.166665157F));
  q = hn::MulAdd(q, r, hn::Set(d, 0.5F));
  const auto e = hn::MulAdd(hn::Mul(r, r), q, hn::Add(r, hn::Set(d, 1.0F)));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, shifted), hn::Set(di, 127)));
  return hn::Mul(e, hn::BitCast(d, exponent));
}

template <class D>
HWY_INLINE hn::Vec<D> exp_of(D d, hn::Vec<D> x, double) {
  const auto high = hn::Set(d, 700.0);
  const auto e = hn::Exp(d, hn::IfThenElse(hn::Gt(x, high), high, x));
  return hn::IfThenElse(hn::Eq(x, x), e, x);
}

template <class D>
HWY_INLINE hn::Vec<D> exponential(D d, hn::Vec<D> x) {
  return exp_of(d, x, hn::TFromD<D>{});
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  const auto one = hn::Set(d, T{1});
  return hn::Div(one, hn::Add(one, exponential(d, hn::Neg(x))));
}

// log(1 + e^x); x itself from 20 on.
template <class D>
HWY_INLINE hn::Vec<D> softplus(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  const auto soft = hn::Log1p(d, exponential(d, x));
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, T{20})), soft, x);
}

// The place of `count` channels from e on, in sample s.
struct Place {
  int64_t s, e, count;
};

template <class D, typename T>
HWY_INLINE hn::Vec<D> step_size(D d, const SelectiveScan<T>& a, Place p, int64_t row) {
  auto x = load_some(d, a.dt + row * a.dt_stride + p.e, p.count);
  if (a.dt_bias != nullptr) x = hn::Add(x, load_some(d, a.dt_bias + p.e, p.count));
  return x;
}

template <class D, typename T>
HWY_INLINE void store_boundary(D d, const SelectiveScan<T>& a, Place p, int64_t t, int64_t n0, int64_t states,
                               const T* h, T* boundaries) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  T* to = boundaries + ((p.s * selective_scan_chunks(a.length) + t / kChunk) * a.states + n0) * a.channels + p.e;
  for (int64_t n = 0; n < states; ++n) store_some(d, hn::Load(d, h + n * lanes), to + n * a.channels, p.count);
}

// All steps of some channels with the states n0 .. n0 + states - 1. The first block starts y, the last one adds skip
// and gate.
template <class D, typename T>
HWY_INLINE void scan_states(D d, const SelectiveScan<T>& a, Place p, int64_t n0, int64_t states, T* y, T* state,
                            T* boundaries) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN T h[kStateBlock * hn::MaxLanes(d)];
  HWY_ALIGN T decay[kStateBlock * hn::MaxLanes(d)];
  T* held = state + (p.s * a.states + n0) * a.channels + p.e;
  for (int64_t n = 0; n < states; ++n) {
    hn::Store(load_some(d, held + n * a.channels, p.count), d, h + n * lanes);
    hn::Store(load_some(d, a.a + (n0 + n) * a.channels + p.e, p.count), d, decay + n * lanes);
  }
  for (int64_t t = 0; t < a.length; ++t) {
    if (boundaries != nullptr && t % kChunk == 0) store_boundary(d, a, p, t, n0, states, h, boundaries);
    const int64_t row = p.s * a.length + t;
    const auto delta = softplus(d, step_size(d, a, p, row));
    const auto u = load_some(d, a.u + row * a.channels + p.e, p.count);
    const auto du = hn::Mul(delta, u);
    const T* b = a.b + row * a.bc_stride + n0;
    const T* c = a.c + row * a.bc_stride + n0;
    auto sum = hn::Zero(d);
    for (int64_t n = 0; n < states; ++n) {
      const auto fade = exponential(d, hn::Mul(delta, hn::Load(d, decay + n * lanes)));
      const auto v = hn::MulAdd(fade, hn::Load(d, h + n * lanes), hn::Mul(du, hn::Set(d, b[n])));
      hn::Store(v, d, h + n * lanes);
      sum = hn::MulAdd(v, hn::Set(d, c[n]), sum);
    }
    T* to = y + row * a.channels + p.e;
    if (n0 > 0) sum = hn::Add(sum, load_some(d, to, p.count));
    if (n0 + states == a.states) {
      if (a.d != nullptr) sum = hn::MulAdd(load_some(d, a.d + p.e, p.count), u, sum);
      if (a.z != nullptr) {
        const auto z = load_some(d, a.z + row * a.z_stride + p.e, p.count);
        sum = hn::Mul(sum, hn::Mul(z, sigmoid(d, z)));
      }
    }
    store_some(d, sum, to, p.count);
  }
  for (int64_t n = 0; n < states; ++n) store_some(d, hn::Load(d, h + n * lanes), held + n * a.channels, p.count);
}

template <typename T>
void scan_range(const SelectiveScan<T>& a, T* y, T* state, T* boundaries, int64_t begin, int64_t end) {
  const Tag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d)), groups = selective_scan_groups(a.channels);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = unit % groups * kGroup, last = std::min(first + kGroup, a.channels);
    for (int64_t e = first; e < last; e += lanes) {
      const Place p{unit / groups, e, std::min(lanes, last - e)};
      for (int64_t n0 = 0; n0 < a.states; n0 += kStateBlock) {
        scan_states(d, a, p, n0, std::min(kStateBlock, a.states - n0), y, state, boundaries);
      }
    }
  }
}

// What the backward pass holds of one chunk of steps for one vector of channels: [kChunk][lanes] each.
template <class D, typename T>
struct ChunkValues {
  HWY_ALIGN T delta[kChunk * hn::MaxLanes(D())];
  HWY_ALIGN T slope[kChunk * hn::MaxLanes(D())];  // of softplus
  HWY_ALIGN T u[kChunk * hn::MaxLanes(D())];
  HWY_ALIGN T grad_y[kChunk * hn::MaxLanes(D())];   // of y before the gate
  HWY_ALIGN T y[kChunk * hn::MaxLanes(D())];        // before the gate
  HWY_ALIGN T grad_du[kChunk * hn::MaxLanes(D())];  // of delta * u
  HWY_ALIGN T grad_delta[kChunk * hn::MaxLanes(D())];
  HWY_ALIGN T h[(kChunk + 1) * hn::MaxLanes(D())];  // of one state, h[0] before the first step
  HWY_ALIGN T fade[kChunk * hn::MaxLanes(D())];
};

template <class D, typename T>
HWY_INLINE void open_chunk(D d, const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, Place p, int64_t t0,
                           int64_t steps, ChunkValues<D, T>& v) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t row = p.s * a.length + t0 + t, at = t * lanes;
    const auto x = step_size(d, a, p, row);
    hn::Store(softplus(d, x), d, v.delta + at);
    hn::Store(sigmoid(d, x), d, v.slope + at);
    const auto u = load_some(d, a.u + row * a.channels + p.e, p.count);
    hn::Store(u, d, v.u + at);
    auto upper = load_some(d, g.grad_y + row * a.channels + p.e, p.count);
    if (a.z != nullptr) {
      const auto z = load_some(d, a.z + row * a.z_stride + p.e, p.count);
      upper = hn::Mul(upper, hn::Mul(z, sigmoid(d, z)));
    }
    hn::Store(upper, d, v.grad_y + at);
    hn::Store(a.d != nullptr ? hn::Mul(load_some(d, a.d + p.e, p.count), u) : hn::Zero(d), d, v.y + at);
    hn::Store(hn::Zero(d), d, v.grad_du + at);
    hn::Store(hn::Zero(d), d, v.grad_delta + at);
  }
}

// One state through the chunk: forward again, then back. part_b and part_c [kChunk][lanes] gather over the vectors.
template <class D, typename T>
HWY_INLINE void state_backward(D d, const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, Place p, int64_t t0,
                               int64_t steps, int64_t n, ChunkValues<D, T>& v, T* part_b, T* part_c) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto decay = load_some(d, a.a + n * a.channels + p.e, p.count);
  const T* b = a.b + (p.s * a.length + t0) * a.bc_stride + n;
  const T* c = a.c + (p.s * a.length + t0) * a.bc_stride + n;
  const T* before = g.boundaries + ((p.s * selective_scan_chunks(a.length) + t0 / kChunk) * a.states + n) * a.channels;
  auto h = load_some(d, before + p.e, p.count);
  hn::Store(h, d, v.h);
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t at = t * lanes;
    const auto delta = hn::Load(d, v.delta + at);
    const auto fade = exponential(d, hn::Mul(delta, decay));
    h = hn::MulAdd(fade, h, hn::Mul(hn::Mul(delta, hn::Load(d, v.u + at)), hn::Set(d, b[t * a.bc_stride])));
    hn::Store(fade, d, v.fade + at);
    hn::Store(h, d, v.h + at + lanes);
    hn::Store(hn::MulAdd(h, hn::Set(d, c[t * a.bc_stride]), hn::Load(d, v.y + at)), d, v.y + at);
  }
  T* held = g.state + (p.s * a.states + n) * a.channels + p.e;
  auto grad_h = load_some(d, held, p.count);
  auto grad_decay = hn::Zero(d);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t at = t * lanes;
    const auto upper = hn::Load(d, v.grad_y + at), delta = hn::Load(d, v.delta + at);
    grad_h = hn::MulAdd(upper, hn::Set(d, c[t * a.bc_stride]), grad_h);
    const auto du = hn::Mul(delta, hn::Load(d, v.u + at));
    hn::StoreU(hn::MulAdd(upper, hn::Load(d, v.h + at + lanes), hn::LoadU(d, part_c + at)), d, part_c + at);
    hn::StoreU(hn::MulAdd(grad_h, du, hn::LoadU(d, part_b + at)), d, part_b + at);
    const auto faded = hn::Mul(grad_h, hn::Load(d, v.fade + at));  // also the gradient of the state before
    const auto slope = hn::Mul(faded, hn::Load(d, v.h + at));      // of the exponent delta A
    grad_decay = hn::MulAdd(slope, delta, grad_decay);
    hn::Store(hn::MulAdd(slope, decay, hn::Load(d, v.grad_delta + at)), d, v.grad_delta + at);
    hn::Store(hn::MulAdd(grad_h, hn::Set(d, b[t * a.bc_stride]), hn::Load(d, v.grad_du + at)), d, v.grad_du + at);
    grad_h = faded;
  }
  store_some(d, grad_h, held, p.count);
  add_some(d, grad_decay, g.a + (p.s * a.states + n) * a.channels + p.e, p.count);
}

template <class D, typename T>
HWY_INLINE void close_chunk(D d, const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, Place p, int64_t t0,
                            int64_t steps, const ChunkValues<D, T>& v) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto one = hn::Set(d, T{1});
  auto grad_bias = hn::Zero(d), grad_skip = hn::Zero(d);
  for (int64_t t = 0; t < steps; ++t) {
    const int64_t row = p.s * a.length + t0 + t, at = t * lanes;
    const auto u = hn::Load(d, v.u + at), upper = hn::Load(d, v.grad_y + at), grad_du = hn::Load(d, v.grad_du + at);
    auto grad_u = hn::Mul(grad_du, hn::Load(d, v.delta + at));
    if (a.d != nullptr) {
      grad_u = hn::MulAdd(upper, load_some(d, a.d + p.e, p.count), grad_u);
      grad_skip = hn::MulAdd(upper, u, grad_skip);
    }
    store_some(d, grad_u, g.u + row * a.channels + p.e, p.count);
    const auto grad_x = hn::Mul(hn::MulAdd(grad_du, u, hn::Load(d, v.grad_delta + at)), hn::Load(d, v.slope + at));
    store_some(d, grad_x, g.dt + row * a.channels + p.e, p.count);
    grad_bias = hn::Add(grad_bias, grad_x);
    if (a.z != nullptr) {
      const auto z = load_some(d, a.z + row * a.z_stride + p.e, p.count), s = sigmoid(d, z);
      const auto slope = hn::Mul(s, hn::MulAdd(z, hn::Sub(one, s), one));  // of z sigmoid(z)
      const auto outer = load_some(d, g.grad_y + row * a.channels + p.e, p.count);
      store_some(d, hn::Mul(outer, hn::Mul(hn::Load(d, v.y + at), slope)), g.z + row * a.channels + p.e, p.count);
    }
  }
  if (a.dt_bias != nullptr) add_some(d, grad_bias, g.dt_bias + p.s * a.channels + p.e, p.count);
  if (a.d != nullptr) add_some(d, grad_skip, g.d + p.s * a.channels + p.e, p.count);
}

template <typename T>
void clear_sums(const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, int64_t s, int64_t first, int64_t last) {
  for (int64_t n = 0; n < a.states; ++n) {
    T* row = g.a + (s * a.states + n) * a.channels;
    std::fill(row + first, row + last, T{0});
  }
  if (a.d != nullptr) std::fill(g.d + s * a.channels + first, g.d + s * a.channels + last, T{0});
  if (a.dt_bias != nullptr) std::fill(g.dt_bias + s * a.channels + first, g.dt_bias + s * a.channels + last, T{0});
}

// part [states][kChunk][lanes] -> to [.., states] of this group's rows of steps.
template <class D, typename T>
HWY_INLINE void store_joined(D d, const T* part, int64_t states, int64_t steps, T* to) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t n = 0; n < states; ++n) {
      to[t * states + n] = hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, part + (n * kChunk + t) * lanes)));
    }
  }
}

template <typename T>
void backward_range(const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, T* scratch, int64_t begin, int64_t end) {
  const Tag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d)), groups = selective_scan_groups(a.channels);
  const int64_t part = a.states * kChunk * lanes;
  T *part_b = scratch, *part_c = scratch + part;
  ChunkValues<Tag<T>, T> values;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t s = unit / groups, group = unit % groups;
    const int64_t first = group * kGroup, last = std::min(first + kGroup, a.channels);
    clear_sums(a, g, s, first, last);
    for (int64_t chunk = selective_scan_chunks(a.length) - 1; chunk >= 0; --chunk) {
      const int64_t t0 = chunk * kChunk, steps = std::min(kChunk, a.length - t0);
      std::fill(scratch, scratch + 2 * part, T{0});
      for (int64_t e = first; e < last; e += lanes) {
        const Place p{s, e, std::min(lanes, last - e)};
        open_chunk(d, a, g, p, t0, steps, values);
        for (int64_t n = 0; n < a.states; ++n) {
          const int64_t at = n * kChunk * lanes;
          state_backward(d, a, g, p, t0, steps, n, values, part_b + at, part_c + at);
        }
        close_chunk(d, a, g, p, t0, steps, values);
      }
      const int64_t rows = ((group * a.batch + s) * a.length + t0) * a.states;
      store_joined(d, part_b, a.states, steps, g.b + rows);
      store_joined(d, part_c, a.states, steps, g.c + rows);
    }
  }
}

void scan_f32(const SelectiveScan<float>& a, float* y, float* state, float* boundaries, int64_t begin, int64_t end) {
  scan_range(a, y, state, boundaries, begin, end);
}
void scan_f64(const SelectiveScan<double>& a, double* y, double* state, double* boundaries, int64_t begin,
              int64_t end) {
  scan_range(a, y, state, boundaries, begin, end);
}
void backward_f32(const SelectiveScan<float>& a, const SelectiveScanGrad<float>& g, float* scratch, int64_t begin,
                  int64_t end) {
  backward_range(a, g, scratch, begin, end);
}
void backward_f64(const SelectiveScan<double>& a, const SelectiveScanGrad<double>& g, double* scratch, int64_t begin,
                  int64_t end) {
  backward_range(a, g, scratch, begin, end);
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(scan_f32);
HWY_EXPORT(scan_f64);
HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_f64);

namespace cpu {

void selective_scan(const SelectiveScan<float>& args, float* y, float* state, float* boundaries, int64_t begin,
                    int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(scan_f32)(args, y, state, boundaries, begin, end);
}
void selective_scan(const SelectiveScan<double>& args, double* y, double* state, double* boundaries, int64_t begin,
                    int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(scan_f64)(args, y, state, boundaries, begin, end);
}

int64_t selective_scan_scratch(int64_t states) {
  return 2 * states * kSelectiveScanChunk * kSelectiveScanGroup;  // no vector has more lanes than a group channels
}

void selective_scan_backward(const SelectiveScan<float>& args, const SelectiveScanGrad<float>& grad, float* scratch,
                             int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(backward_f32)(args, grad, scratch, begin, end);
}
void selective_scan_backward(const SelectiveScan<double>& args, const SelectiveScanGrad<double>& grad, double* scratch,
                             int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(backward_f64)(args, grad, scratch, begin, end);
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
