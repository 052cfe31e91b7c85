// The kernels between the linear layers of decoding beside the LibTorch operators that do the same for one token (and
// for 8 tokens, as in verification): norm with its addition, rotary, gated activation, attention over a cache.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "bench.h"
#include "winnow/kernels/activation_rows.h"
#include "winnow/kernels/attention_rows.h"
#include "winnow/kernels/norm_rows.h"
#include "winnow/kernels/rotary_rows.h"
#include "winnow/tensor/generator.h"

using namespace winnow;

namespace {

float* data(const at::Tensor& x) {
  return x.mutable_data_ptr<float>();
}

void compare_norm(bench::Report& report, int64_t rows, int64_t D, bool rms) {
  const auto x = at::randn({rows, D}, make_generator(1)), delta = at::zeros({rows, D});
  const auto weight = at::randn({D}, make_generator(2)), bias = at::randn({D}, make_generator(3)),
             y = at::empty({rows, D});
  const kernels::NormRows args{.x = data(x),
                               .delta = data(delta),
                               .sum = data(x),
                               .weight = data(weight),
                               .bias = rms ? nullptr : data(bias),
                               .y = data(y),
                               .x_stride = D,
                               .delta_stride = D,
                               .y_stride = D,
                               .width = D,
                               .eps = 1e-5,
                               .rms = rms};
  report.compare(
      fmt::format("addition and {} norm, {} x {}", rms ? "RMS" : "layer", rows, D),
      {"winnow", [=] { kernels::cpu::norm_rows(args, 0, rows); }},
      {"LibTorch",
       [=] {
         const auto sum = x + delta;
         bench::keep(rms ? at::rms_norm(sum, {D}, weight, 1e-5) : at::layer_norm(sum, {D}, weight, bias, 1e-5));
       }},
      {.target = 1.2, .two_threads = false});
}

void compare_rotary(bench::Report& report, int64_t rows, int64_t heads, int64_t d) {
  const auto x = at::randn({rows, heads, d}, make_generator(1)), angle = at::randn({rows, d / 2}, make_generator(2));
  const auto cos = angle.cos(), sin = angle.sin();
  const kernels::RotaryRows args{.x = data(x),
                                 .cos = data(cos),
                                 .sin = data(sin),
                                 .x_stride = heads * d,
                                 .heads = heads,
                                 .head_dim = d,
                                 .half = d / 2,
                                 .interleaved = false};
  const auto c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  report.compare(fmt::format("rotary, {} x {} heads of {}", rows, heads, d),
                 {"winnow", [=] { kernels::cpu::rotary_rows(args, 0, rows); }},
                 {"LibTorch",
                  [=] {
                    const auto a = x.narrow(2, 0, d / 2), b = x.narrow(2, d / 2, d / 2);
                    bench::keep(at::cat({a * c - b * s, b * c + a * s}, 2));
                  }},
                 {.target = 1.2, .two_threads = false});
}

void compare_activation(bench::Report& report, int64_t rows, int64_t width, bool gated) {
  const auto x = at::randn({rows, width}, make_generator(1)), gate = at::randn({rows, width}, make_generator(2));
  const auto mine = x.clone();
  const kernels::ActivationRows args{
      .x = data(mine),
      .gate = gated ? data(gate) : nullptr,
      .activation = gated ? kernels::RowActivation::silu : kernels::RowActivation::gelu_tanh};
  report.compare(fmt::format("{}, {} x {}", gated ? "silu(gate) * x" : "gelu, tanh form", rows, width),
                 {"winnow", [=] { kernels::cpu::activation_rows(args, 0, rows * width); }},
                 {"LibTorch", [=] { bench::keep(gated ? at::silu(gate) * x : at::gelu(x, "tanh")); }},
                 {.target = 1.2, .two_threads = false});
}

struct Attention {
  int64_t n, length, kv_heads, group, d;
};

void compare_attention(bench::Report& report, const Attention& a) {
  const auto heads = a.kv_heads * a.group;
  const auto q = at::randn({1, a.n, heads, a.d}, make_generator(1));
  const auto keys = at::randn({1, a.kv_heads, a.length, a.d}, make_generator(2));
  const auto values = at::randn({1, a.kv_heads, a.length, a.d}, make_generator(3)), out = at::empty_like(q);
  const kernels::AttentionRows args{.q = data(q),
                                    .keys = data(keys),
                                    .values = data(values),
                                    .out = data(out),
                                    .q_stride = heads * a.d,
                                    .head_stride = a.length * a.d,
                                    .out_stride = heads * a.d,
                                    .n = a.n,
                                    .kv_heads = a.kv_heads,
                                    .group = a.group,
                                    .head_dim = a.d,
                                    .length = a.length,
                                    .window = 0,
                                    .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.d)))};
  std::optional<at::Tensor> mask;
  if (a.n > 1) mask = at::ones({a.n, a.length}, at::kBool).tril(a.length - a.n);
  report.compare(fmt::format("attention, {} of {}, {} x {} heads of {}", a.n, a.length, a.kv_heads, a.group, a.d),
                 {"winnow", [=] { kernels::cpu::attention_rows(args, 0, args.kv_heads); }},
                 {"LibTorch SDPA",
                  [=] {
                    const auto z = at::scaled_dot_product_attention(q.transpose(1, 2), keys, values, mask, 0.0, false,
                                                                    std::nullopt, /*enable_gqa=*/args.group > 1);
                    bench::keep(z.transpose(1, 2).contiguous());
                  }},
                 {.target = 1.2, .two_threads = false});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("decode_rows", argc, argv, [](bench::Report& report) {
    const at::NoGradGuard no_grad;
    for (const int64_t rows : {1, 8}) {
      compare_norm(report, rows, 256, false);
      compare_norm(report, rows, 576, true);
      compare_norm(report, rows, 2048, true);
      compare_rotary(report, rows, 12, 64);
      compare_rotary(report, rows, 36, 64);
      compare_activation(report, rows, 1024, false);
      compare_activation(report, rows, 1536, true);
      compare_activation(report, rows, 5632, true);
      compare_attention(report, {.n = rows, .length = 256, .kv_heads = 8, .group = 1, .d = 32});
      compare_attention(report, {.n = rows, .length = 512, .kv_heads = 3, .group = 3, .d = 64});
      compare_attention(report, {.n = rows, .length = 2048, .kv_heads = 4, .group = 8, .d = 64});
    }
  });
}
