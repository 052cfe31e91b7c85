// Linear layer and exact GELU of an MLP: product without bias and the fused bias + GELU, beside linear and gelu.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/activation.h"
#include "winnow/tensor/generator.h"

using namespace winnow;

namespace {

void compare(bench::Report& report, int64_t rows, int64_t F) {
  const auto x = at::randn({rows, F}, make_generator(1)).requires_grad_();
  const auto bias = at::randn({F}, make_generator(2)).requires_grad_();
  const auto upper = at::randn({rows, F}, make_generator(3));
  const auto gradient = [=](const at::Tensor& y) { bench::keep(torch::autograd::grad({y}, {x, bias}, {upper})); };
  const auto name = std::to_string(rows) + " x " + std::to_string(F);
  report.compare(name + ", with gradients", {"winnow", [=] { gradient(bias_gelu(x, bias)); }},
                 {"add + gelu", [=] { gradient(at::gelu(x + bias)); }}, {.target = 1.2});
  // The honest case: in an MLP LibTorch adds the bias inside the product.
  const auto input = at::randn({rows, F / 4}, make_generator(4)), weight = at::randn({F, F / 4}, make_generator(5));
  const auto w = weight.clone().requires_grad_();
  const auto step = [=](const at::Tensor& y) { bench::keep(torch::autograd::grad({y}, {w, bias}, {upper})); };
  report.compare(name + ", after its linear layer", {"winnow", [=] { step(bias_gelu(at::linear(input, w), bias)); }},
                 {"linear + gelu", [=] { step(at::gelu(at::linear(input, w, bias))); }}, {});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("bias_gelu", argc, argv, [](bench::Report& report) {
    compare(report, 8 * 50, 768);
    compare(report, 8 * 197, 384);
    compare(report, 64 * 17, 256);
  });
}
