#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "winnow/kernels/dispatch.h"

namespace winnow::kernels {

// Runs fn once on every CPU target that the machine supports, and fails unless code of that target ran.
inline void on_every_target(const std::function<void()>& fn) {
  for (const auto& target : cpu::supported_targets()) {
    SCOPED_TRACE("CPU target " + target);
    const cpu::TargetOverride narrowed(target);
    ASSERT_EQ(cpu::target_in_use(), target);
    fn();
  }
}

template <typename T>
std::vector<T> normal_values(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<size_t>(count));
  for (auto& v : values) v = static_cast<T>(normal(engine));
  return values;
}

}  // namespace winnow::kernels
