#include "winnow/tensor/norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>

#include "float_type.h"
#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/layer_norm.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<at::Tensor>;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using Quadruple = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using ForwardSignature = Quadruple(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, double);
using BackwardSignature = Triple(const MaybeTensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const at::Tensor&, const at::Tensor&);

bool given(const MaybeTensor& x) {
  return x && x->defined();
}

void check_arguments(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight, const at::Tensor& bias,
                     double eps) {
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) >= 1, "add_layer_norm: x must have a last dimension >= 1, got shape {}",
               x.sizes());
  check_like("add_layer_norm: delta", delta, x);
  check_shape("add_layer_norm: delta", delta, x.sizes());
  for (const auto& [name, parameter] : {std::pair{"weight", weight}, std::pair{"bias", bias}}) {
    const auto what = fmt::format("add_layer_norm: {}", name);
    check_like(what, parameter, x);
    check_shape(what, parameter, {x.size(-1)});
  }
  WINNOW_CHECK(eps >= 0, "add_layer_norm: eps must be >= 0, got {}", eps);
}

Quadruple add_layer_norm_op(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                            const at::Tensor& bias, double eps) {
  check_arguments(x, delta, weight, bias, eps);
  const auto width = x.size(-1), rows = x.numel() / width;
  auto sum = at::empty(x.sizes(), x.options());
  auto normalized = at::empty(x.sizes(), x.options());
  auto mean = at::empty({rows}, x.options()), rstd = at::empty({rows}, x.options());
  if (ops::is_shape_only(normalized)) return {sum, normalized, mean, rstd};
  const auto from = x.contiguous(), w = weight.contiguous(), b = bias.contiguous();
  const auto other = delta.contiguous();
  ops::with_float_type("add_layer_norm: x", x, [&](auto zero) {
    using T = decltype(zero);
    const kernels::AddLayerNorm<T> args{from.const_data_ptr<T>(),
                                        other.const_data_ptr<T>(),
                                        w.const_data_ptr<T>(),
                                        b.const_data_ptr<T>(),
                                        rows,
                                        width,
                                        eps};
    T *sums = sum.mutable_data_ptr<T>(), *to = normalized.mutable_data_ptr<T>(), *m = mean.mutable_data_ptr<T>(),
      *s = rstd.mutable_data_ptr<T>();
    if (x.is_cpu()) {
      at::parallel_for(0, rows, kernels::kLayerNormGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::add_layer_norm(args, sums, to, m, s, begin, end);
      });
    } else {
      const c10::DeviceGuard guard(x.device());
      kernels::cuda::add_layer_norm(args, sums, to, m, s, ops::stream_of(x));
      ops::check_launch("add_layer_norm");
    }
  });
  return {sum, normalized, mean, rstd};
}

Triple add_layer_norm_backward_op(const MaybeTensor& grad_sum, const at::Tensor& grad_normalized, const at::Tensor& sum,
                                  const at::Tensor& mean, const at::Tensor& rstd, const at::Tensor& weight) {
  check_shape("add_layer_norm_backward: grad_normalized", grad_normalized, sum.sizes());
  if (given(grad_sum)) check_shape("add_layer_norm_backward: grad_sum", *grad_sum, sum.sizes());
  check_shape("add_layer_norm_backward: weight", weight, {sum.size(-1)});
  const auto width = sum.size(-1), rows = sum.numel() / width;
  check_shape("add_layer_norm_backward: mean", mean, {rows});
  check_shape("add_layer_norm_backward: rstd", rstd, {rows});
  auto grad_x = at::empty(sum.sizes(), sum.options());
  if (sum.is_meta()) return {grad_x, at::empty_like(weight), at::empty_like(weight)};
  if (sum.numel() == 0) return {grad_x, at::zeros_like(weight), at::zeros_like(weight)};
  const auto g = grad_normalized.contiguous(), from = sum.contiguous(), w = weight.contiguous();
  const auto residual = given(grad_sum) ? grad_sum->contiguous() : at::Tensor();
  const auto blocks = (rows + kernels::kLayerNormBlock - 1) / kernels::kLayerNormBlock;
  auto partial = at::empty({2, blocks, width}, sum.options());
  ops::with_float_type("add_layer_norm_backward: x", sum, [&](auto zero) {
    using T = decltype(zero);
    const kernels::AddLayerNormGrad<T> args{g.const_data_ptr<T>(),
                                            given(grad_sum) ? residual.const_data_ptr<T>() : nullptr,
                                            from.const_data_ptr<T>(),
                                            mean.const_data_ptr<T>(),
                                            rstd.const_data_ptr<T>(),
                                            w.const_data_ptr<T>(),
                                            rows,
                                            width};
    T *to = grad_x.mutable_data_ptr<T>(), *weights = partial.mutable_data_ptr<T>(), *biases = weights + blocks * width;
    if (sum.is_cpu()) {
      at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
        kernels::cpu::add_layer_norm_backward(args, to, weights, biases, begin, end);
      });
    } else {
      const c10::DeviceGuard guard(sum.device());
      kernels::cuda::add_layer_norm_backward(args, to, weights, biases, ops::stream_of(sum));
      ops::check_launch("add_layer_norm_backward");
    }
  });
  const auto grads = partial.sum(1);
  return {grad_x, grads[0], grads[1]};
}

struct NormFunction : torch::autograd::Function<NormFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& delta,
                               const at::Tensor& weight, const at::Tensor& bias, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<ForwardSignature>("winnow::add_layer_norm");
    auto [sum, normalized, mean, rstd] = op.call(x, delta, weight, bias, eps);
    ctx->save_for_backward({sum, mean, rstd, weight});
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({mean, rstd});
    return {sum, normalized, mean, rstd};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("add_layer_norm");
    static const auto op = ops::find<BackwardSignature>("winnow::add_layer_norm_backward");
    const auto saved = ctx->get_saved_variables();
    const auto& residual = grads[0];
    if (!grads[1].defined()) return {residual, residual, {}, {}, {}};
    auto [x, weight, bias] = op.call(residual.defined() ? MaybeTensor(residual) : std::nullopt, grads[1], saved[0],
                                     saved[1], saved[2], saved[3]);
    return {x, x, weight, bias, {}};
  }
};

Quadruple add_layer_norm_autograd(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                                  const at::Tensor& bias, double eps) {
  const auto out = NormFunction::apply(x, delta, weight, bias, eps);
  return {out[0], out[1], out[2], out[3]};
}

at::Tensor narrowed(const at::Tensor& out, const at::Tensor& like) {
  return out.scalar_type() == like.scalar_type() ? out : out.to(like.scalar_type());
}

}  // namespace

WINNOW_IMPLEMENT(add_layer_norm, add_layer_norm_op)
WINNOW_IMPLEMENT(add_layer_norm_backward, add_layer_norm_backward_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("add_layer_norm", &add_layer_norm_autograd);
}

AddLayerNorm add_layer_norm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                            const at::Tensor& bias, double eps) {
  check_floating("add_layer_norm: x", x);
  check_floating("add_layer_norm: weight", weight);
  check_floating("add_layer_norm: bias", bias);
  check_like("add_layer_norm: delta", delta, x);
  static const auto op = ops::find<ForwardSignature>("winnow::add_layer_norm");
  auto [sum, normalized, mean, rstd] =
      op.call(ops::widened(x), ops::widened(delta), ops::widened(weight), ops::widened(bias), eps);
  return {.sum = narrowed(sum, x), .normalized = narrowed(normalized, x)};
}

}  // namespace winnow
