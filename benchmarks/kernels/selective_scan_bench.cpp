// The selective scan of Mamba, forward, with its gradients and one step of decoding, beside LibTorch.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/selective_scan.h"

using namespace winnow;

namespace {

// What LibTorch can do: decay and input of all steps at once, then one fused operation a step.
SelectiveScanOutput compose(const SelectiveScanInput& in) {
  const auto delta = at::softplus(in.dt + in.dt_bias).unsqueeze(2);  // [B, L, 1, E]
  const auto decay = (delta * in.a.t()).exp().unbind(1);             // L of [B, N, E]
  const auto added = (delta * in.u.unsqueeze(2) * in.b.unsqueeze(3)).unbind(1);
  auto h = in.state;
  std::vector<at::Tensor> states;
  for (size_t t = 0; t < decay.size(); ++t) {
    h = at::addcmul(added[t], decay[t], h);
    states.push_back(h);
  }
  const auto y = at::matmul(in.c.unsqueeze(2), at::stack(states, 1)).squeeze(2) + in.d * in.u;
  return {.y = y * at::silu(in.z), .state = h};
}

SelectiveScanInput input(int64_t B, int64_t L, int64_t E, int64_t N, bool trains) {
  uint64_t seed = 0;
  const auto make = [&](at::IntArrayRef shape) { return at::randn(shape, make_generator(++seed)); };
  SelectiveScanInput in{.u = make({B, L, E}),
                        .dt = make({B, L, E}) - 4.0,
                        .a = -(at::arange(1, N + 1).to(at::kFloat).expand({E, N}).contiguous()),
                        .b = make({B, L, N}),
                        .c = make({B, L, N}),
                        .d = make({E}),
                        .z = make({B, L, E}),
                        .dt_bias = make({E}),
                        .state = make({B, N, E})};
  if (trains) {
    for (auto* x : {&in.u, &in.dt, &in.a, &in.b, &in.c, &in.d, &in.z, &in.dt_bias}) x->requires_grad_();
  }
  return in;
}

void compare(bench::Report& report, int64_t B, int64_t L, int64_t E, int64_t N) {
  const auto name =
      std::to_string(B) + " x " + std::to_string(L) + " x " + std::to_string(E) + ", N " + std::to_string(N);
  const auto in = input(B, L, E, N, false);
  const auto alone = [](const SelectiveScanOutput& out) { bench::keep(out); };
  report.compare("forward, " + name, {"winnow", [=] { alone(selective_scan(in)); }},
                 {"LibTorch", [=] { alone(compose(in)); }}, {.target = 1.2, .rounds = 7});
  if (L == 1) return;
  const auto leaf = input(B, L, E, N, true);
  const auto grad = at::randn({B, L, E}, make_generator(99));
  const auto both = [=](const SelectiveScanOutput& out) {
    bench::keep(torch::autograd::grad({out.y}, {leaf.u, leaf.dt, leaf.a, leaf.b, leaf.c, leaf.d, leaf.z, leaf.dt_bias},
                                      {grad}));
  };
  report.compare("forward and backward, " + name, {"winnow", [=] { both(selective_scan(leaf)); }},
                 {"LibTorch", [=] { both(compose(leaf)); }}, {.target = 1.2, .rounds = 7});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("selective_scan", argc, argv, [](bench::Report& report) {
    const at::AutoGradMode grad(true);
    compare(report, 1, 1, 1536, 16);  // a step of Mamba-130M
    compare(report, 1, 256, 1536, 16);
    compare(report, 4, 128, 512, 16);
  });
}
