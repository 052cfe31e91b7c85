#include "winnow/core/error.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>

#include "support/error.h"
#include "winnow/core/cpu_target.h"
#include "winnow/core/version.h"

namespace winnow {
namespace {

TEST(ErrorTest, ACheckThatHoldsEvaluatesNoMessage) {
  int evaluated = 0;
  WINNOW_CHECK(true, "{}", ++evaluated);
  EXPECT_EQ(evaluated, 0);
}

TEST(ErrorTest, TheMessageIsFormattedAndTheKindKept) {
  const auto check = [](int k) { WINNOW_CHECK(k < 3, "topk: k must be < {}, got {}", 3, k); };
  EXPECT_ERROR_KIND(check(7), ErrorKind::argument, "topk: k must be < 3, got 7");
  EXPECT_ERROR_KIND(fail(ErrorKind::unsupported, "no {}", "CUDA"), ErrorKind::unsupported, "no CUDA");
  EXPECT_STREQ(to_string(ErrorKind::argument), "argument");
  EXPECT_STREQ(to_string(ErrorKind::config), "config");
  EXPECT_STREQ(to_string(ErrorKind::file), "file");
  EXPECT_STREQ(to_string(ErrorKind::unsupported), "unsupported");
}

TEST(CpuTarget, NamesAreReadInEitherCaseAndOthersNameTheNearest) {
  EXPECT_EQ(parse_cpu_target("avx2"), "avx2");
  EXPECT_EQ(parse_cpu_target("AVX3_DL"), "avx3_dl");
  EXPECT_ERROR_KIND(parse_cpu_target("axv2"), ErrorKind::argument,
                    "CPU target must be one of scalar, emu128, ssse3, sse4, avx2, avx3, avx3_dl, avx3_zen4, neon, sve, "
                    "sve2, sve_256, sve2_128, got \"axv2\"; did you mean avx2?");
}

TEST(CpuTarget, TheRequestComesFromTheEnvironment) {
  const char* before = std::getenv("WINNOW_CPU");
  const std::string saved = before == nullptr ? "" : before;
  ::unsetenv("WINNOW_CPU");
  EXPECT_EQ(requested_cpu_target(), std::nullopt);
  ::setenv("WINNOW_CPU", "SSE4", 1);
  EXPECT_EQ(requested_cpu_target(), "sse4");
  ::setenv("WINNOW_CPU", "pentium", 1);
  EXPECT_ERROR(requested_cpu_target(), "got \"pentium\"");
  if (before == nullptr) {
    ::unsetenv("WINNOW_CPU");
  } else {
    ::setenv("WINNOW_CPU", saved.c_str(), 1);
  }
}

TEST(Version, IsThreeNumbers) {
  EXPECT_TRUE(std::regex_match(version(), std::regex("[0-9]+\\.[0-9]+\\.[0-9]+"))) << version();
}

}  // namespace
}  // namespace winnow
