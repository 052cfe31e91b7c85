// Safetensors files written by hand, for tests of the reader.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace winnow::testing {

// Length, header and data, nothing checked.
inline std::vector<uint8_t> safetensors_bytes(const std::string& header, const std::string& data = "") {
  std::vector<uint8_t> bytes;
  for (std::size_t i = 0; i < 8; ++i)
    bytes.push_back(static_cast<uint8_t>((uint64_t{header.size()} >> (8 * i)) & 0xff));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

}  // namespace winnow::testing
