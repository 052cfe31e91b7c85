#include "winnow/core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow {
namespace {

constexpr size_t kBufferSize = size_t{1} << 16;

[[noreturn]] void fail_system(const std::string& path, const char* what, int error) {
  fail(ErrorKind::file, "{}: {}: {}", printable(path), what, std::strerror(error));
}

// Where a chain of symbolic links ends, which need not exist yet.
std::string resolve_links(std::string path) {
  std::error_code error;
  for (int i = 0; i < 40 && std::filesystem::is_symlink(path, error); ++i) {
    const auto target = std::filesystem::read_symlink(path, error);
    path = (std::filesystem::path(path).parent_path() / target).string();  // an absolute target replaces the rest
  }
  return path;
}

std::string folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// All of the bytes; offset < 0 appends. 0 or the error.
int write_all(int descriptor, const char* bytes, size_t size, int64_t offset = -1) {
  while (size > 0) {
    const auto count = offset < 0 ? ::write(descriptor, bytes, size) : ::pwrite(descriptor, bytes, size, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes += count;
    size -= static_cast<size_t>(count);
    if (offset >= 0) offset += count;
  }
  return 0;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(resolve_links(path)) {
  WINNOW_CHECK_KIND(!path.empty(), ErrorKind::file, "cannot write: the file name is empty");
  struct stat status = {};
  if (::stat(target_.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) fail_system(path_, "cannot write", EISDIR);
    WINNOW_CHECK_KIND(S_ISREG(status.st_mode), ErrorKind::file, "{}: cannot write: not a regular file",
                      printable(path_));
    mode_ = static_cast<int>(status.st_mode & 07777);
  } else if (errno != ENOENT) {
    fail_system(path_, "cannot write", errno);
  }
  // The name is short whatever the target is called. One left by a killed process of the same number is passed over.
  static std::atomic<int64_t> counter = 0;
  do {
    temporary_ = fmt::format("{}/.winnow-{}-{}.tmp", folder_of(target_), ::getpid(), counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail_system(path_, "cannot create", errno);
}

AtomicFile::~AtomicFile() {
  discard();
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      buffer_(std::move(other.buffer_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      mode_(other.mode_),
      size_(other.size_) {}

void AtomicFile::write(const void* data, size_t size) {
  WINNOW_CHECK(descriptor_ >= 0, "AtomicFile::write: {} is committed already", printable(path_));
  size_ += static_cast<int64_t>(size);
  if (buffer_.size() + size >= kBufferSize) flush();
  if (size < kBufferSize) {
    buffer_.append(static_cast<const char*>(data), size);
  } else if (const auto error = write_all(descriptor_, static_cast<const char*>(data), size)) {
    fail_system(path_, "cannot write", error);
  }
}

void AtomicFile::write_at(int64_t offset, const void* data, size_t size) {
  WINNOW_CHECK(descriptor_ >= 0, "AtomicFile::write_at: {} is committed already", printable(path_));
  WINNOW_CHECK(offset >= 0 && offset <= size_ && static_cast<int64_t>(size) <= size_ - offset,
               "AtomicFile::write_at: [{}, {}) must lie within the {} bytes written", offset,
               offset + static_cast<int64_t>(size), size_);
  flush();
  const auto error = write_all(descriptor_, static_cast<const char*>(data), size, offset);
  if (error != 0) fail_system(path_, "cannot write", error);
}

void AtomicFile::flush() {
  const auto error = write_all(descriptor_, buffer_.data(), buffer_.size());
  buffer_.clear();
  if (error != 0) fail_system(path_, "cannot write", error);
}

void AtomicFile::commit() {
  WINNOW_CHECK(descriptor_ >= 0, "AtomicFile::commit: {} is committed already", printable(path_));
  flush();
  if (mode_ >= 0 && ::fchmod(descriptor_, static_cast<mode_t>(mode_)) != 0)
    fail_system(path_, "cannot set the mode", errno);
  if (::fsync(descriptor_) != 0) fail_system(path_, "cannot write", errno);
  // Some file systems report a failed write only here. The descriptor is gone in either case.
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    const auto error = errno;
    ::unlink(temporary_.c_str());
    fail_system(path_, "cannot write", error);
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const auto error = errno;
    ::unlink(temporary_.c_str());
    fail_system(path_, "cannot replace", error);
  }
  // The file is in place; a file system that cannot flush a folder is no reason to fail.
  const auto folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
}

void AtomicFile::discard() noexcept {
  if (descriptor_ < 0) return;
  ::close(std::exchange(descriptor_, -1));
  ::unlink(temporary_.c_str());
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace winnow
