#include "winnow/tensor/linear_rows.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/library.h>

#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using MaybeTensor = std::optional<at::Tensor>;
using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const MaybeTensor&);

bool dense_rows(const at::Tensor& weight) {
  return weight.stride(1) == 1 && weight.stride(0) == weight.size(1);
}

int64_t rows_of(const at::Tensor& x) {
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) rows *= x.size(i);
  return rows;
}

void check_arguments(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias) {
  check_dtype("linear_rows: x", x, at::kFloat);
  check_dim("linear_rows: weight", weight, 2);
  WINNOW_CHECK(is_row_dtype(weight.scalar_type()), "linear_rows: weight must be float32, float16 or bfloat16, got {}",
               weight.scalar_type());
  check_device("linear_rows: weight", weight, x.device());
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(1), "linear_rows: x must have shape [..., {}], got {}",
               weight.size(1), x.sizes());
  WINNOW_CHECK(rows_of(x) <= kernels::kLinearRowsMax, "linear_rows: x must have at most {} rows, got {}",
               kernels::kLinearRowsMax, rows_of(x));
  if (bias && bias->defined()) {
    check_like("linear_rows: bias", *bias, x);
    check_shape("linear_rows: bias", *bias, {weight.size(0)});
  }
}

at::Tensor linear_rows_op(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias) {
  check_arguments(x, weight, bias);
  WINNOW_CHECK_KIND(x.is_cpu() || x.is_meta(), ErrorKind::unsupported, "linear_rows: x must be on the CPU, got {}",
                    x.device().str());
  const auto in = weight.size(1), out = weight.size(0);
  auto sizes = x.sizes().vec();
  sizes.back() = out;
  auto y = at::empty(sizes, x.options());
  if (ops::is_shape_only(y)) return y;
  const auto from = x.contiguous(), w = dense_rows(weight) ? weight : weight.contiguous();
  const auto b = bias && bias->defined() ? bias->contiguous() : at::Tensor();
  const kernels::LinearRows args{.x = from.const_data_ptr<float>(),
                                 .x_stride = in,
                                 .weight = w.const_data_ptr(),
                                 .dtype = rows_dtype(w.scalar_type()),
                                 .bias = b.defined() ? b.const_data_ptr<float>() : nullptr,
                                 .y = y.mutable_data_ptr<float>(),
                                 .y_stride = out,
                                 .n = rows_of(x),
                                 .in = in,
                                 .out = out};
  at::parallel_for(0, out, kernels::linear_rows_grain(in),
                   [&](int64_t begin, int64_t end) { kernels::cpu::linear_rows(args, begin, end); });
  return y;
}

bool wants_gradient(const at::Tensor& x) {
  return x.defined() && x.requires_grad();
}

at::Tensor linear_rows_autograd(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias) {
  WINNOW_CHECK_KIND(!c10::GradMode::is_enabled() ||
                        (!wants_gradient(x) && !wants_gradient(weight) && !wants_gradient(bias.value_or(at::Tensor()))),
                    ErrorKind::unsupported, "linear_rows: nothing may require a gradient (it has none)");
  const at::AutoDispatchBelowADInplaceOrView below;
  // Not through the dispatcher, which has counted this call already: every device has the same implementation.
  return linear_rows_op(x, weight, bias);
}

}  // namespace

WINNOW_IMPLEMENT(linear_rows, linear_rows_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("linear_rows", &linear_rows_autograd);
}

bool is_row_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16;
}

kernels::RowsDtype rows_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat  ? kernels::RowsDtype::f32
         : dtype == at::kHalf ? kernels::RowsDtype::f16
                              : kernels::RowsDtype::bf16;
}

bool fits_linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() >= 1 && weight.is_cpu() && weight.dim() == 2 &&
         is_row_dtype(weight.scalar_type()) && dense_rows(weight) &&
         (!bias.defined() || (bias.is_cpu() && bias.scalar_type() == at::kFloat)) && rows_of(x) >= 1 &&
         rows_of(x) <= kernels::kLinearRowsMax;
}

at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  check_defined("linear_rows: x", x);
  check_defined("linear_rows: weight", weight);
  static const auto op = ops::find<Signature>("winnow::linear_rows");
  return op.call(x, weight, bias.defined() ? MaybeTensor(bias) : std::nullopt);
}

}  // namespace winnow
