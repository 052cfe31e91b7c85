#include "winnow/kernels/image_resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "winnow/kernels/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/image_resize.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int32_t kHalf = 1 << (kResizeBits - 1);

// One row, any channel count.
void scale_row_plain(const uint8_t* row, const ResizeAxis& axis, int64_t channels, int64_t box_width, int64_t out_width,
                     uint8_t* out) {
  for (int64_t x = 0; x < out_width; ++x) {
    const int64_t first = axis.first[x], count = std::min(axis.taps, box_width - first);
    const int16_t* weights = axis.weights + x * axis.taps;
    for (int64_t c = 0; c < channels; ++c) {
      const uint8_t* from = row + first * channels + c;
      int32_t sum = kHalf;
      for (int64_t t = 0; t < count; ++t) sum += weights[t] * from[t * channels];
      out[c * out_width + x] = static_cast<uint8_t>(std::clamp(sum >> kResizeBits, 0, 255));
    }
  }
}

// Pairs of neighbouring 16-bit products summed: out[i] = a[2i] * b[2i] + a[2i+1] * b[2i+1].
template <class D32, class V16>
HWY_INLINE hn::Vec<D32> pair_products(D32 d32, V16 a, V16 b) {
  auto odd = hn::Zero(d32);
  const auto even = hn::ReorderWidenMulAccumulate(d32, a, b, hn::Zero(d32), odd);
  return hn::RearrangeToOddPlusEven(even, odd);  // nothing to do on x86, whose multiply-add sums pairs
}

#if HWY_TARGET != HWY_SCALAR
// Rows that go through the horizontal pass side by side, one in each 128-bit block.
constexpr int64_t kRowsAtOnce = HWY_CAP_GE256 ? 2 : 1;

