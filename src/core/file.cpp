#include "winnow/core/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow {
namespace {

[[noreturn]] void fail_system(const std::string& path, const char* what, int error) {
  fail(ErrorKind::file, "{}: {}: {}", printable(path), what, std::strerror(error));
}

// A descriptor that is open for reading and closed on the way out; a folder is an error.
class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) fail_system(path, "cannot open", errno);
    if (::fstat(number_, &status_) != 0 || S_ISDIR(status_.st_mode)) {
      const auto error = S_ISDIR(status_.st_mode) ? EISDIR : errno;
      ::close(number_);
      fail_system(path, "cannot read", error);
    }
  }
  ~Descriptor() { ::close(number_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] const struct stat& status() const { return status_; }

 private:
  int number_;
  struct stat status_ = {};
};

}  // namespace

std::string read_file(const std::string& path, int64_t max_size) {
  const Descriptor file(path);
  const auto check_size = [&](int64_t size) {
    WINNOW_CHECK_KIND(size <= max_size, ErrorKind::file, "{}: longer than {}", printable(path), human_bytes(max_size));
  };
  check_size(file.status().st_size);
  std::string text;
  text.resize(static_cast<size_t>(file.status().st_size) + 1);  // one more, to see the end of the file
  for (size_t filled = 0;;) {
    const auto count = ::read(file.number(), text.data() + filled, text.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_system(path, "cannot read", errno);
    filled += static_cast<size_t>(count);
    check_size(static_cast<int64_t>(filled));
    if (count == 0) {
      text.resize(filled);
      return text;
    }
    if (filled == text.size()) text.resize(text.size() + std::max<size_t>(text.size(), 4096));
  }
}

void ensure_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error && !std::filesystem::is_directory(path, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) fail(ErrorKind::file, "{}: cannot make the folder: {}", printable(path), std::strerror(error.value()));
}

int64_t remove_stale_temporaries(const std::string& folder) {
  int64_t removed = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto name = entry.path().filename().string();  // .winnow-PID-N.tmp
    if (!name.starts_with(".winnow-") || !name.ends_with(".tmp")) continue;
    pid_t process = 0;
    const auto* digits = name.data() + std::strlen(".winnow-");
    const auto parsed = std::from_chars(digits, name.data() + name.size(), process);
    if (parsed.ec != std::errc() || *parsed.ptr != '-' || process <= 0) continue;
    if (::kill(process, 0) == 0 || errno != ESRCH) continue;
    if (std::filesystem::remove(entry.path(), error)) ++removed;
  }
  return removed;
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file(path);
  WINNOW_CHECK_KIND(S_ISREG(file.status().st_mode), ErrorKind::file, "{}: is not a regular file", printable(path));
  size_ = file.status().st_size;
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                         file.number(), 0);
  if (address == MAP_FAILED) fail_system(path, "cannot map", errno);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace winnow
