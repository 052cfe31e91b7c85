#include "winnow/tensor/check.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

TEST(Format, NamesAreThoseOfPython) {
  EXPECT_EQ(fmt::format("{} {} {}", at::kFloat, at::kBFloat16, at::kByte), "float32 bfloat16 uint8");
  EXPECT_EQ(fmt::format("{} {}", at::kLong, at::kBool), "int64 bool");
  EXPECT_EQ(fmt::format("{}", at::Device(at::kCUDA, 1)), "cuda:1");
}

TEST(Format, ShapesPrintInBrackets) {
  EXPECT_EQ(fmt::format("{}", at::zeros({2, 3}).sizes()), "[2, 3]");
  EXPECT_EQ(fmt::format("{}", at::zeros({}).sizes()), "[]");
}

TEST(Format, ATensorPrintsWhatItIsNotWhatItHolds) {
  EXPECT_EQ(fmt::format("{}", at::zeros({2, 3}, at::kHalf)), "float16 [2, 3] on cpu");
  EXPECT_EQ(fmt::format("{}", at::Tensor()), "undefined");
}

TEST(Check, EachCheckSaysWhatItWantedAndFound) {
  const auto x = at::zeros({2, 3});
  EXPECT_ERROR_KIND(check_defined("f: x", {}), ErrorKind::argument, "f: x must be a tensor, got none");
  EXPECT_ERROR(check_like("f: x", x, x.to(at::kDouble)), "f: x must be float64 on cpu, got float32 on cpu");
  EXPECT_ERROR(check_device("f: x", x, at::kMeta), "f: x must be on meta, got cpu");
  EXPECT_ERROR(check_floating("f: x", x.to(at::kBool)), "f: x must be float64, float32, float16 or bfloat16, got bool");
  EXPECT_ERROR(check_dtype("f: x", x, at::kLong), "f: x must be int64, got float32");
  EXPECT_ERROR(check_dim("f: x", x, 1), "f: x must have 1 dimension, got shape [2, 3]");
  EXPECT_ERROR(check_shape("f: x", x, {-1, 4}), "f: x must have shape [*, 4], got [2, 3]");
  EXPECT_ERROR(check_shape("f: x", x, {2}), "f: x must have shape [2], got [2, 3]");
  EXPECT_ERROR(check_indices("f: x", at::tensor({0, 3}), 3), "f: x must be in [0, 3), got 3");
  EXPECT_ERROR(check_indices("f: x", at::tensor({-2, 3}), 3), "f: x must be in [0, 3), got -2");
}

TEST(Check, WhatFitsPasses) {
  const auto x = at::zeros({2, 3});
  check_defined("f: x", x);
  check_like("f: x", x, at::ones({7}));
  check_floating("f: x", x.to(at::kBFloat16));
  check_dim("f: x", x, 2);
  check_shape("f: x", x, {-1, 3});
  check_shape("f: x", at::zeros({}), {});
  check_indices("f: x", at::tensor({0, 2}), 3);
  check_indices("f: x", at::empty({0}, at::kLong), 0);
  check_indices("f: x", at::empty({4}, at::TensorOptions(at::kMeta).dtype(at::kLong)), 1);
}

TEST(Check, DebugChecksCanBeSwitched) {
  const bool before = debug_checks();
  set_debug_checks(true);
  EXPECT_TRUE(debug_checks());
  set_debug_checks(before);
  EXPECT_EQ(debug_checks(), before);
}

TEST(Generator, TheSameSeedGivesTheSameDrawsAndTheGlobalOneIsLeftAlone) {
  at::manual_seed(5);
  const auto expected = at::rand({3});
  at::manual_seed(5);
  const auto a = at::rand({8}, make_generator(1)), b = at::rand({8}, make_generator(1)),
             c = at::rand({8}, make_generator(2));
  EXPECT_TENSOR_EQ(a, b);
  EXPECT_FALSE(at::equal(a, c));
  EXPECT_TENSOR_EQ(at::rand({3}), expected);
}

TEST(Generator, ADeviceWithoutOneIsAnError) {
  EXPECT_ERROR_KIND(make_generator(1, at::kMeta), ErrorKind::unsupported,
                    "make_generator: device must be cpu, or cuda where there is a GPU, got meta");
}

// The comparison that all tests rest on.
TEST(TensorNear, SeesEveryKindOfDifference) {
  using testing::tensors_close;
  const auto close = [](const at::Tensor& a, const at::Tensor& b, double tol, bool dtype = false) {
    return static_cast<bool>(tensors_close("a", "b", a, b, 0, tol, dtype));
  };
  const auto inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const auto x = at::tensor({1., 2.});
  EXPECT_TRUE(close(x, x + 1e-6, 1e-5));
  EXPECT_FALSE(close(x, x + 1e-4, 1e-5));
  EXPECT_FALSE(close(x, x.view({2, 1}), 1));
  EXPECT_FALSE(close(x, x.to(at::kFloat), 1, true));
  EXPECT_TRUE(close(x, x.to(at::kFloat), 1));
  EXPECT_FALSE(close(x, at::tensor({1., nan}), 1e9));
  EXPECT_FALSE(close(at::tensor({1., nan}), x, 1e9));
  EXPECT_TRUE(close(at::tensor({1., nan}), at::tensor({1., nan}), 0));
  EXPECT_TRUE(close(at::tensor({inf}), at::tensor({inf}), 0));
  EXPECT_FALSE(close(at::tensor({inf}), at::tensor({-inf}), 1e9));
  EXPECT_FALSE(close(at::tensor({inf}), at::tensor({1.}), 1e9));
  EXPECT_FALSE(close(at::tensor({int64_t{1} << 60}), at::tensor({(int64_t{1} << 60) + 1}), 0));
  EXPECT_TRUE(close({}, {}, 0));
  EXPECT_FALSE(close(x, {}, 0));
}

}  // namespace
}  // namespace winnow
