// LayerNorm alone and with the residual addition before it, forward and backward, beside LibTorch.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/norm.h"

using namespace winnow;

namespace {

void compare(bench::Report& report, int64_t rows, int64_t D) {
  const auto x = at::randn({rows, D}, make_generator(1)).requires_grad_();
  const auto delta = at::randn({rows, D}, make_generator(2)).requires_grad_();
  const auto weight = at::randn({D}, make_generator(3)).requires_grad_();
  const auto bias = at::randn({D}, make_generator(4)).requires_grad_();
  const auto to_norm = at::randn({rows, D}, make_generator(5)), to_sum = at::randn({rows, D}, make_generator(6));
  const auto name = std::to_string(rows) + " x " + std::to_string(D);
  const auto both = [=](const at::Tensor& sum, const at::Tensor& y) {
    bench::keep(torch::autograd::grad({sum, y}, {x, delta, weight, bias}, {to_sum, to_norm}));
  };
  report.compare("addition and norm, " + name,
                 {"winnow",
                  [=] {
                    const auto out = add_layer_norm(x, delta, weight, bias);
                    both(out.sum, out.normalized);
                  }},
                 {"LibTorch",
                  [=] {
                    const auto sum = x + delta;
                    both(sum, at::layer_norm(sum, {D}, weight, bias, 1e-6));
                  }},
                 {.target = 1.2});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("layer_norm", argc, argv, [](bench::Report& report) {
    compare(report, 8 * 50, 192);
    compare(report, 8 * 197, 96);
    compare(report, 64 * 17, 64);
    compare(report, 8 * 197, 768);
  });
}
