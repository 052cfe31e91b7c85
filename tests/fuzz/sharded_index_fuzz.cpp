// Any bytes as the index of a checkpoint whose two shards lie beside it: every tensor is read, or there is one
// winnow::Error of one line.
#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "winnow/core/error.h"
#include "winnow/io/safetensors.h"

namespace {

// A folder with shards "a.safetensors" (x, y) and "b.safetensors" (z), gone at the end of the process.
struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / ("winnow_index_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path);
    winnow::io::save_safetensors(path / "a.safetensors", {{"x", at::ones({2})}, {"y", at::ones({1, 3})}});
    winnow::io::save_safetensors(path / "b.safetensors", {{"z", at::ones({4})}});
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path path;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  std::ofstream(folder.path / "model.safetensors.index.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const winnow::io::Checkpoint checkpoint(folder.path);
    for (const auto& name : checkpoint.names()) {
      if (checkpoint.tensor(name).numel() < 2) std::abort();
    }
  } catch (const winnow::Error& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
