#include "winnow/nn/mamba_mixer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "winnow/core/error.h"
#include "winnow/nn/init.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/selective_scan.h"

namespace winnow {

Fields<MambaMixerOptions> MambaMixerOptions::fields() {
  return Fields<MambaMixerOptions>("MambaMixer")
      .add("dim", &MambaMixerOptions::dim, "width", at_least(1))
      .add("inner", &MambaMixerOptions::inner, "channels of the scan; 0: 2 dim", at_least(0))
      .add("states", &MambaMixerOptions::states, "states of a channel", at_least(1))
      .add("kernel", &MambaMixerOptions::kernel, "width of the convolution", at_least(1))
      .add("rank", &MambaMixerOptions::rank, "of the step sizes; 0: dim / 16, rounded up", at_least(0))
      .add("bias", &MambaMixerOptions::bias, "whether the projections in and out have biases")
      .add("conv_bias", &MambaMixerOptions::conv_bias, "whether the convolution has a bias")
      .add("activation", &MambaMixerOptions::activation, "activation behind the convolution");
}

MambaMixerImpl::MambaMixerImpl(MambaMixerOptions opts) : options(opts) {
  check(options);
  if (options.inner == 0) options.inner = 2 * options.dim;
  if (options.rank == 0) options.rank = (options.dim + 15) / 16;
  reset();
}

void MambaMixerImpl::reset() {
  const auto& o = options;
  in_proj = register_module("in_proj", Linear(o.dim, 2 * o.inner, o.bias));
  x_proj = register_module("x_proj", Linear(o.inner, o.rank + 2 * o.states, false));
  dt_proj = register_module("dt_proj", Linear(o.rank, o.inner, true));
  out_proj = register_module("out_proj", Linear(o.inner, o.dim, o.bias));
  conv_weight = register_parameter("conv_weight", at::empty({o.inner, o.kernel}));
  if (o.conv_bias) conv_bias = register_parameter("conv_bias", at::empty({o.inner}));
  a_log = register_parameter("a_log", at::empty({o.inner, o.states}));
  d = register_parameter("d", at::empty({o.inner}));
  if (!SkipRandomInit::active()) init_weights(make_generator(0));
}

void MambaMixerImpl::init_weights(at::Generator generator) {
  const at::NoGradGuard no_grad;
  const auto& o = options;
  const auto fill = [&](const at::Tensor& weight, int64_t fan_in) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
    uniform_(weight, generator, -bound, bound);
  };
  for (const auto& linear : {in_proj, x_proj, dt_proj, out_proj}) fill(linear->weight, linear->in_features);
  for (const auto& linear : {in_proj, out_proj}) {
    if (linear->bias.defined()) linear->bias.zero_();
  }
  fill(conv_weight, o.kernel);
  if (conv_bias.defined()) conv_bias.zero_();
  a_log.copy_(at::arange(1, o.states + 1, at::kDouble).log().expand_as(a_log));
  d.fill_(1.0);
  // The bias whose softplus is the step size.
  uniform_(dt_proj->bias, generator, std::log(1e-3), std::log(1e-1));
  const auto step = dt_proj->bias.exp().clamp_min(1e-4);
  dt_proj->bias.copy_(step + (-(-step).expm1()).log());
}

// Causal and one filter a channel: u [B, L, E] -> [B, L, E].
at::Tensor MambaMixerImpl::convolve(const at::Tensor& u, MambaMixerState* state) const {
  const auto& o = options;
  const auto B = u.size(0), L = u.size(1);
  const bool continued = state != nullptr && state->conv.defined();
  const auto before = continued ? state->conv : at::zeros({B, o.kernel - 1, o.inner}, u.options());
  const auto all = at::cat({before, u}, 1);  // [B, kernel - 1 + L, E]
  if (state != nullptr) state->conv = all.detach().narrow(1, L, o.kernel - 1).clone();
  const auto weight = conv_weight.to(u.scalar_type());
  auto y = all.narrow(1, 0, L) * weight.select(1, 0);
  for (int64_t k = 1; k < o.kernel; ++k) y = at::addcmul(y, all.narrow(1, k, L), weight.select(1, k));
  if (conv_bias.defined()) y = y + conv_bias.to(u.scalar_type());
  return activate(y, o.activation);
}

at::Tensor MambaMixerImpl::forward(const at::Tensor& x, const at::Tensor& keep, MambaMixerState* state) {
  const auto& o = options;
  check_shape("MambaMixer: x", x, {-1, -1, o.dim});
  if (keep.defined()) check_shape("MambaMixer: keep", keep, {x.size(0), x.size(1)});
  if (state != nullptr && state->scan.defined()) {
    check_shape("MambaMixer: state", state->scan, {x.size(0), o.states, o.inner});
  }
  const auto real = keep.defined() ? (keep != 0).unsqueeze(2).to(x.device(), x.scalar_type()) : at::Tensor();
  const auto both = in_proj->forward(x);  // [B, L, 2 E]
  auto u = both.narrow(2, 0, o.inner);
  if (real.defined()) u = u * real;
  u = convolve(u, state);
  if (real.defined()) u = u * real;
  const auto selected = x_proj->forward(u);  // [B, L, rank + 2 N]
  const auto none = at::Tensor();
  const auto dtype = x.scalar_type();
  const auto out = selective_scan({.u = u,
                                   .dt = dt_proj->forward_with_bias(selected.narrow(2, 0, o.rank), none),
                                   .a = -a_log.to(dtype == at::kDouble ? at::kDouble : at::kFloat).exp(),
                                   .b = selected.narrow(2, o.rank, o.states),
                                   .c = selected.narrow(2, o.rank + o.states, o.states),
                                   .d = d.to(dtype),
                                   .z = both.narrow(2, o.inner, o.inner),
                                   .dt_bias = dt_proj->bias.to(dtype),
                                   .state = state != nullptr ? state->scan : none});
  if (state != nullptr) state->scan = out.state.detach();
  return hooked(out_proj->forward(out.y));
}

}  // namespace winnow
