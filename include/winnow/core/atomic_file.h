// A file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

// Writes a temporary file in the folder of the target and renames it over the target at commit: a reader, or a crash at
// any moment, sees the older file or the whole new one. Destroyed without commit, nothing is left and an older file is
// as it was. Every failure (full disk, unwritable folder, target is a folder, path too long) is one Error (file) that
// names the path and the system's reason; a target that is neither absent nor a regular file (/dev/null) is refused. A
// new file has mode 0666 less the umask, a replaced one keeps its mode. A target that is a symbolic link is followed.
// One thread at a time.
class AtomicFile {
 public:
  // Creates the temporary file.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  // Appends. Small writes are gathered in a buffer of 64 KiB.
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }

  // Overwrites bytes written before, for a header known only at the end; [offset, offset + size) must have been
  // written.
  void write_at(int64_t offset, const void* data, size_t size);

  // Bytes appended so far.
  [[nodiscard]] int64_t size() const { return size_; }

  // Flushes to the disk (fsync), renames, flushes the folder. Nothing may be written afterwards.
  void commit();

 private:
  void flush();
  void discard() noexcept;

  std::string path_, target_, temporary_, buffer_;  // target_: path_ with its links followed
  int descriptor_ = -1;
  int mode_ = -1;  // of the file to be replaced; -1: there is none
  int64_t size_ = 0;
};

// The whole text into a file, atomically.
void write_file(const std::string& path, std::string_view text);

}  // namespace winnow
