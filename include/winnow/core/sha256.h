// SHA-256 (FIPS 180-4), the checksum of data files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

// Gathers bytes in any portions.
class Sha256 {
 public:
  void update(const void* data, size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  // 64 lower case hexadecimal digits of all bytes so far; more may follow.
  [[nodiscard]] std::string hex() const;

 private:
  void block(const uint8_t* bytes);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_ = {};
  uint64_t size_ = 0;
};

std::string sha256(std::string_view bytes);
// Of a file, read in portions. Error (file) if it cannot be read.
std::string sha256_file(const std::string& path);

}  // namespace winnow
