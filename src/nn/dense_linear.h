// The product with a dense weight that Linear and the storages over one share.
#pragma once
#include <ATen/core/Tensor.h>

namespace winnow {

// x [..., in], weight [out, in], bias [out] or undefined -> [..., out]. A half-precision weight is widened to the dtype
// of x; few float32 rows on the CPU without gradient go through kernels/linear_rows.
at::Tensor dense_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace winnow
