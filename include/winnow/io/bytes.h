// Whole files as bytes: read into memory, unpacked from gzip, or mapped. No LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace winnow::io {

// Bytes of somebody else's buffer. Every reader takes them from a path or in this form.
using Bytes = std::span<const uint8_t>;

// The name that errors give to bytes that came from no file.
inline constexpr const char* kMemoryName = "<memory>";

// The default bound of files that are read whole and of what a gzip file may unpack to: 4 GiB.
inline constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;

// The content of a regular file. Throws Error(file) naming the path if it is missing, a folder, unreadable or larger
// than max_bytes.
std::vector<uint8_t> read_file(const std::filesystem::path& path, uint64_t max_bytes = kMaxFileBytes);

// As read_file, unpacked if the content starts with the magic of gzip (several members in a row are joined).
std::vector<uint8_t> read_file_or_gzip(const std::filesystem::path& path, uint64_t max_bytes = kMaxFileBytes);

// True if the bytes start with the magic number of gzip.
bool is_gzip(Bytes bytes);

// The unpacked content of a gzip stream. Throws Error(file) naming `name` if it is corrupted, ends early or unpacks to
// more than max_bytes (nothing larger is ever allocated).
std::vector<uint8_t> gunzip(Bytes bytes, const std::string& name = kMemoryName, uint64_t max_bytes = kMaxFileBytes);

// A file mapped into memory, private and writable: writes stay in this process and never reach the file. Replacing the
// file by rename (as winnow's own writers do) leaves a mapping intact; truncating it in place under a reader does not.
// Immutable after construction, so it may be shared by threads.
class MappedFile {
 public:
  // Throws Error(file) naming the path if it cannot be opened or mapped. An empty file gives an empty mapping.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  [[nodiscard]] uint8_t* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] Bytes bytes() const noexcept { return {data_, size_}; }

 private:
  uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace winnow::io
