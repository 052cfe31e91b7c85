#pragma once

#include <string>
#include <vector>

// The choice of instruction set for the CPU kernels.
//
// Every CPU kernel is built once for each target that Highway knows on this architecture (x86-64: EMU128 or SCALAR,
// SSSE3, SSE4, AVX2, AVX3; Arm: NEON, SVE ...). The best one that the processor has is taken at the first call of any
// kernel. The environment variable WINNOW_CPU=<target> narrows the choice to that target and the plainer ones. Names
// are Highway's; EMU128 and SCALAR both mean the plain target. All functions are safe to call from several threads at
// once.
namespace winnow::kernels::cpu {

// Applies WINNOW_CPU, once. Every kernel entry calls it, so that a bad value is an error at first use and never
// ignored. Throws winnow::Error (kind config) if WINNOW_CPU names no target of this build or one that the processor
// lacks.
void select_target();

// The name of the target that a kernel called now runs on, as reported by code compiled for that target. Throws as
// select_target.
std::string target_in_use();

// The targets that this build holds and this processor can run, best first; never empty. WINNOW_CPU does not change it.
std::vector<std::string> supported_targets();

// While it lives, kernels run on `target` (one of supported_targets(), else winnow::Error of kind argument). For tests
// and benchmarks; not to be nested, and no kernel may be running in another thread when it is made or destroyed.
class TargetOverride {
 public:
  explicit TargetOverride(const std::string& target);
  ~TargetOverride();
  TargetOverride(const TargetOverride&) = delete;
  TargetOverride& operator=(const TargetOverride&) = delete;
};

}  // namespace winnow::kernels::cpu
