#include "winnow/kernels/attention_rows.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/sized_vectors.h"
#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_rows.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using V32 = hn::Vec<F32>;
constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(F32()));
constexpr int64_t kBlock = kAttentionRowsBlock;
constexpr int64_t kTile = 32;  // queries that share a block of keys in the cache

// scores[t] = scale * q . key t for kKeys keys.
template <int kKeys>
HWY_INLINE void dots(const float* q, const float* keys, int64_t width, float scale, float* scores) {
  const F32 d;
  V32 sums[kKeys];
  float rest[kKeys] = {};
  for (int t = 0; t < kKeys; ++t) sums[t] = hn::Zero(d);
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) {
    const auto v = hn::LoadU(d, q + j);
    for (int t = 0; t < kKeys; ++t) sums[t] = hn::MulAdd(v, hn::LoadU(d, keys + t * width + j), sums[t]);
  }
  for (; j < width; ++j) {
    for (int t = 0; t < kKeys; ++t) rest[t] += q[j] * keys[t * width + j];
  }
  for (int t = 0; t < kKeys; ++t) scores[t] = scale * (hn::GetLane(hn::SumOfLanes(d, sums[t])) + rest[t]);
}

// out[j .. j + kVectors lanes) += sum over t of weights[t] * values[t].
template <int kVectors>
HWY_INLINE void add_values(const float* weights, const float* values, int64_t count, int64_t width, float* out) {
  const F32 d;
  V32 sums[kVectors];
  for (int i = 0; i < kVectors; ++i) sums[i] = hn::LoadU(d, out + i * kLanes);
  for (int64_t t = 0; t < count; ++t) {
    const auto w = hn::Set(d, weights[t]);
    for (int i = 0; i < kVectors; ++i) sums[i] = hn::MulAdd(w, hn::LoadU(d, values + t * width + i * kLanes), sums[i]);
  }
  for (int i = 0; i < kVectors; ++i) hn::StoreU(sums[i], d, out + i * kLanes);
}

HWY_INLINE void add_all_values(const float* weights, const float* values, int64_t count, int64_t width, float* out) {
  int64_t j = 0;
  for (; j + 8 * kLanes <= width; j += 8 * kLanes) add_values<8>(weights, values + j, count, width, out + j);
  for (; j + 4 * kLanes <= width; j += 4 * kLanes) add_values<4>(weights, values + j, count, width, out + j);
  for (; j + kLanes <= width; j += kLanes) add_values<1>(weights, values + j, count, width, out + j);
  for (; j < width; ++j) {
    for (int64_t t = 0; t < count; ++t) out[j] += weights[t] * values[t * width + j];
  }
}

HWY_INLINE void multiply_by(float* x, int64_t count, float factor) {
  const F32 d;
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + j), hn::Set(d, factor)), d, x + j);
  for (; j < count; ++j) x[j] *= factor;
}

// The softmax of one query so far.
struct Running {
  const float* q;
  float* out;  // sum of exp(score - maximum) * value
  int64_t first, last;
  float maximum, sum;
};

// Takes `count` keys and values into a query's softmax.
HWY_INLINE void attend(const AttentionRows& a, Running& state, const float* keys, const float* values, int64_t count) {
  const F32 d;
  HWY_ALIGN float scores[kBlock + kLanes];
  int64_t t = 0;
  for (; t + 4 <= count; t += 4) dots<4>(state.q, keys + t * a.head_dim, a.head_dim, a.scale, scores + t);
  for (; t < count; ++t) dots<1>(state.q, keys + t * a.head_dim, a.head_dim, a.scale, scores + t);
  float maximum = state.maximum;
  for (t = 0; t < count; ++t) maximum = scores[t] > maximum ? scores[t] : maximum;
  if (maximum > state.maximum) {
    // The first block finds an empty sum: exp(-infinity) is taken as a small number, and 0 stays 0.
    const float factor = hn::GetLane(vector_exp(d, hn::Set(d, state.maximum - maximum)));
    multiply_by(state.out, a.head_dim, factor);
    state.sum *= factor;
    state.maximum = maximum;
  }
  // What fills the last vector adds less than a float32 sum of at least 1 can hold.
  for (t = count; t % kLanes != 0; ++t) scores[t] = -std::numeric_limits<float>::infinity();
  auto sum = hn::Zero(d);
  for (t = 0; t < count; t += kLanes) {
    const auto weight = vector_exp(d, hn::Sub(hn::Load(d, scores + t), hn::Set(d, maximum)));
    hn::Store(weight, d, scores + t);
    sum = hn::Add(sum, weight);
  }
  state.sum += hn::GetLane(hn::SumOfLanes(d, sum));
  add_all_values(scores, values, count, a.head_dim, state.out);
}

// Queries first .. first + count of a key head, counted over tokens and then over the heads of its group.
HWY_INLINE void attend_tile(const AttentionRows& a, int64_t kv_head, int64_t first, int64_t count) {
  Running states[kTile];
  int64_t low = a.length, high = 0;
  for (int64_t p = 0; p < count; ++p) {
    const int64_t token = (first + p) / a.group, head = kv_head * a.group + (first + p) % a.group;
    auto& s = states[p];
    s.q = a.q + token * a.q_stride + head * a.head_dim;
    s.out = a.out + token * a.out_stride + head * a.head_dim;
    s.last = a.length - a.n + token + 1;
    s.first = a.window > 0 ? std::max<int64_t>(0, s.last - a.window) : 0;
    s.maximum = -std::numeric_limits<float>::infinity();
    s.sum = 0;
    std::fill(s.out, s.out + a.head_dim, 0.0F);
    low = std::min(low, s.first);
    high = std::max(high, s.last);
  }
  const float *keys = a.keys + kv_head * a.head_stride, *values = a.values + kv_head * a.head_stride;
  for (int64_t block = low / kBlock * kBlock; block < high; block += kBlock) {
    for (int64_t p = 0; p < count; ++p) {
      const int64_t from = std::max(block, states[p].first), to = std::min(block + kBlock, states[p].last);
      if (from >= to) continue;
      attend(a, states[p], keys + from * a.head_dim, values + from * a.head_dim, to - from);
    }
  }
  for (int64_t p = 0; p < count; ++p) multiply_by(states[p].out, a.head_dim, 1.0F / states[p].sum);
}

void attention_range(const AttentionRows& a, int64_t begin, int64_t end) {
  const int64_t queries = a.n * a.group;
  for (int64_t head = begin; head < end; ++head) {
    for (int64_t first = 0; first < queries; first += kTile) {
      attend_tile(a, head, first, std::min(kTile, queries - first));
    }
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(attention_range);

void cpu::attention_rows(const AttentionRows& args, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(attention_range)(args, begin, end);
}

}  // namespace winnow::kernels
#endif
