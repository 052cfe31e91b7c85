#include "winnow/tensor/runtime.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "winnow/core/version.h"
#include "winnow/kernels/cuda_stream.h"
#include "winnow/kernels/dispatch.h"

namespace winnow {
namespace {

// The distinct files mapped into the process whose name contains one of the words.
std::vector<std::string> mapped_files(const std::vector<std::string>& words) {
  std::vector<std::string> files;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto slash = line.find('/');
    if (slash == std::string::npos) continue;
    const auto path = line.substr(slash);
    const auto name = std::filesystem::path(path).filename().string();
    const bool wanted = std::any_of(words.begin(), words.end(),
                                    [&](const std::string& word) { return name.find(word) != std::string::npos; });
    if (wanted && std::find(files.begin(), files.end(), path) == files.end()) files.push_back(path);
  }
  return files;
}

// The version that the loaded LibTorch says it has: its file build-version (C++ archive) or version.py (Python
// package).
std::string loaded_version(const std::string& library) {
  const auto root = std::filesystem::path(library).parent_path().parent_path();
  std::string line;
  if (std::ifstream file(root / "build-version"); file && std::getline(file, line)) return line;
  std::ifstream file(root / "version.py");
  while (std::getline(file, line)) {
    const auto first = line.find('\''), last = line.rfind('\'');
    if (line.rfind("__version__", 0) == 0 && first < last) return line.substr(first + 1, last - first - 1);
  }
  return "";
}

std::string major_minor(const std::string& version) {
  const auto dot = version.find('.');
  return version.substr(0, dot == std::string::npos ? dot : version.find('.', dot + 1));
}

void find_problems(RuntimeInfo& info, const std::string& loaded) {
  if (info.openmp_runtimes.size() > 1) {
    info.warnings.push_back(fmt::format("{} OpenMP runtimes are loaded ({}): threads may be oversubscribed",
                                        info.openmp_runtimes.size(), fmt::join(info.openmp_runtimes, ", ")));
  }
  if (!loaded.empty() && major_minor(loaded) != major_minor(info.libtorch_compiled)) {
    info.warnings.push_back(
        fmt::format("compiled against LibTorch {} but {} is loaded", info.libtorch_compiled, loaded));
  }
  const auto major = [](const std::string& version) { return version.substr(0, version.find('.')); };
  if (!info.cuda_loaded.empty() && major(info.cuda_loaded) != major(info.cuda_compiled)) {
    info.warnings.push_back(
        fmt::format("compiled against CUDA {} but {} is loaded", info.cuda_compiled, info.cuda_loaded));
  }
  if (at::hasCUDA() && !info.built_with_cuda) {
    info.warnings.emplace_back("there is a GPU but winnow is built without CUDA; configure with WINNOW_CUDA=ON");
  }
  if (info.cpu_target != info.cpu_targets.front()) {
    info.warnings.push_back(fmt::format("WINNOW_CPU narrows the kernels to {}; this processor has {}", info.cpu_target,
                                        info.cpu_targets.front()));
  }
}

}  // namespace

RuntimeInfo runtime_info() {
  RuntimeInfo info;
  info.winnow_version = version();
#if defined(__clang__)
  info.compiler = fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  info.compiler = fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
  info.libtorch_compiled = TORCH_VERSION;
  const auto libraries = mapped_files({"libtorch_cpu.so"});
  const auto loaded = libraries.empty() ? std::string() : loaded_version(libraries.front());
  info.libtorch_loaded = libraries.empty()
                             ? "linked statically"
                             : fmt::format("{} ({})", loaded.empty() ? "unknown version" : loaded, libraries.front());
  info.cxx11_abi = _GLIBCXX_USE_CXX11_ABI != 0;
  info.cpu_target = kernels::cpu::target_in_use();
  info.cpu_targets = kernels::cpu::supported_targets();
  info.threads = at::get_num_threads();
  info.cuda_compiled = kernels::cuda::toolkit_version();
  info.built_with_cuda = !info.cuda_compiled.empty();
  info.cuda_loaded = kernels::cuda::runtime_version();
  const auto devices = at::hasCUDA() ? at::getNumGPUs() : size_t{0};
  info.cuda_devices = devices == 0 ? "none" : std::to_string(devices);
  if (at::hasCUDA()) info.cudnn = std::to_string(at::detail::getCUDAHooks().versionCuDNN());
  info.openmp_runtimes = mapped_files({"libgomp", "libiomp", "libomp"});
  find_problems(info, loaded);
  return info;
}

std::string format(const RuntimeInfo& info) {
  const auto or_none = [](const std::string& text) { return text.empty() ? std::string("none") : text; };
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{:<18}{}\n", name, value);
  };
  line("winnow", fmt::format("{} ({})", info.winnow_version, info.compiler));
  line("LibTorch", fmt::format("compiled against {}, loaded {}", info.libtorch_compiled, info.libtorch_loaded));
  line("string ABI", info.cxx11_abi ? "cxx11" : "old (pre-cxx11)");
  line("CPU target", fmt::format("{} of {}", info.cpu_target, fmt::join(info.cpu_targets, ", ")));
  line("threads", std::to_string(info.threads));
  line("CUDA", info.built_with_cuda
                   ? fmt::format("compiled against {}, loaded {}", info.cuda_compiled, or_none(info.cuda_loaded))
                   : "built without CUDA");
  line("GPUs", info.cuda_devices);
  line("cuDNN", or_none(info.cudnn));
  line("OpenMP", fmt::format("{}", fmt::join(info.openmp_runtimes, ", ")));
  for (const auto& warning : info.warnings) line("warning", warning);
  return text;
}

}  // namespace winnow
