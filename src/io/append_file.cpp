#include "append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "winnow/core/error.h"
#include "winnow/core/file.h"

namespace winnow::io {

AppendFile::AppendFile(std::filesystem::path path, Mode mode) : path_(std::move(path)) {
  if (path_.has_parent_path()) ensure_directory(path_.parent_path().string());
  const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (mode == Mode::create_new ? O_EXCL : 0);
  descriptor_ = ::open(path_.c_str(), flags, 0666);
  WINNOW_CHECK_KIND(descriptor_ >= 0, ErrorKind::file, "{}: cannot be opened for appending: {}", path_.string(),
                    std::strerror(errno));
}

AppendFile::~AppendFile() {
  ::close(descriptor_);
}

void AppendFile::write(std::string_view piece) {
  std::size_t done = 0;
  while (done < piece.size()) {
    const auto count = ::write(descriptor_, piece.data() + done, piece.size() - done);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    const int reason = errno;
    struct stat state{};
    if (done > 0 && ::fstat(descriptor_, &state) == 0) {
      // A failure to cut leaves a torn last piece, which readers know how to drop.
      [[maybe_unused]] const int cut = ::ftruncate(descriptor_, state.st_size - static_cast<off_t>(done));
    }
    fail(ErrorKind::file, "{}: cannot be written: {}", path_.string(), std::strerror(reason));
  }
}

}  // namespace winnow::io
