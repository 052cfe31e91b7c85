// Prints what winnow was built with and what it runs with: versions, string ABI, CPU target, threads, CUDA compiled
// against and loaded. For bug reports: ./dev doctor
#include <fmt/core.h>

#include "winnow/core/program.h"
#include "winnow/tensor/runtime.h"

int main(int argc, char** argv) {
  const winnow::ProgramInfo info{.name = "doctor",
                                 .summary = "Prints versions, CPU target, threads and what is loaded."};
  return winnow::run_program(argc, argv, info, [](winnow::Config&) {
    fmt::print("{}\n", winnow::format(winnow::runtime_info()));
    return 0;
  });
}
