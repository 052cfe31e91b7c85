// Whether LibTorch can describe a shape that a file claims.
#pragma once

#include <cstdint>
#include <limits>

namespace winnow::io {

// Grows a shape size by size. Strides are products of sizes counted as at least 1, also where a size of 0 makes the
// tensor empty: [2^31, 2^31, 0, 4] holds nothing and still cannot be described.
class Addressable {
 public:
  explicit Addressable(uint64_t element_size) : bytes_(element_size) {}

  // False from the first size on that takes the product past the range of int64.
  bool add(uint64_t size) {
    fits_ = fits_ && !__builtin_mul_overflow(bytes_, size == 0 ? 1 : size, &bytes_) &&
            bytes_ <= uint64_t{std::numeric_limits<int64_t>::max()};
    return fits_;
  }

 private:
  uint64_t bytes_;
  bool fits_ = true;
};

}  // namespace winnow::io
