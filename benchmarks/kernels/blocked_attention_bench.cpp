// Attention of whole sequences, forward and backward, beside LibTorch's scaled_dot_product_attention.
#include <torch/torch.h>

#include <cmath>

#include "bench.h"
#include "winnow/tensor/blocked_attention.h"
#include "winnow/tensor/generator.h"

using namespace winnow;

namespace {

void compare(bench::Report& report, int64_t batch, int64_t heads, int64_t length, int64_t width, bool causal) {
  const auto flat = at::randn({batch, length, 3, heads, width}, make_generator(1)).requires_grad_();
  const auto cotangent = at::randn({batch, length, heads * width}, make_generator(2));
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const auto run = [=](auto&& attend, bool backward) {
    const auto three = flat.unbind(2);
    const auto out = attend(three[0].transpose(1, 2), three[1].transpose(1, 2), three[2].transpose(1, 2));
    const auto joined = out.transpose(1, 2).reshape({batch, length, heads * width});
    if (backward) bench::keep(torch::autograd::grad({joined}, {flat}, {cotangent}));
  };
  const auto ours = [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return blocked_attention(q, k, v, causal, scale);
  };
  const auto theirs = [=](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return at::scaled_dot_product_attention(q, k, v, {}, 0.0, causal, scale);
  };
  const auto name = fmt::format("B{} H{} L{} d{}{}", batch, heads, length, width, causal ? " causal" : "");
  for (const bool backward : {false, true}) {
    report.compare((backward ? "forward and backward, " : "forward, ") + name,
                   {.label = "winnow", .work = [=] { run(ours, backward); }},
                   {.label = "LibTorch", .work = [=] { run(theirs, backward); }}, {.target = 1.2});
  }
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("blocked_attention", argc, argv, [](bench::Report& report) {
    compare(report, 8, 8, 256, 32, true);
    compare(report, 2, 9, 512, 64, true);
    compare(report, 1, 8, 1024, 64, true);
    compare(report, 8, 3, 50, 64, false);
    compare(report, 8, 3, 197, 64, false);
  });
}
