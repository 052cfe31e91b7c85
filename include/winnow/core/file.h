// Small helpers for files. Each failure is one Error (file) with the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

// The whole file. Throws if it is longer than max_size bytes or is not a regular file (a pipe is read up to max_size).
std::string read_file(const std::string& path, int64_t max_size = int64_t{1} << 30);

// Makes the folder and those above it; no error if it exists. Throws if a file stands in the way.
void ensure_directory(const std::string& path);

// Removes what killed processes left of their AtomicFiles in this folder (.winnow-PID-N.tmp where no process PID lives
// on this machine) and returns how many. For a folder that one machine writes to, as a run folder is. Never throws.
int64_t remove_stale_temporaries(const std::string& folder);

// A file mapped into memory, private: the pages may be written (tensors are made of them), and no write reaches the
// file. The bytes stay valid as long as the object, even if the file is deleted or
// replaced; a file that is shortened by another process meanwhile ends in SIGBUS, as with every mapping (AtomicFile
// replaces, never shortens). An empty file gives an empty view.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile other) noexcept;

  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] int64_t size() const { return size_; }
  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(data_), static_cast<size_t>(size_)};
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace winnow
