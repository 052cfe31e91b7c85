// Arrays of the other byte order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace winnow::io {

// Reverses each of the `count` groups of `width` bytes.
inline void swap_bytes(uint8_t* data, std::size_t count, std::size_t width) {
  for (std::size_t i = 0; i < count; ++i) std::reverse(data + i * width, data + (i + 1) * width);
}

}  // namespace winnow::io
