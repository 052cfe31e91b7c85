#pragma once

#include <cstdint>
#include <vector>

namespace winnow::testing {

// Sizes around every vector width, with primes and one past a block: for loops over rows and columns.
inline std::vector<int64_t> awkward_sizes() {
  return {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 97, 127, 129};
}

// The same with 0, where an empty tensor is allowed.
inline std::vector<int64_t> awkward_sizes_and_empty() {
  auto sizes = awkward_sizes();
  sizes.insert(sizes.begin(), 0);
  return sizes;
}

}  // namespace winnow::testing
