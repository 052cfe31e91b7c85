#include "winnow/tensor/blocked_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>

#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/blocked_attention.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Pair = std::tuple<at::Tensor, at::Tensor>;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using ForwardSignature = Pair(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool, double);
using BackwardSignature = Triple(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const at::Tensor&, const at::Tensor&, bool, double);

// Beyond, the keys and values of a head leave the cache between two blocks of queries, and nothing is won.
constexpr int64_t kMostElements = 32768, kMostWidth = 128;

void check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  check_dtype("blocked_attention: q", q, at::kFloat);
  check_dim("blocked_attention: q", q, 4);
  check_like("blocked_attention: k", k, q);
  check_like("blocked_attention: v", v, q);
  check_shape("blocked_attention: k", k, {q.size(0), -1, q.size(2), q.size(3)});
  check_shape("blocked_attention: v", v, k.sizes());
  WINNOW_CHECK(k.size(1) >= 1 ? q.size(1) % k.size(1) == 0 : q.size(1) == 0,
               "blocked_attention: heads of k must divide those of q = {}, got {}", q.size(1), k.size(1));
}

kernels::HeadStrides strides_of(const at::Tensor& x) {
  return {.batch = x.stride(0), .head = x.stride(1), .token = x.stride(2)};
}

at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.stride(3) == 1 ? x : x.contiguous();
}

// [B, H, L, d] in the layout of [B, L, H, d].
at::Tensor empty_heads(const at::Tensor& like) {
  return at::empty({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options()).transpose(1, 2);
}

kernels::BlockedAttention kernel_inputs(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                                        double scale) {
  return {.q = q.const_data_ptr<float>(),
          .k = k.const_data_ptr<float>(),
          .v = v.const_data_ptr<float>(),
          .q_strides = strides_of(q),
          .k_strides = strides_of(k),
          .v_strides = strides_of(v),
          .batch = q.size(0),
          .heads = q.size(1),
          .kv_heads = k.size(1),
          .length = q.size(2),
          .width = q.size(3),
          .scale = static_cast<float>(scale),
          .causal = causal};
}

// Runs work(scratch, begin, end) over the key heads, each thread with scratch memory of its own.
template <class Work>
void over_heads(const kernels::BlockedAttention& args, const at::Tensor& like, Work&& work) {
  const auto scratch = kernels::blocked_attention_scratch(args);
  at::parallel_for(0, args.batch * args.kv_heads, 1, [&](int64_t begin, int64_t end) {
    auto memory = at::empty({scratch}, like.options());
    work(memory.mutable_data_ptr<float>(), begin, end);
  });
}

Pair blocked_attention_op(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal, double scale) {
  check_arguments(q, k, v);
  WINNOW_CHECK_KIND(q.is_cpu() || q.is_meta(), ErrorKind::unsupported,
                    "blocked_attention: q must be on the CPU, got {}", q.device().str());
  auto out = empty_heads(q);
  auto lse = at::empty({q.size(0), q.size(1), q.size(2)}, q.options());
  if (ops::is_shape_only(out)) return {out, lse};
  const auto qd = with_dense_rows(q), kd = with_dense_rows(k), vd = with_dense_rows(v);
  const auto args = kernel_inputs(qd, kd, vd, causal, scale);
  over_heads(args, q, [&](float* scratch, int64_t begin, int64_t end) {
    kernels::cpu::blocked_attention(args, out.mutable_data_ptr<float>(), strides_of(out), lse.mutable_data_ptr<float>(),
                                    scratch, begin, end);
  });
  return {out, lse};
}

Triple blocked_attention_backward_op(const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k,
                                     const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse, bool causal,
                                     double scale) {
  check_arguments(q, k, v);
  check_shape("blocked_attention_backward: grad", grad, q.sizes());
  check_shape("blocked_attention_backward: out", out, q.sizes());
  check_shape("blocked_attention_backward: lse", lse, {q.size(0), q.size(1), q.size(2)});
  auto grad_q = empty_heads(q), grad_k = empty_heads(k), grad_v = empty_heads(v);
  if (ops::is_shape_only(grad_q)) return {grad_q, grad_k, grad_v};
  const auto qd = with_dense_rows(q), kd = with_dense_rows(k), vd = with_dense_rows(v), g = with_dense_rows(grad),
             o = with_dense_rows(out), l = lse.contiguous();
  const kernels::BlockedAttentionGrad args{.inputs = kernel_inputs(qd, kd, vd, causal, scale),
                                           .out = o.const_data_ptr<float>(),
                                           .grad_out = g.const_data_ptr<float>(),
                                           .lse = l.const_data_ptr<float>(),
                                           .out_strides = strides_of(o),
                                           .grad_strides = strides_of(g),
                                           .grad_q = grad_q.mutable_data_ptr<float>(),
                                           .grad_k = grad_k.mutable_data_ptr<float>(),
                                           .grad_v = grad_v.mutable_data_ptr<float>(),
                                           .grad_q_strides = strides_of(grad_q),
                                           .grad_k_strides = strides_of(grad_k),
                                           .grad_v_strides = strides_of(grad_v)};
  over_heads(args.inputs, q, [&](float* scratch, int64_t begin, int64_t end) {
    kernels::cpu::blocked_attention_backward(args, scratch, begin, end);
  });
  return {grad_q, grad_k, grad_v};
}

struct BlockedAttentionFunction : torch::autograd::Function<BlockedAttentionFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               bool causal, double scale) {
    const at::AutoDispatchBelowADInplaceOrView below;
    // Not through the dispatcher, which has counted this call already: every device has the same implementation.
    auto [out, lse] = blocked_attention_op(q, k, v, causal, scale);
    ctx->save_for_backward({q, k, v, out, lse});
    ctx->saved_data["causal"] = causal;
    ctx->saved_data["scale"] = scale;
    ctx->mark_non_differentiable({lse});
    return {out, lse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("blocked_attention");
    static const auto op = ops::find<BackwardSignature>("winnow::blocked_attention_backward");
    const auto s = ctx->get_saved_variables();
    auto [q, k, v] = op.call(grads[0], s[0], s[1], s[2], s[3], s[4], ctx->saved_data["causal"].toBool(),
                             ctx->saved_data["scale"].toDouble());
    return {q, k, v, {}, {}};
  }
};

Pair blocked_attention_autograd(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                                double scale) {
  const auto out = BlockedAttentionFunction::apply(q, k, v, causal, scale);
  return {out[0], out[1]};
}

}  // namespace

WINNOW_IMPLEMENT(blocked_attention, blocked_attention_op)
WINNOW_IMPLEMENT(blocked_attention_backward, blocked_attention_backward_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("blocked_attention", &blocked_attention_autograd);
}

bool fits_blocked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto fits = [](const at::Tensor& x) {
    return x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 4 && x.stride(3) == 1;
  };
  return fits(q) && fits(k) && fits(v) && q.size(2) == k.size(2) && v.sizes() == k.sizes() && q.size(3) == k.size(3) &&
         q.size(2) >= 2 && q.size(2) * q.size(3) <= kMostElements && q.size(3) >= 1 && q.size(3) <= kMostWidth &&
         k.size(1) >= 1 && q.size(1) % k.size(1) == 0;
}

at::Tensor blocked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal, double scale) {
  check_defined("blocked_attention: q", q);
  check_defined("blocked_attention: k", k);
  check_defined("blocked_attention: v", v);
  static const auto op = ops::find<ForwardSignature>("winnow::blocked_attention");
  return std::get<0>(op.call(q, k, v, causal, scale));
}

}  // namespace winnow
