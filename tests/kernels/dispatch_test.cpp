#include "winnow/kernels/dispatch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "support/error.h"

namespace winnow::kernels::cpu {
namespace {

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

TEST(Dispatch, ThePlainTargetIsAlwaysThereAndTheLastChoice) {
  const auto plain = supported_targets().back();
  EXPECT_TRUE(plain == "EMU128" || plain == "SCALAR") << plain;
}

TEST(Dispatch, TheTargetInUseIsOneThatTheMachineSupports) {
  EXPECT_TRUE(has(supported_targets(), target_in_use()));
}

TEST(Dispatch, TheBestTargetIsTakenUnlessTheEnvironmentNarrowsIt) {
  if (std::getenv("WINNOW_CPU") != nullptr) GTEST_SKIP() << "WINNOW_CPU is set";
  EXPECT_EQ(target_in_use(), supported_targets().front());
}

TEST(Dispatch, AnOverrideRunsCodeBuiltForThatTargetAndEndsWithIt) {
  const auto before = target_in_use();
  for (const auto& target : supported_targets()) {
    const TargetOverride narrowed(target);
    EXPECT_EQ(target_in_use(), target);
  }
  EXPECT_EQ(target_in_use(), before);
}

TEST(Dispatch, AnOverrideToAMissingTargetIsAnError) {
  const auto missing = has(supported_targets(), "SVE") ? "avx2" : "sve";
  EXPECT_ERROR(TargetOverride{missing}, "TargetOverride: target must be one of ");
  EXPECT_ERROR(TargetOverride{"avx4"}, "CPU target must be one of ");
}

// WINNOW_CPU is read once in a process: each value needs a process of its own.
TEST(DispatchDeathTest, WinnowCpuNarrowsTheChoice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const auto& target : supported_targets()) {
    EXPECT_EXIT(
        {
          setenv("WINNOW_CPU", target.c_str(), 1);
          std::exit(target_in_use() == target ? 7 : 1);
        },
        ::testing::ExitedWithCode(7), "")
        << target;
  }
}

TEST(DispatchDeathTest, ATargetThatTheProcessorLacksIsAnErrorAtEveryUse) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::string missing = has(supported_targets(), "NEON") ? "avx2" : "neon";
  EXPECT_EXIT(
      {
        setenv("WINNOW_CPU", missing.c_str(), 1);
        EXPECT_ERROR(select_target(), "WINNOW_CPU must be a target that this build and processor have (");
        EXPECT_ERROR(target_in_use(), "got " + missing);
        std::exit(::testing::Test::HasFailure() ? 1 : 7);
      },
      ::testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace winnow::kernels::cpu
