// The alphabet of byte-level BPE: each byte has a printable character. Source: Radford et al. 2019 (GPT-2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace winnow::io {

// The character of a byte: itself where it is printable in Latin-1, else one from U+0100 on.
uint32_t byte_level_code(uint8_t byte);
// The byte of a character, or -1.
int32_t byte_of_code(uint32_t code);
// A token's bytes; none where one of its characters stands for no byte.
std::optional<std::string> byte_level_bytes(std::string_view token);
// The characters of bytes.
std::string byte_level_text(std::string_view bytes);

}  // namespace winnow::io
