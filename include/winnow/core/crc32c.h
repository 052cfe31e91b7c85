// CRC-32C (Castagnoli), the checksum of TensorBoard's records.
#pragma once

#include <cstddef>
#include <cstdint>

namespace winnow {

// Of `size` bytes; `before` is the CRC of what stands in front of them (0 at the start).
uint32_t crc32c(const void* data, size_t size, uint32_t before = 0);

// The rotated form that TFRecord stores: ((crc >> 15) | (crc << 17)) + 0xA282EAD8.
uint32_t masked_crc32c(const void* data, size_t size);

}  // namespace winnow
