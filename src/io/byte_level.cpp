#include "byte_level.h"

#include <array>

#include "unicode.h"

namespace winnow::io {
namespace {

constexpr bool is_printable(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<uint32_t, 256> kCodes = [] {
  std::array<uint32_t, 256> codes{};
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) codes[byte] = is_printable(byte) ? byte : next++;
  return codes;
}();

constexpr std::array<int32_t, 0x144> kBytes = [] {
  std::array<int32_t, 0x144> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (int32_t byte = 0; byte < 256; ++byte) bytes[kCodes[static_cast<size_t>(byte)]] = byte;
  return bytes;
}();

}  // namespace

uint32_t byte_level_code(uint8_t byte) {
  return kCodes[byte];
}
int32_t byte_of_code(uint32_t code) {
  return code < kBytes.size() ? kBytes[code] : -1;
}

std::optional<std::string> byte_level_bytes(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const auto c = unicode::decode(token, at);
    const auto byte = byte_of_code(c.code);
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    at += c.length;
  }
  return bytes;
}

std::string byte_level_text(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) unicode::append(text, byte_level_code(static_cast<unsigned char>(byte)));
  return text;
}

}  // namespace winnow::io
