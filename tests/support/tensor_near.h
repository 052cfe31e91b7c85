#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

// Comparison of tensors in tests: dtype, then shape, then values; the message names the worst element.
namespace winnow::testing {

// |a - b| <= atol + rtol * |b| for every element; NaN equals NaN only; infinities must be equal. The two may lie on
// different devices and have different dtypes only if check_dtype is false.
::testing::AssertionResult tensors_close(const char* a_text, const char* b_text, const at::Tensor& a,
                                         const at::Tensor& b, double rtol, double atol, bool check_dtype);

}  // namespace winnow::testing

#define EXPECT_TENSOR_CLOSE(a, b, rtol, atol) \
  EXPECT_TRUE(::winnow::testing::tensors_close(#a, #b, (a), (b), (rtol), (atol), false))
#define EXPECT_TENSOR_NEAR(a, b, tol) EXPECT_TENSOR_CLOSE(a, b, 0.0, tol)
#define EXPECT_TENSOR_EQ(a, b) EXPECT_TRUE(::winnow::testing::tensors_close(#a, #b, (a), (b), 0.0, 0.0, true))
