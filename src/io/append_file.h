// A file that is only appended to, each piece whole.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace winnow::io {

class AppendFile {
 public:
  enum class Mode { create_new, append };

  // Makes the folder and the file. Throws Error(file) naming the path; create_new fails if the file exists.
  AppendFile(std::filesystem::path path, Mode mode);
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  ~AppendFile();

  // All bytes, at the end of the file: one write of the operating system unless the disk fills. Where it fills midway,
  // what was written of the piece is cut off again before Error(file) is thrown.
  void write(std::string_view piece);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace winnow::io
