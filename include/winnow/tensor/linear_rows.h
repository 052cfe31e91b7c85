#pragma once

#include <ATen/core/Tensor.h>

#include "winnow/kernels/linear_rows.h"

namespace winnow {

// Whether the kernel reads weights of this type: float32, float16 or bfloat16.
bool is_row_dtype(at::ScalarType dtype);
// Its name in the kernel; dtype must be one of those.
kernels::RowsDtype rows_dtype(at::ScalarType dtype);

// Whether linear_rows takes these: x float32 on the CPU with 1 to 64 rows, weight [out, in] float32, float16 or
// bfloat16 on the CPU with dense rows, bias float32 or undefined. It looks at types and sizes only, not at gradients.
bool fits_linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// x weight^T + bias in float32, x [..., in] of at most 64 rows in all -> [..., out]. The result of a row is the same to
// the bit however many rows there are. No gradient: with grad mode on, x, weight and bias must not require one. CPU
// only. Throws winnow::Error on anything that fits_linear_rows refuses or shapes that do not agree.
at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace winnow
