// A full training step of a 6 x 256 GPT (byte vocabulary, 8 heads) on 8 rows of 256 tokens, fp32, beside transformers'
// GPT2LMHeadModel with the same weights and tokens, once with its eager attention and once with SDPA, both with fused
// AdamW. Wanted: at most 0.85x of the time of the better one, that is a ratio of 1.18. The floor is what all share:
// matrix products and attention.
#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "bench.h"
#include "peer.h"
#include "winnow/core/error.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/causal_lm.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/cross_entropy.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/runtime.h"
#include "winnow/train/optimizer.h"
#include "winnow/train/param_groups.h"

namespace {

using namespace winnow;  // NOLINT: a program

constexpr int64_t kBatch = 8, kLength = 256, kDim = 256, kDepth = 6, kHeads = 8, kVocab = 256;

// Milliseconds of the matrix products and the attention of one step alone, forward and backward.
double floor_ms(bench::Report& report) {
  struct Shape {
    int64_t in, out, count;
  };
  const int64_t rows = kBatch * kLength;
  const std::vector<Shape> shapes = {{kDim, 3 * kDim, kDepth},
                                     {kDim, kDim, kDepth},
                                     {kDim, 4 * kDim, kDepth},
                                     {4 * kDim, kDim, kDepth},
                                     {kDim, kVocab, 1}};
  double total = 0;
  for (const auto& s : shapes) {
    const auto x = at::rand({rows, s.in}), w = at::rand({s.out, s.in}), y = at::rand({rows, s.out});
    const auto work = [&] {
      bench::keep(at::mm(x, w.t()));
      bench::keep(at::mm(y, w));
      bench::keep(at::mm(y.t(), x));
    };
    total += static_cast<double>(s.count) * report.time_ms(work, 7);
  }
  const auto q = at::rand({kBatch, kHeads, kLength, kDim / kHeads}).requires_grad_();
  const auto attention = [&] {
    at::scaled_dot_product_attention(q, q, q, {}, 0.0, /*is_causal=*/true).sum().backward();
  };
  return total + static_cast<double>(kDepth) * report.time_ms(attention, 7);
}

void check_loss(double ours, bench::Peer& peer) {
  const double theirs = std::strtod(peer.ask("loss").c_str(), nullptr);
  WINNOW_CHECK_KIND(std::abs(ours - theirs) <= 1e-5 * std::max(1.0, std::abs(theirs)), ErrorKind::argument,
                    "lm_step: the losses must be equal to 1e-5, got {} and {}", ours, theirs);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("lm_step", argc, argv, [](bench::Report& report) {
    models::CausalLM model(
        models::gpt2_config(
            {.vocab_size = kVocab, .context_length = 512, .dim = kDim, .depth = kDepth, .heads = kHeads}),
        /*seed=*/1);
    model->train();
    const auto folder = std::filesystem::temp_directory_path() / fmt::format("winnow_lm_step_{}", getpid());
    models::save(*model, folder);
    const auto ids = at::randint(0, kVocab, {kBatch, kLength}, make_generator(3), at::kLong);
    io::save_safetensors((folder / "inputs.safetensors").string(), {{"ids", ids}});

    train::FusedAdamW optimizer(train::weight_decay_groups(*model, 0.1), {.beta2 = 0.95});
    const auto targets = next_tokens(ids);
    const auto loss_of = [&] {
      const auto out = model->run({.ids = ids, .hidden_states = true, .logits = false});
      return linear_cross_entropy(out.hidden_states.back(), model->head->weight, targets);
    };
    const double first_loss = loss_of().item<double>();
    const auto step = [&] {
      optimizer.zero_grad();
      loss_of().backward();
      optimizer.step(1e-6);
    };
    report.note("loss, winnow", first_loss);

    double our_ms = 0, their_ms = 0;
    for (const std::string attention : {"eager", "sdpa"}) {
      bench::Peer peer("lm_step.py", {"transformers==5.23.0", "safetensors==0.8.0"}, {folder.string(), attention});
      check_loss(first_loss, peer);
      const auto result = report.compare("training step, 6x256 GPT, 8x256 tokens", {.label = "winnow", .work = step},
                                         {.label = "transformers " + attention,
                                          .timed = [&](int64_t calls) { return peer.run(calls); },
                                          .set_threads = [&](int64_t threads) { peer.set_threads(threads); }},
                                         {.target = 1 / 0.85});
      if (their_ms == 0 || result.other_ms < their_ms) {
        our_ms = result.our_ms;
        their_ms = result.other_ms;
      }
    }
    const double floor = floor_ms(report);
    report.note("time, winnow / better of transformers (want <= 0.85)", our_ms / their_ms);
    report.note("floor: matrix products and attention alone, ms", floor);
    report.note("floor / transformers", floor / their_ms);
    report.note("floor / winnow", floor / our_ms);
    report.note("GEMM peak, GFLOP/s", bench::gemm_peak());
    OpCounter counter;
    step();
    const auto counts = counter.counts();
    report.note("operator dispatches per step", static_cast<double>(counts.dispatches));
    report.note("multiply-adds per step, G", 1e-9 * static_cast<double>(counts.multiply_adds));
    std::filesystem::remove_all(folder);
  });
}
