// What choosing a token costs: the loop of generate() around a model that costs nothing, beside one step of a 6 x 256
// GPT (byte vocabulary), wanted below 5 %; and warping with drawing beside the composition of LibTorch operators that
// transformers makes of the same rules.
#include <ATen/ATen.h>
#include <fmt/core.h>

#include "bench.h"
#include "winnow/models/causal_lm.h"
#include "winnow/models/generation.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace {

using namespace winnow;  // NOLINT: a program

// Returns the same logits every time.
struct ConstantLm : LanguageModel {
  struct State : DecoderState {
    [[nodiscard]] int64_t length() const override { return 0; }
    void truncate(int64_t) override {}
    void select(const at::Tensor&) override {}
    void compact(int64_t, const std::vector<int64_t>&) override {}
  };
  explicit ConstantLm(int64_t V) : logits(at::randn({1, 1, V}, make_generator(1)) * 3) {}
  LmOutput run(const LmInput&) override { return {.logits = logits}; }
  std::unique_ptr<DecoderState> make_state(int64_t, int64_t) override { return std::make_unique<State>(); }
  [[nodiscard]] int64_t vocab_size() const override { return logits.size(2); }
  [[nodiscard]] int64_t context_length() const override { return 0; }
  at::Tensor logits;
};

constexpr int64_t kTokens = 256;

models::GenerationOptions with(const WarpOptions& warp, bool sample) {
  return {.max_new_tokens = kTokens, .sample = sample, .warp = warp};
}

// Milliseconds a token, and operators a token through LibTorch's dispatcher.
struct Cost {
  double ms, operators;
};
Cost cost_per_token(bench::Report& report, LanguageModel& model, const models::GenerationOptions& options) {
  const auto work = [&] { bench::keep(models::generate(model, {.prompts = {{1, 2, 3}}}, options)); };
  const auto ms = report.time_ms(work, 9) / kTokens;
  const OpCounter counter;
  work();
  return {.ms = ms, .operators = static_cast<double>(counter.counts().dispatches) / kTokens};
}

// Temperature, top-k and top-p as transformers writes them, and a draw.
at::Tensor composed_draw(const at::Tensor& logits, const WarpOptions& o, const at::Generator& generator) {
  auto scores = logits / o.temperature;
  if (o.top_k > 0) {
    const auto kth = std::get<0>(scores.topk(o.top_k)).slice(-1, -1);
    scores = scores.masked_fill(scores < kth, -INFINITY);
  }
  if (o.top_p < 1) {
    const auto [sorted, order] = scores.sort(/*dim=*/-1, /*descending=*/false);
    const auto removed = sorted.softmax(-1).cumsum(-1) <= 1 - o.top_p;
    removed.slice(-1, -1).fill_(false);
    scores = scores.masked_fill(removed.scatter(1, order, removed), -INFINITY);
  }
  return scores.softmax(-1).multinomial(1, /*replacement=*/false, generator);
}

void compare_draws(bench::Report& report, int64_t V, const std::string& rules, const WarpOptions& options) {
  const auto logits = at::randn({1, V}, make_generator(2)) * 3;
  const auto generator = make_generator(3);
  const std::span<const float> row(logits.const_data_ptr<float>(), static_cast<size_t>(V));
  uint64_t position = 0;
  report.compare(fmt::format("{}, V {}", rules, V),
                 {"sample_row", [&] { bench::keep(sample_row(row, options, stream_uniform(1, ++position))); }},
                 {"LibTorch operators", [&] { bench::keep(composed_draw(logits, options, generator)); }},
                 {.target = 1.2, .two_threads = false});
}

void model_step(bench::Report& report) {
  models::CausalLM gpt(models::gpt2_config({.vocab_size = 256, .context_length = 512}), /*seed=*/1);
  gpt->eval();
  const auto options = with({.temperature = 0.8, .top_k = 40, .top_p = 0.95}, /*sample=*/true);
  const auto model = cost_per_token(report, *gpt, options);
  ConstantLm nothing(256);
  const auto loop = cost_per_token(report, nothing, options);
  report.note("6x256 GPT, µs a token in generate()", 1e3 * model.ms);
  report.note("the loop alone, µs a token", 1e3 * loop.ms);
  report.note("share of the loop, %", 100 * loop.ms / model.ms);
  report.note("operators a token, whole / loop alone", model.operators);
  report.note("operators a token, loop alone", loop.operators);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("generation", argc, argv, [](bench::Report& report) {
    at::set_num_threads(1);
    model_step(report);
    ConstantLm large(49152);
    report.note("loop alone at V 49152, greedy, µs a token",
                1e3 * cost_per_token(report, large, with({}, /*sample=*/false)).ms);
    report.note("loop alone at V 49152, top-k 50 + top-p 0.95, µs a token",
                1e3 * cost_per_token(report, large, with({.top_k = 50, .top_p = 0.95}, /*sample=*/true)).ms);
    for (const int64_t V : {256, 49152}) {
      compare_draws(report, V, "temperature", {.temperature = 0.8});
      compare_draws(report, V, "top-k 50", {.temperature = 0.8, .top_k = 50});
      compare_draws(report, V, "top-p 0.9", {.temperature = 0.8, .top_p = 0.9});
      compare_draws(report, V, "top-k 50 + top-p 0.95", {.temperature = 0.8, .top_k = 50, .top_p = 0.95});
    }
  });
}