// kCount RGB rows, `stride` bytes apart, four output pixels at a time. A tap pair of one pixel is gathered as (r r g g
// b b - -), 16 bits each, and multiplied by (w0 w1 w0 w1 ...), so that a block of four 32-bit sums is r, g, b, unused.
// Rows must be readable for 4 bytes past the last tap.
template <int64_t kCount>
void scale_rows_rgb(const uint8_t* rows, int64_t stride, const ResizeAxis& axis, int64_t out_width, uint8_t* out,
                    int64_t out_stride) {
  const hn::FixedTag<uint8_t, 16 * kCount> d8;
  const hn::FixedTag<uint8_t, 16> d8_block;
  const hn::Repartition<int16_t, decltype(d8)> d16;
  const hn::Repartition<int32_t, decltype(d8)> d32;
  const hn::FixedTag<int16_t, 8> d16_block;
  const hn::FixedTag<uint64_t, 2> d64_block;
  alignas(16) static constexpr uint8_t kFirstPair[16] = {0, 128, 3, 128, 1,   128, 4,   128,
                                                         2, 128, 5, 128, 128, 128, 128, 128};
  alignas(16) static constexpr uint8_t kSecondPair[16] = {6, 128, 9,  128, 7,   128, 10,  128,
                                                          8, 128, 11, 128, 128, 128, 128, 128};
  alignas(16) static constexpr uint8_t kPlanes[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  const auto first_pair = hn::LoadDup128(d8, kFirstPair), second_pair = hn::LoadDup128(d8, kSecondPair);
  const auto planes = hn::Load(d8_block, kPlanes);

  const auto pixel = [&](int64_t x) HWY_ATTR {
    const uint8_t* from = rows + 3 * axis.first[x];
    const int16_t* weights = axis.weights + x * axis.taps;
    auto sum = hn::Set(d32, kHalf);
    for (int64_t t = 0; t < axis.taps; t += 4, from += 12) {
      hn::Vec<decltype(d8)> bytes;
      if constexpr (kCount == 2) {
        bytes = hn::Combine(d8, hn::LoadU(d8_block, from + stride), hn::LoadU(d8_block, from));
      } else {
        bytes = hn::LoadU(d8_block, from);
      }
      int32_t w[2];
      std::memcpy(w, weights + t, sizeof(w));
      const auto w01 = hn::BitCast(d16, hn::Set(d32, w[0])), w23 = hn::BitCast(d16, hn::Set(d32, w[1]));
      sum = hn::Add(sum, pair_products(d32, hn::BitCast(d16, hn::TableLookupBytesOr0(bytes, first_pair)), w01));
      sum = hn::Add(sum, pair_products(d32, hn::BitCast(d16, hn::TableLookupBytesOr0(bytes, second_pair)), w23));
    }
    return hn::ShiftRight<kResizeBits>(sum);
  };
  // Two pixels of each row as bytes: the pixels of row 0, then those of row 1.
  const auto two_pixels = [&](int64_t x) HWY_ATTR {
    const hn::FixedTag<uint8_t, 8 * kCount> d8_half;
    if constexpr (kCount == 2) {
      return hn::DemoteTo(d8_half, hn::ReorderDemote2To(d16, pixel(x), pixel(x + 1)));  // 256 bits: block by block
    } else {
      const hn::FixedTag<int16_t, 4> d16_half;
      return hn::DemoteTo(
          d8_half, hn::Combine(d16_block, hn::DemoteTo(d16_half, pixel(x + 1)), hn::DemoteTo(d16_half, pixel(x))));
    }
  };
  const auto store = [&](auto four, uint8_t* to) HWY_ATTR {
    alignas(16) uint8_t stored[16];
    hn::Store(hn::TableLookupBytes(four, planes), d8_block, stored);
    for (int64_t c = 0; c < 3; ++c) std::memcpy(to + c * out_width, stored + 4 * c, 4);
  };

  int64_t x = 0;
  for (; x + 4 <= out_width; x += 4) {
    const auto low = two_pixels(x), high = two_pixels(x + 2);
    if constexpr (kCount == 2) {
      const auto low64 = hn::BitCast(d64_block, low), high64 = hn::BitCast(d64_block, high);
      store(hn::BitCast(d8_block, hn::InterleaveLower(d64_block, low64, high64)), out + x);
      store(hn::BitCast(d8_block, hn::InterleaveUpper(d64_block, low64, high64)), out + out_stride + x);
    } else {
      store(hn::Combine(d8_block, high, low), out + x);
    }
  }
  for (; x < out_width; ++x) {
    alignas(32) int32_t sums[4 * kCount];
    hn::Store(pixel(x), d32, sums);
    for (int64_t r = 0; r < kCount; ++r) {
      for (int64_t c = 0; c < 3; ++c) {
        out[r * out_stride + c * out_width + x] = static_cast<uint8_t>(std::clamp(sums[4 * r + c], 0, 255));
      }
    }
  }
}

// Four grey rows at a time, each `stride` bytes apart: four taps of each row fill a block.
void scale_four_grey_rows(const uint8_t* rows, int64_t stride, const ResizeAxis& axis, int64_t out_width,
                          uint8_t* out) {
  const hn::FixedTag<int32_t, 1> d32_one;
  const hn::FixedTag<int32_t, 2> d32_two;
  const hn::FixedTag<int32_t, 4> d32;
  const hn::FixedTag<int16_t, 8> d16;
  const hn::FixedTag<uint8_t, 16> d8;
  const hn::FixedTag<uint8_t, 8> d8_half;
  const hn::FixedTag<uint64_t, 2> d64;
  for (int64_t x = 0; x < out_width; ++x) {
    const uint8_t* from = rows + axis.first[x];
    const int16_t* weights = axis.weights + x * axis.taps;
    auto upper = hn::Zero(d32), lower = hn::Zero(d32);  // two partial sums for each of rows 0, 1 and of rows 2, 3
    for (int64_t t = 0; t < axis.taps; t += 4) {
      const auto taps_of = [&](int64_t r) HWY_ATTR {
        int32_t four;
        std::memcpy(&four, from + r * stride + t, sizeof(four));
        return hn::Set(d32_one, four);
      };
      const auto first = hn::Combine(d32_two, taps_of(1), taps_of(0)),
                 second = hn::Combine(d32_two, taps_of(3), taps_of(2));
      const auto bytes = hn::BitCast(d8, hn::Combine(d32, second, first));
      uint64_t w;
      std::memcpy(&w, weights + t, sizeof(w));
      const auto w0123 = hn::BitCast(d16, hn::Set(d64, w));
      upper = hn::Add(upper, pair_products(d32, hn::PromoteTo(d16, hn::LowerHalf(d8_half, bytes)), w0123));
      lower = hn::Add(lower, pair_products(d32, hn::PromoteTo(d16, hn::UpperHalf(d8_half, bytes)), w0123));
    }
    const auto even = hn::ConcatEven(d32, lower, upper), odd = hn::ConcatOdd(d32, lower, upper);
    const auto sums = hn::ShiftRight<kResizeBits>(hn::Add(hn::Add(even, odd), hn::Set(d32, kHalf)));
    alignas(16) int32_t stored[4];
    hn::Store(hn::Min(hn::Max(sums, hn::Zero(d32)), hn::Set(d32, 255)), d32, stored);
    for (int64_t r = 0; r < 4; ++r) out[r * out_width + x] = static_cast<uint8_t>(stored[r]);
  }
}
#endif

// One output row of one channel: `taps` rows of bytes, `stride` apart, blended and normalised.
void blend_rows(const uint8_t* rows, int64_t stride, const int16_t* weights, int64_t taps, int64_t width, float scale,
                float shift, float* out) {
  constexpr float kUnit = 1.0F / (1 << kResizeBits);
  int64_t x = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, 8> df;  // so that the bytes of two rows fill at most one 128-bit block
  const hn::RebindToSigned<decltype(df)> d32;
  const hn::Repartition<int16_t, decltype(d32)> d16;
  const hn::Rebind<uint8_t, decltype(d32)> d8;
  const hn::Twice<decltype(d8)> d8_pairs;
  const auto n = static_cast<int64_t>(hn::Lanes(df));
  const auto v_unit = hn::Set(df, kUnit), v_scale = hn::Set(df, scale), v_shift = hn::Set(df, shift);
  const auto lowest = hn::Zero(df), highest = hn::Set(df, 255.0F);
  const auto pairs = [&](const uint8_t* from) HWY_ATTR {
    const auto upper = hn::ZeroExtendVector(d8_pairs, hn::LoadU(d8, from));
    const auto lower = hn::ZeroExtendVector(d8_pairs, hn::LoadU(d8, from + stride));
    return hn::PromoteTo(d16, hn::InterleaveLower(d8_pairs, upper, lower));
  };
  const auto finish = [&](auto sum) HWY_ATTR {
    const auto value = hn::Mul(hn::ConvertTo(df, sum), v_unit);
    return hn::MulAdd(hn::Min(hn::Max(value, lowest), highest), v_scale, v_shift);
  };
  const auto weight_pair = [&](int64_t t) HWY_ATTR {
    int32_t pair;
    std::memcpy(&pair, weights + t, sizeof(pair));
    return hn::BitCast(d16, hn::Set(d32, pair));
  };
  for (; x + 2 * n <= width; x += 2 * n) {
    auto a = hn::Zero(d32), b = hn::Zero(d32);
    for (int64_t t = 0; t < taps; t += 2) {
      const auto w = weight_pair(t);
      a = hn::Add(a, pair_products(d32, pairs(rows + t * stride + x), w));
      b = hn::Add(b, pair_products(d32, pairs(rows + t * stride + x + n), w));
    }
    hn::StoreU(finish(a), df, out + x);
    hn::StoreU(finish(b), df, out + x + n);
  }
  for (; x + n <= width; x += n) {
    auto a = hn::Zero(d32);
    for (int64_t t = 0; t < taps; t += 2) {
      a = hn::Add(a, pair_products(d32, pairs(rows + t * stride + x), weight_pair(t)));
    }
    hn::StoreU(finish(a), df, out + x);
  }
#endif
  for (; x < width; ++x) {
    int32_t sum = 0;
    for (int64_t t = 0; t < taps; ++t) sum += weights[t] * rows[t * stride + x];
    out[x] = std::clamp(static_cast<float>(sum) * kUnit, 0.0F, 255.0F) * scale + shift;
  }
}

void image_resize(const ImageResize& job, int64_t begin, int64_t end) {
  if (begin >= end) return;
  const int64_t from = job.rows.first[begin];
  const int64_t to = std::min(job.rows.first[end - 1] + job.rows.taps, job.box_height);
  const int64_t row_bytes = job.channels * job.out_width;
  // A box with fewer rows than taps: the rows past its end have weight zero, but are read.
  const int64_t missing = job.rows.first[end - 1] + job.rows.taps - to;
  std::memset(job.scratch + (to - from) * row_bytes, 0, static_cast<size_t>(missing * row_bytes));

  int64_t y = from;
  const auto row_at = [&](int64_t r) { return job.image + (job.top + r) * job.stride + job.left * job.channels; };
  const auto out_at = [&](int64_t r) { return job.scratch + (r - from) * row_bytes; };
#if HWY_TARGET != HWY_SCALAR
  // The vector loops read whole groups of taps and up to 4 bytes more. Where that leaves the picture, they read a
  // padded copy.
  const int64_t reach = std::max(job.box_width, job.columns.taps) * job.channels + 4;
  const uint8_t* picture_end = job.image + (job.height - 1) * job.stride + job.width * job.channels;
  const auto readable = [&](int64_t r) { return picture_end - row_at(r) >= reach; };
  if (job.channels == 1) {
    for (; y + 4 <= to && readable(y + 3); y += 4) {
      scale_four_grey_rows(row_at(y), job.stride, job.columns, job.out_width, out_at(y));
    }
  }
  if (job.channels == 3) {
    for (; y + kRowsAtOnce <= to && readable(y + kRowsAtOnce - 1); y += kRowsAtOnce) {
      scale_rows_rgb<kRowsAtOnce>(row_at(y), job.stride, job.columns, job.out_width, out_at(y), row_bytes);
    }
    uint8_t* padded = job.scratch + std::max(job.box_height, job.rows.taps) * row_bytes;
    for (; y < to; ++y) {
      const int64_t there = std::min<int64_t>(picture_end - row_at(y), reach);
      std::memcpy(padded, row_at(y), static_cast<size_t>(there));
      std::memset(padded + there, 0, static_cast<size_t>(reach - there));
      scale_rows_rgb<1>(padded, 0, job.columns, job.out_width, out_at(y), 0);
    }
  }
#endif
  for (; y < to; ++y) {
    scale_row_plain(row_at(y), job.columns, job.channels, job.box_width, job.out_width, out_at(y));
  }

  for (y = begin; y < end; ++y) {
    const uint8_t* rows = job.scratch + (job.rows.first[y] - from) * row_bytes;
    const int16_t* weights = job.rows.weights + y * job.rows.taps;
    for (int64_t c = 0; c < job.channels; ++c) {
      blend_rows(rows + c * job.out_width, row_bytes, weights, job.rows.taps, job.out_width, job.scale[c], job.shift[c],
                 job.out + (c * job.out_height + y) * job.out_width);
    }
  }
}

}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(image_resize);

