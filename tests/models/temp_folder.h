#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

namespace winnow::testing {

// A folder of its own for one test, removed at the end.
struct TempFolder {
  TempFolder() {
    auto pattern = (std::filesystem::temp_directory_path() / "winnow_models_XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::filesystem::path path;
};

}  // namespace winnow::testing
