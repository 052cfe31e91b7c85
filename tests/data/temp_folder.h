// A folder that lives as long as the test, and files in it.
#pragma once

#include <ATen/core/Tensor.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace winnow::data {

class TempFolder {
 public:
  TempFolder() {
    auto pattern = (std::filesystem::temp_directory_path() / "winnow-data-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string string() const { return path_.string(); }

  // Writes bytes to a file, with the folders above it.
  std::string write(const std::string& name, const std::string& bytes) const {
    const auto path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

 private:
  std::filesystem::path path_;
};

// The bytes of an IDX file of uint8: two zeros, type 8, number of sizes, sizes big-endian, values.
inline std::string idx_bytes(const std::vector<uint32_t>& sizes, const std::vector<uint8_t>& values) {
  std::string out{0, 0, 8, static_cast<char>(sizes.size())};
  for (const auto size : sizes) {
    for (const int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>((size >> shift) & 0xffu));
  }
  for (const auto value : values) out.push_back(static_cast<char>(value));
  return out;
}

}  // namespace winnow::data
