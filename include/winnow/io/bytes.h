// Bytes of files, plain or gzipped. Whole files are read by winnow::read_file of core/file.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace winnow::io {

// Bytes of somebody else's buffer. Every reader takes them, or a path.
using Bytes = std::span<const uint8_t>;

// The name that errors give to bytes that came from no file.
inline constexpr const char* kMemoryName = "<memory>";

// The default bound of files that are read whole and of what a gzip file may unpack to: 4 GiB.
inline constexpr int64_t kMaxFileBytes = int64_t{4} << 30;

// The same memory under the other name.
inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// True if the bytes start with the magic number of gzip.
bool is_gzip(Bytes bytes);

// The unpacked content of a gzip stream; several members in a row are joined, zeros at the end ignored. Throws
// Error(file) naming `name` if it is corrupted, ends early or unpacks to more than max_bytes (no more is ever kept).
std::string gunzip(Bytes bytes, const std::string& name = kMemoryName, int64_t max_bytes = kMaxFileBytes);

// The content of a file, unpacked if it is gzip. Errors: as winnow::read_file and gunzip.
std::string read_file_or_gzip(const std::filesystem::path& path, int64_t max_bytes = kMaxFileBytes);

}  // namespace winnow::io
