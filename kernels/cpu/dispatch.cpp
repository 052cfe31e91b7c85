#include "winnow/kernels/dispatch.h"

#include <cstdint>

#include "winnow/core/cpu_target.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dispatch.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace winnow::kernels::HWY_NAMESPACE {
int64_t compiled_target() {
  return HWY_TARGET;
}
}  // namespace winnow::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace winnow::kernels {
HWY_EXPORT(compiled_target);

namespace cpu {
namespace {

constexpr int64_t kPlain = HWY_EMU128 | HWY_SCALAR;

// Lower bits are better targets.
std::vector<int64_t> targets_of(int64_t mask) {
  std::vector<int64_t> targets;
  for (; mask != 0; mask &= mask - 1) targets.push_back(mask & -mask);
  return targets;
}

std::vector<std::string> names_of(int64_t mask) {
  std::vector<std::string> names;
  for (const auto target : targets_of(mask)) names.emplace_back(hwy::TargetName(target));
  return names;
}

// Read before anything is narrowed. The plain target runs everywhere, whichever of its two names Highway was built
// with.
int64_t machine_targets() {
  static const int64_t targets = HWY_TARGETS & (hwy::SupportedTargets() | kPlain);
  return targets;
}

// name in lower case.
int64_t target_named(const std::string& name) {
  if (name == "emu128" || name == "scalar") return HWY_TARGETS & kPlain;
  for (const auto target : targets_of(HWY_TARGETS)) {
    if (name == parse_cpu_target(hwy::TargetName(target))) return target;
  }
  return 0;
}

// The targets that WINNOW_CPU leaves.
int64_t allowed_targets() {
  const auto wanted = requested_cpu_target();
  if (!wanted) return machine_targets();
  const auto target = target_named(*wanted) & machine_targets();
  WINNOW_CHECK_KIND(target != 0, ErrorKind::unsupported,
                    "WINNOW_CPU must be a target that this build and processor have ({}), got {}",
                    join(supported_targets()), *wanted);
  return machine_targets() & ~(target - 1);
}

void use(int64_t mask) {
  hwy::GetChosenTarget().Update(mask);
}

}  // namespace

void select_target() {
  static const bool done = [] {
    use(allowed_targets());
    return true;
  }();
  static_cast<void>(done);
}

std::string target_in_use() {
  select_target();
  return hwy::TargetName(HWY_DYNAMIC_DISPATCH(compiled_target)());
}

std::vector<std::string> supported_targets() {
  return names_of(machine_targets());
}

TargetOverride::TargetOverride(const std::string& target) {
  const auto bit = target_named(parse_cpu_target(target)) & machine_targets();
  WINNOW_CHECK(bit != 0, "TargetOverride: target must be one of {}, got {}", join(supported_targets()), target);
  select_target();
  use(bit);
}

TargetOverride::~TargetOverride() {
  use(allowed_targets());
}

}  // namespace cpu
}  // namespace winnow::kernels
#endif
