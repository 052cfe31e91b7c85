#include "winnow/tensor/selective_scan.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <tuple>
#include <vector>

#include "float_type.h"
#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/selective_scan.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<at::Tensor>;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using ForwardSignature = Triple(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                const at::Tensor&, const MaybeTensor&, const MaybeTensor&, const MaybeTensor&,
                                const MaybeTensor&, bool);
using BackwardSignature = std::vector<at::Tensor>(const MaybeTensor&, const MaybeTensor&, const at::Tensor&,
                                                  const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                                  const at::Tensor&, const MaybeTensor&, const MaybeTensor&,
                                                  const MaybeTensor&, const at::Tensor&);

bool given(const MaybeTensor& x) {
  return x && x->defined();
}

MaybeTensor maybe(const at::Tensor& x) {
  return x.defined() ? MaybeTensor(x) : std::nullopt;
}

// The inputs as the kernel reads them. Rows of dt, z, b and c may lie apart (parts of one projection).
struct Prepared {
  at::Tensor u, dt, a, b, c, d, z, dt_bias;
  int64_t batch, length, channels, states;

  Prepared(const at::Tensor& u_, const at::Tensor& dt_, const at::Tensor& a_, const at::Tensor& b_,
           const at::Tensor& c_, const MaybeTensor& d_, const MaybeTensor& z_, const MaybeTensor& bias_)
      : u(u_.contiguous()),
        dt(rows_of(dt_)),
        a(a_.t().contiguous()),
        b(rows_of(b_)),
        c(rows_of(c_)),
        d(given(d_) ? d_->contiguous() : at::Tensor()),
        z(given(z_) ? rows_of(*z_) : at::Tensor()),
        dt_bias(given(bias_) ? bias_->contiguous() : at::Tensor()),
        batch(u.size(0)),
        length(u.size(1)),
        channels(u.size(2)),
        states(a.size(0)) {
    if (b.stride(1) != c.stride(1)) {
      b = b.contiguous();
      c = c.contiguous();
    }
  }

  // Dense elements in a row, all rows equally far apart.
  static at::Tensor rows_of(const at::Tensor& x) {
    const bool even = x.stride(2) == 1 && x.stride(1) >= x.size(2) && x.stride(0) == x.stride(1) * x.size(1);
    return even ? x : x.contiguous();
  }

  template <typename T>
  kernels::SelectiveScan<T> arguments() const {
    const auto pointer = [](const at::Tensor& x) { return x.defined() ? x.const_data_ptr<T>() : nullptr; };
    return {pointer(u),
            pointer(dt),
            pointer(a),
            pointer(b),
            pointer(c),
            pointer(d),
            pointer(z),
            pointer(dt_bias),
            dt.stride(1),
            b.stride(1),
            z.defined() ? z.stride(1) : 0,
            batch,
            length,
            channels,
            states};
  }
  int64_t units() const { return batch * kernels::selective_scan_groups(channels); }
};

void check_arguments(const at::Tensor& u, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                     const at::Tensor& c, const MaybeTensor& d, const MaybeTensor& z, const MaybeTensor& dt_bias,
                     const MaybeTensor& state) {
  check_dim("selective_scan: u", u, 3);
  check_dim("selective_scan: a", a, 2);
  const auto B = u.size(0), L = u.size(1), E = u.size(2), N = a.size(1);
  WINNOW_CHECK(N >= 1 && E >= 1, "selective_scan: a must have at least one channel and one state, got shape {}",
               a.sizes());
  const auto check = [&](const char* what, const at::Tensor& x, at::IntArrayRef shape) {
    check_like(what, x, u);
    check_shape(what, x, shape);
  };
  check("selective_scan: dt", dt, {B, L, E});
  check("selective_scan: a", a, {E, N});
  check("selective_scan: b", b, {B, L, N});
  check("selective_scan: c", c, {B, L, N});
  if (given(d)) check("selective_scan: d", *d, {E});
  if (given(z)) check("selective_scan: z", *z, {B, L, E});
  if (given(dt_bias)) check("selective_scan: dt_bias", *dt_bias, {E});
  if (given(state)) check("selective_scan: state", *state, {B, N, E});
}

