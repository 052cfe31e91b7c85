#include "winnow/kernels/masking_permutation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

// Sorting of short rows: scalar code, the same on every CPU target.
namespace winnow::kernels::cpu {
namespace {

void finish_row(const int64_t* shuffle, int64_t length, int64_t keep, int64_t* restore, float* mask) {
  for (int64_t k = 0; k < length; ++k) {
    restore[shuffle[k]] = k;
    mask[shuffle[k]] = k < keep ? 0.0F : 1.0F;
  }
}

// Bits whose unsigned order is the order of the values, -0 equal to 0, every NaN alike and last.
uint32_t ordered_bits(float x) {
  if (std::isnan(x)) return ~uint32_t{0};
  const auto bits = std::bit_cast<uint32_t>(x + 0.0F);
  return (bits >> 31) != 0 ? ~bits : bits | (uint32_t{1} << 31);
}

}  // namespace

// The index in the lower half of the key makes equal values keep their order, and lets the keys be sorted where the
// permutation will stand.
void masking_permutation(const float* noise, int64_t length, int64_t keep, const MaskingPermutation& out, int64_t begin,
                         int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const float* row = noise + b * length;
    auto* keys = reinterpret_cast<uint64_t*>(out.ids_shuffle + b * length);
    for (int64_t i = 0; i < length; ++i) {
      keys[i] = (static_cast<uint64_t>(ordered_bits(row[i])) << 32) | static_cast<uint64_t>(i);
    }
    std::sort(keys, keys + length);
    for (int64_t i = 0; i < length; ++i) keys[i] &= 0xffffffffU;
    finish_row(out.ids_shuffle + b * length, length, keep, out.ids_restore + b * length, out.mask + b * length);
  }
}

void masking_permutation(const double* noise, int64_t length, int64_t keep, const MaskingPermutation& out,
                         int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const double* row = noise + b * length;
    int64_t* shuffle = out.ids_shuffle + b * length;
    std::iota(shuffle, shuffle + length, int64_t{0});
    std::sort(shuffle, shuffle + length, [row](int64_t i, int64_t j) {
      if (std::isnan(row[i]) || std::isnan(row[j])) {
        return std::isnan(row[i]) == std::isnan(row[j]) ? i < j : std::isnan(row[j]);
      }
      return row[i] < row[j] || (row[i] == row[j] && i < j);
    });
    finish_row(shuffle, length, keep, out.ids_restore + b * length, out.mask + b * length);
  }
}

}  // namespace winnow::kernels::cpu
