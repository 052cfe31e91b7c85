#pragma once

#include <string>
#include <vector>

namespace winnow {

// What this program was built with and what it really runs with.
struct RuntimeInfo {
  std::string winnow_version;
  std::string compiler;                      // of the library: "clang 19.1.7"
  std::string libtorch_compiled;             // version of the headers: "2.11.0"
  std::string libtorch_loaded;               // version and path of the library mapped into the process
  bool cxx11_abi = true;                     // std::string's layout
  std::string cpu_target;                    // in use, see kernels/dispatch.h
  std::vector<std::string> cpu_targets;      // that the machine supports, best first
  int threads = 1;                           // at::get_num_threads()
  bool built_with_cuda = false;              // WINNOW_CUDA=ON at configuration
  std::string cuda_compiled;                 // toolkit version, empty without CUDA
  std::string cuda_loaded;                   // runtime version, empty if none is loaded
  std::string cuda_devices;                  // how many, or "none"
  std::string cudnn;                         // version, empty if none
  std::vector<std::string> openmp_runtimes;  // files mapped into the process
  std::vector<std::string> warnings;         // what is likely to hurt, one sentence each
};

RuntimeInfo runtime_info();

// A line per fact, for `dev doctor` and bug reports.
std::string format(const RuntimeInfo& info);

}  // namespace winnow