Triple scan_op(const at::Tensor& u, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
               const MaybeTensor& d, const MaybeTensor& z, const MaybeTensor& dt_bias, const MaybeTensor& state,
               bool boundaries) {
  check_arguments(u, dt, a, b, c, d, z, dt_bias, state);
  const auto B = u.size(0), L = u.size(1), E = u.size(2), N = a.size(1);
  auto y = at::empty({B, L, E}, u.options());
  auto last = given(state) ? state->clone(at::MemoryFormat::Contiguous) : at::zeros({B, N, E}, u.options());
  const auto chunks = boundaries ? kernels::selective_scan_chunks(L) : 0;
  auto kept = at::empty({B, chunks, N, E}, u.options());
  if (ops::is_shape_only(y)) return {y, last, kept};
  const Prepared in(u, dt, a, b, c, d, z, dt_bias);
  ops::with_float_type("selective_scan: u", u, [&](auto zero) {
    using T = decltype(zero);
    const auto args = in.arguments<T>();
    T *to = y.mutable_data_ptr<T>(), *states = last.mutable_data_ptr<T>();
    T* stored = boundaries ? kept.mutable_data_ptr<T>() : nullptr;
    if (u.is_cpu()) {
      at::parallel_for(0, in.units(), 1, [&](int64_t begin, int64_t end) {
        kernels::cpu::selective_scan(args, to, states, stored, begin, end);
      });
    } else {
      const c10::DeviceGuard guard(u.device());
      kernels::cuda::selective_scan(args, to, states, stored, ops::stream_of(u));
      ops::check_launch("selective_scan");
    }
  });
  return {y, last, kept};
}

// Gradients of u, dt, a, b, c, d, z, dt_bias, state; those of absent inputs are empty.
std::vector<at::Tensor> backward_op(const MaybeTensor& grad_y, const MaybeTensor& grad_state, const at::Tensor& u,
                                    const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b, const at::Tensor& c,
                                    const MaybeTensor& d, const MaybeTensor& z, const MaybeTensor& dt_bias,
                                    const at::Tensor& boundaries) {
  const auto B = u.size(0), L = u.size(1), E = u.size(2), N = a.size(1), groups = kernels::selective_scan_groups(E);
  if (given(grad_y)) check_shape("selective_scan_backward: grad_y", *grad_y, {B, L, E});
  if (given(grad_state)) check_shape("selective_scan_backward: grad_state", *grad_state, {B, N, E});
  const auto some = [&](const MaybeTensor& x, at::IntArrayRef shape) {
    return given(x) ? at::empty(shape, u.options()) : at::Tensor();
  };
  auto grad_u = at::empty({B, L, E}, u.options()), grad_dt = at::empty({B, L, E}, u.options());
  auto grad_a = at::zeros({B, N, E}, u.options());
  auto grad_b = at::zeros({groups, B, L, N}, u.options()), grad_c = at::zeros({groups, B, L, N}, u.options());
  auto grad_d = some(d, {B, E}), grad_z = some(z, {B, L, E}), grad_bias = some(dt_bias, {B, E});
  auto first = given(grad_state) ? grad_state->clone(at::MemoryFormat::Contiguous) : at::zeros({B, N, E}, u.options());
  if (!ops::is_shape_only(grad_u)) {
    const Prepared in(u, dt, a, b, c, d, z, dt_bias);
    const auto upper = given(grad_y) ? grad_y->contiguous() : at::zeros({B, L, E}, u.options());
    const auto kept = boundaries.contiguous();
    ops::with_float_type("selective_scan: u", u, [&](auto zero) {
      using T = decltype(zero);
      const auto pointer = [](at::Tensor& x) { return x.defined() ? x.mutable_data_ptr<T>() : nullptr; };
      const auto args = in.arguments<T>();
      const kernels::SelectiveScanGrad<T> grads{
          upper.const_data_ptr<T>(), kept.const_data_ptr<T>(), pointer(grad_u), pointer(grad_dt),
          pointer(grad_a),           pointer(grad_b),          pointer(grad_c), pointer(grad_d),
          pointer(grad_z),           pointer(grad_bias),       pointer(first)};
      if (u.is_cpu()) {
        at::parallel_for(0, in.units(), 1, [&](int64_t begin, int64_t end) {
          std::vector<T> scratch(static_cast<size_t>(kernels::cpu::selective_scan_scratch(N)));
          kernels::cpu::selective_scan_backward(args, grads, scratch.data(), begin, end);
        });
      } else {
        const c10::DeviceGuard guard(u.device());
        kernels::cuda::selective_scan_backward(args, grads, ops::stream_of(u));
        ops::check_launch("selective_scan_backward");
      }
    });
  } else if (!u.is_meta()) {
    for (const auto& sum : {grad_d, grad_bias}) {
      if (sum.defined()) sum.zero_();
    }
  }
  const auto summed = [&](const at::Tensor& x) { return x.defined() ? x.sum(0) : at::empty({0}, u.options()); };
  if (!grad_z.defined()) grad_z = at::empty({0}, u.options());
  return {grad_u,         grad_dt, grad_a.sum(0).t(), grad_b.sum(0), grad_c.sum(0),
          summed(grad_d), grad_z,  summed(grad_bias), first};
}

