#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace winnow::data {

// The bytes of an IDX file of uint8: two zeros, type 8, number of sizes, sizes big-endian, values.
inline std::string idx_bytes(const std::vector<uint32_t>& sizes, const std::vector<uint8_t>& values) {
  std::string out{0, 0, 8, static_cast<char>(sizes.size())};
  for (const auto size : sizes) {
    for (const int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>((size >> shift) & 0xffu));
  }
  for (const auto value : values) out.push_back(static_cast<char>(value));
  return out;
}

}  // namespace winnow::data
