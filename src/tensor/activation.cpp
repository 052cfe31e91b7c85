#include "winnow/tensor/activation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>

#include "float_type.h"
#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/bias_gelu.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Pair = std::tuple<at::Tensor, at::Tensor>;

void check_arguments(const char* function, const at::Tensor& x, const at::Tensor& bias) {
  WINNOW_CHECK(x.dim() >= 1, "{}: x must have at least 1 dimension, got shape {}", function, x.sizes());
  const auto what = fmt::format("{}: bias", function);
  check_like(what, bias, x);
  check_shape(what, bias, {x.size(-1)});
}

at::Tensor bias_gelu_op(const at::Tensor& x, const at::Tensor& bias) {
  check_arguments("bias_gelu", x, bias);
  auto out = at::empty(x.sizes(), x.options());
  if (ops::is_shape_only(out)) return out;
  const auto from = x.contiguous(), b = bias.contiguous();
  const auto width = x.size(-1), rows = x.numel() / width;
  ops::with_float_type("bias_gelu: x", x, [&](auto zero) {
    using T = decltype(zero);
    const T *values = from.const_data_ptr<T>(), *biases = b.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    if (x.is_cpu()) {
      at::parallel_for(0, rows, kernels::kBiasGeluGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::bias_gelu(values, biases, width, to, begin, end);
      });
    } else {
      const c10::DeviceGuard guard(x.device());
      kernels::cuda::bias_gelu(values, biases, rows, width, to, ops::stream_of(x));
      ops::check_launch("bias_gelu");
    }
  });
  return out;
}

Pair bias_gelu_backward_op(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& bias) {
  check_arguments("bias_gelu_backward", x, bias);
  check_like("bias_gelu_backward: grad", grad, x);
  check_shape("bias_gelu_backward: grad", grad, x.sizes());
  auto grad_x = at::empty(x.sizes(), x.options());
  if (x.is_meta()) return {grad_x, at::empty_like(bias)};
  if (x.numel() == 0) return {grad_x, at::zeros_like(bias)};
  const auto g = grad.contiguous(), from = x.contiguous(), b = bias.contiguous();
  const auto width = x.size(-1), rows = x.numel() / width;
  const auto blocks = (rows + kernels::kBiasGeluBlock - 1) / kernels::kBiasGeluBlock;
  auto partial = at::empty({blocks, width}, x.options());
  ops::with_float_type("bias_gelu_backward: x", x, [&](auto zero) {
    using T = decltype(zero);
    const T *grads = g.const_data_ptr<T>(), *values = from.const_data_ptr<T>(), *biases = b.const_data_ptr<T>();
    T *to = grad_x.mutable_data_ptr<T>(), *sums = partial.mutable_data_ptr<T>();
    if (x.is_cpu()) {
      at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
        kernels::cpu::bias_gelu_backward(grads, values, biases, rows, width, to, sums, begin, end);
      });
    } else {
      const c10::DeviceGuard guard(x.device());
      kernels::cuda::bias_gelu_backward(grads, values, biases, rows, width, to, sums, ops::stream_of(x));
      ops::check_launch("bias_gelu_backward");
    }
  });
  return {grad_x, blocks == 1 ? partial[0] : partial.sum(0)};
}

struct BiasGelu : torch::autograd::Function<BiasGelu> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& bias) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<at::Tensor(const at::Tensor&, const at::Tensor&)>("winnow::bias_gelu");
    auto out = op.call(x, bias);
    ctx->save_for_backward({x, bias});
    return out;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("bias_gelu");
    static const auto op =
        ops::find<Pair(const at::Tensor&, const at::Tensor&, const at::Tensor&)>("winnow::bias_gelu_backward");
    const auto saved = ctx->get_saved_variables();
    auto [x, bias] = op.call(grads[0], saved[0], saved[1]);
    return {x, bias};
  }
};

at::Tensor bias_gelu_autograd(const at::Tensor& x, const at::Tensor& bias) {
  return BiasGelu::apply(x, bias);
}

}  // namespace

WINNOW_IMPLEMENT(bias_gelu, bias_gelu_op)
WINNOW_IMPLEMENT(bias_gelu_backward, bias_gelu_backward_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("bias_gelu", &bias_gelu_autograd);
}

at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias) {
  check_floating("bias_gelu: x", x);
  check_floating("bias_gelu: bias", bias);
  static const auto op = ops::find<at::Tensor(const at::Tensor&, const at::Tensor&)>("winnow::bias_gelu");
  auto out = op.call(ops::widened(x), ops::widened(bias));
  return out.scalar_type() == x.scalar_type() ? out : out.to(x.scalar_type());
}

}  // namespace winnow
