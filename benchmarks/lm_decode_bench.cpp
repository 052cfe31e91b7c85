// Decoding of one sequence on the CPU beside transformers' generate (eager and SDPA) with the same weights and prompt.
// Wanted on one thread: 5x the tokens per second of the better of the two for GPT-2 6x256 over bytes; for SmolLM2-135M
// and a Llama of 22x2048 in float32 at least 80 % of what reading the weights takes (goals 2x and 1.25x of the peer);
// float16 and bfloat16 weights at least 1.7x our float32. The large shape takes 14 GB and some minutes: --only
// "22x2048" runs it alone.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>

#include "bench.h"
#include "lm_shapes.h"
#include "winnow/models/generation.h"
#include "winnow/tensor/count.h"

namespace {

using namespace winnow;

std::function<void()> generation(models::CausalLM model, const at::Tensor& prompt, int64_t new_tokens) {
  const auto input = models::generation_input(prompt);
  return [=]() mutable {
    const auto out = models::generate(*model, input, {.max_new_tokens = new_tokens});
    bench::keep(out.new_tokens);
  };
}

// One more token behind 64 others, again and again: the step alone.
std::function<void()> step(models::CausalLM model, std::shared_ptr<DecoderState> state) {
  return [=]() mutable {
    state->truncate(64);
    bench::keep(model->run({.ids = at::zeros({1, 1}, at::kLong), .state = state.get()}).logits);
  };
}

std::shared_ptr<DecoderState> state_of_64_tokens(models::CausalLM& model) {
  std::shared_ptr<DecoderState> state = model->make_state(1, 96);
  model->run({.ids = at::zeros({1, 64}, at::kLong), .state = state.get(), .last_only = true});
  return state;
}

void count_operators(bench::Report& report, const std::string& name, models::CausalLM& model) {
  const auto state = state_of_64_tokens(model);
  const auto ids = at::zeros({1, 1}, at::kLong);
  model->run({.ids = ids, .state = state.get()});
  const OpCounter counter;
  for (int i = 0; i < 10; ++i) model->run({.ids = ids, .state = state.get()});
  report.note(name + ": operator dispatches per token", static_cast<double>(counter.counts().dispatches) / 10);
}

void compare_with_peer(bench::Report& report, const bench::LmShape& shape) {
  bench::LmPair pair(shape);
  const auto ours = bench::Side{.label = "winnow", .work = generation(pair.model, pair.prompt, shape.new_tokens)};
  const bench::CompareOptions options{
      .target = shape.decode_target, .rounds = shape.large ? 5 : 9, .min_seconds = 0.2, .two_threads = !shape.large};
  const auto name = fmt::format("{}, {} tokens", shape.name, shape.new_tokens);
  const auto eager = report.compare(name, ours, pair.peer_side("eager", "generate"), options);
  const auto sdpa = report.compare(name, ours, pair.peer_side("sdpa", "generate"), options);
  const auto tokens = static_cast<double>(shape.new_tokens);
  report.note(shape.name + ": tokens/s, winnow", 1e3 * tokens / std::min(eager.our_ms, sdpa.our_ms));
  report.note(shape.name + ": tokens/s, transformers", 1e3 * tokens / std::min(eager.other_ms, sdpa.other_ms));
  report.note(
      fmt::format("{}: tokens/s, winnow / the better of transformers (want {})", shape.name, shape.decode_target),
      std::min(eager.ratio, sdpa.ratio));
}

void compare_with_bandwidth(bench::Report& report, const bench::LmShape& shape, models::CausalLM& model) {
  const auto bytes = static_cast<double>(DecodePlan(model->decode_stack()).weight_bytes());
  const auto work = step(model, state_of_64_tokens(model));
  std::vector<double> shares;
  for (int i = 0; i < (report.smoke() ? 1 : 5); ++i) {
    const double bandwidth = bench::read_bandwidth();
    shares.push_back(bytes / (1e6 * report.time_ms(work, 3, 0.1)) / bandwidth);
  }
  std::sort(shares.begin(), shares.end());
  report.note(shape.name + ": weight bytes per token, MB", 1e-6 * bytes);
  report.note(shape.name + ": milliseconds of one step", report.time_ms(work, 5, 0.1));
  report.note(fmt::format("{}: share of read bandwidth / weight bytes (want {})", shape.name, shape.bandwidth_share),
              shares[shares.size() / 2]);
}

// The same network with its matrices in half precision.
void compare_storages(bench::Report& report, const bench::LmShape& shape, models::CausalLM& wide) {
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    models::CausalLM narrow(shape.config, /*seed=*/1);
    narrow->eval();
    narrow->embed->weight.set_data(narrow->embed->weight.to(dtype));
    for (const auto& module : narrow->modules(false)) {
      if (auto* linear = module->as<LinearImpl>()) linear->weight.set_data(linear->weight.to(dtype));
    }
    const char* label = dtype == at::kHalf ? "float16" : "bfloat16";
    report.compare(
        fmt::format("{}, one step, {}", shape.name, label),
        {.label = label, .work = step(narrow, state_of_64_tokens(narrow))},
        {.label = "float32", .work = step(wide, state_of_64_tokens(wide))},
        {.target = shape.bandwidth_share > 0 ? 1.7 : 0, .rounds = 9, .min_seconds = 0.1, .two_threads = false});
  }
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("lm_decode", argc, argv, [](bench::Report& report) {
    const at::NoGradGuard no_grad;
    report.note("read bandwidth, GB/s", bench::read_bandwidth());
    for (const auto& shape : bench::lm_shapes()) {
      if (!report.wants(shape.name) || (shape.large && report.smoke())) continue;
      compare_with_peer(report, shape);
      models::CausalLM model(shape.config, /*seed=*/1);
      model->eval();
      count_operators(report, shape.name, model);
      compare_with_bandwidth(report, shape, model);
      compare_storages(report, shape, model);
    }
  });
}
