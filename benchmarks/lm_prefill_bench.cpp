// Prefill of 256 tokens with an empty state beside transformers (eager and SDPA, with its cache, last logits only) on
// the same weights. Wanted: no slower than the better of the two. The bound is the matrix products at the GEMM peak.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>

#include "bench.h"
#include "lm_shapes.h"
#include "winnow/tensor/generator.h"

namespace {

using namespace winnow;

constexpr int64_t kTokens = 256;

void compare(bench::Report& report, const bench::LmShape& shape) {
  bench::LmPair pair(shape);
  auto& model = pair.model;
  const auto ids = at::randint(shape.config.vocab_size, {1, kTokens}, make_generator(3), at::kLong);
  const bench::Side ours{.label = "winnow", .work = [&] {
                           const auto state = model->make_state(1, kTokens);
                           const auto out = model->run({.ids = ids, .state = state.get(), .last_only = true});
                           bench::keep(out.logits);
                         }};
  const bench::CompareOptions options{
      .target = 1.0, .rounds = shape.large ? 5 : 9, .min_seconds = 0.2, .two_threads = !shape.large};
  const auto name = fmt::format("{}, prefill of {} tokens", shape.name, kTokens);
  double ours_ms = 1e300;
  for (const auto* attention : {"eager", "sdpa"}) {
    ours_ms = std::min(ours_ms, report.compare(name, ours, pair.peer_side(attention, "prefill"), options).our_ms);
  }
  // Every matrix but that of the head meets every token.
  const auto weights = static_cast<double>(DecodePlan(model->decode_stack()).weight_bytes() / 4 -
                                           (shape.config.vocab_size + 1) * shape.config.hidden_size);
  const double flops = 2 * weights * static_cast<double>(kTokens);
  const double peak = bench::gemm_peak();
  report.note(shape.name + ": GEMM peak, GFLOP/s", peak);
  report.note(shape.name + ": bound / time", flops / (1e9 * peak) / (1e-3 * ours_ms));
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("lm_prefill", argc, argv, [](bench::Report& report) {
    const at::NoGradGuard no_grad;
    for (const auto& shape : bench::lm_shapes()) {
      if (report.wants(shape.name) && !(shape.large && report.smoke())) compare(report, shape);
    }
  });
}
