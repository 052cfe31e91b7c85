// How many bytes a shape that a file claims needs, and whether LibTorch can describe it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace winnow::io {

// Grows a shape size by size. Strides are products of sizes counted as at least 1, also where a size of 0 makes the
// tensor empty: [2^31, 2^31, 0, 4] holds nothing and still cannot be described.
class Addressable {
 public:
  explicit Addressable(uint64_t element_size) : bytes_(element_size), extent_(element_size) {}

  // False from the first size on that takes the strides past the range of int64.
  bool add(uint64_t size) {
    countable_ = countable_ && !__builtin_mul_overflow(bytes_, size, &bytes_);
    described_ = described_ && !__builtin_mul_overflow(extent_, size == 0 ? 1 : size, &extent_) &&
                 extent_ <= uint64_t{std::numeric_limits<int64_t>::max()};
    return described_;
  }
  [[nodiscard]] bool described() const { return described_; }
  // The product of all sizes so far and the element's; none if it passed 2^64.
  [[nodiscard]] std::optional<uint64_t> bytes() const { return countable_ ? std::optional(bytes_) : std::nullopt; }

 private:
  uint64_t bytes_, extent_;
  bool countable_ = true, described_ = true;
};

}  // namespace winnow::io
