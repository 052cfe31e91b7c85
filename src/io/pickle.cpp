#include "pickle.h"

#include <algorithm>
#include <array>

#include "winnow/core/error.h"

namespace winnow::io {
namespace {

bool has_pickle_name(const std::string& name) {
  constexpr std::array<std::string_view, 5> kExtensions = {".pt", ".pth", ".bin", ".ckpt", ".pkl"};
  auto extension = std::filesystem::path(name).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

[[noreturn]] void refuse(const std::string& name) {
  const auto target = std::filesystem::path(name).replace_extension(".safetensors").filename().string();
  fail(ErrorKind::file,
       "{}: pickle files are never read, because they can run code; convert it in Python: import torch; from "
       "safetensors.torch import save_file; save_file({{k: v.clone() for k, v in torch.load(\"{}\", "
       "weights_only=True).items()}}, \"{}\", {{\"format\": \"pt\"}})",
       name, std::filesystem::path(name).filename().string(), target);
}

}  // namespace

void refuse_pickle(const std::string& name, Bytes start) {
  const bool zip = start.size() >= 4 && as_text(start.first(4)) == "PK\x03\x04";
  const bool pickle = start.size() >= 2 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5;
  if (zip || pickle || has_pickle_name(name)) refuse(name);
}

void refuse_pickle_name(const std::string& name) {
  if (has_pickle_name(name)) refuse(name);
}

}  // namespace winnow::io