struct ScanFunction : torch::autograd::Function<ScanFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& u, const at::Tensor& dt, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c, const MaybeTensor& d, const MaybeTensor& z,
                               const MaybeTensor& dt_bias, const MaybeTensor& state) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<ForwardSignature>("winnow::selective_scan");
    auto [y, last, kept] = op.call(u, dt, a, b, c, d, z, dt_bias, state, true);
    const auto held = [](const MaybeTensor& x) { return given(x) ? *x : at::Tensor(); };
    ctx->save_for_backward({u, dt, a, b, c, held(d), held(z), held(dt_bias), kept});
    ctx->saved_data["state"] = given(state);
    ctx->set_materialize_grads(false);
    ctx->mark_non_differentiable({kept});
    return {y, last, kept};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("selective_scan");
    if (!grads[0].defined() && !grads[1].defined()) return variable_list(9);
    static const auto op = ops::find<BackwardSignature>("winnow::selective_scan_backward");
    const auto s = ctx->get_saved_variables();
    auto out = op.call(maybe(grads[0]), maybe(grads[1]), s[0], s[1], s[2], s[3], s[4], maybe(s[5]), maybe(s[6]),
                       maybe(s[7]), s[8]);
    const std::array<bool, 9> wanted = {true,           true,           true,
                                        true,           true,           s[5].defined(),
                                        s[6].defined(), s[7].defined(), ctx->saved_data["state"].toBool()};
    for (size_t i = 0; i < out.size(); ++i) {
      if (!wanted[i]) out[i] = at::Tensor();
    }
    return out;
  }
};

Triple scan_autograd(const at::Tensor& u, const at::Tensor& dt, const at::Tensor& a, const at::Tensor& b,
                     const at::Tensor& c, const MaybeTensor& d, const MaybeTensor& z, const MaybeTensor& dt_bias,
                     const MaybeTensor& state, bool boundaries) {
  const auto trains = [](const at::Tensor& x) { return x.requires_grad(); };
  const auto may_train = [](const MaybeTensor& x) { return given(x) && x->requires_grad(); };
  const bool needed =
      c10::GradMode::is_enabled() && (trains(u) || trains(dt) || trains(a) || trains(b) || trains(c) || may_train(d) ||
                                      may_train(z) || may_train(dt_bias) || may_train(state));
  if (!needed) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<ForwardSignature>("winnow::selective_scan");
    return op.call(u, dt, a, b, c, d, z, dt_bias, state, boundaries);
  }
  const auto out = ScanFunction::apply(u, dt, a, b, c, d, z, dt_bias, state);
  return {out[0], out[1], out[2]};
}

}  // namespace

WINNOW_IMPLEMENT(selective_scan, scan_op)
WINNOW_IMPLEMENT(selective_scan_backward, backward_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("selective_scan", &scan_autograd);
}

SelectiveScanOutput selective_scan(const SelectiveScanInput& in) {
  check_floating("selective_scan: u", in.u);
  const auto dtype = in.u.scalar_type();
  const auto wide = [](const char* what, const at::Tensor& x) {
    check_floating(what, x);
    return ops::widened(x);
  };
  const auto maybe_wide = [](const char* what, const at::Tensor& x) -> MaybeTensor {
    if (!x.defined()) return std::nullopt;
    check_floating(what, x);
    return ops::widened(x);
  };
  static const auto op = ops::find<ForwardSignature>("winnow::selective_scan");
  auto [y, state, kept] =
      op.call(ops::widened(in.u), wide("selective_scan: dt", in.dt), wide("selective_scan: a", in.a),
              wide("selective_scan: b", in.b), wide("selective_scan: c", in.c), maybe_wide("selective_scan: d", in.d),
              maybe_wide("selective_scan: z", in.z), maybe_wide("selective_scan: dt_bias", in.dt_bias),
              maybe_wide("selective_scan: state", in.state), false);
  return {.y = y.scalar_type() == dtype ? y : y.to(dtype), .state = state};
}

}  // namespace winnow