namespace {

double filter_value(ResizeFilter filter, double x) {
  x = std::abs(x);
  if (filter == ResizeFilter::bilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((x - 5) * x + 8) * x * a - 4 * a;
  return 0;
}

struct Support {
  double scale, radius, squeeze;  // input pixels a step, half width of the filter in input pixels, filter units a pixel
  Support(ResizeFilter filter, int64_t in, int64_t out)
      : scale(static_cast<double>(in) / static_cast<double>(out)),
        radius((filter == ResizeFilter::bilinear ? 1.0 : 2.0) * std::max(scale, 1.0)),
        squeeze(1 / std::max(scale, 1.0)) {}
  [[nodiscard]] double center(int64_t o) const { return scale * (static_cast<double>(o) + 0.5); }
  [[nodiscard]] int64_t first(int64_t o) const {
    return std::max<int64_t>(static_cast<int64_t>(center(o) - radius + 0.5), 0);
  }
  [[nodiscard]] int64_t last(int64_t o, int64_t in) const {  // one past the last
    return std::min(static_cast<int64_t>(center(o) + radius + 0.5), in);
  }
};

}  // namespace

int64_t resize_taps(ResizeFilter filter, int64_t in, int64_t out) {
  const Support support(filter, in, out);
  int64_t most = 1;
  for (int64_t o = 0; o < out; ++o) most = std::max(most, support.last(o, in) - support.first(o));
  return (most + 3) / 4 * 4;
}

void resize_weights(ResizeFilter filter, int64_t in, int64_t out, bool reversed, const ResizeAxis& axis) {
  const Support support(filter, in, out);
  for (int64_t o = 0; o < out; ++o) {
    const int64_t slot = reversed ? out - 1 - o : o;
    const int64_t first = support.first(o), count = support.last(o, in) - first;
    const int64_t start =
        std::clamp<int64_t>(in - axis.taps, 0, first);  // moved left where the taps would leave the box
    int16_t* weights = axis.weights + slot * axis.taps;
    std::fill(weights, weights + axis.taps, int16_t{0});
    axis.first[slot] = static_cast<int32_t>(start);
    double total = 0;
    const auto value = [&](int64_t t) {
      return filter_value(filter, (static_cast<double>(first + t) - support.center(o) + 0.5) * support.squeeze);
    };
    for (int64_t t = 0; t < count; ++t) total += value(t);
    int32_t sum = 0;
    for (int64_t t = 0; t < count; ++t) {
      const auto w = static_cast<int16_t>(std::lround(value(t) / total * (1 << kResizeBits)));
      weights[first - start + t] = w;
      sum += w;
    }
    int16_t* largest = std::max_element(weights, weights + axis.taps);
    *largest = static_cast<int16_t>(*largest + (1 << kResizeBits) - sum);  // rounding must not change a flat picture
  }
}

int64_t image_resize_scratch(const ImageResize& job) {
  const int64_t rows = std::max(job.box_height, job.rows.taps) * job.channels * job.out_width;
  return rows + std::max(job.box_width, job.columns.taps) * job.channels + 4;
}

namespace cpu {
void image_resize(const ImageResize& job, int64_t begin, int64_t end) {
  select_target();
  HWY_DYNAMIC_DISPATCH(image_resize)(job, begin, end);
}
}  // namespace cpu

}  // namespace winnow::kernels
#endif
