#include "lm_shapes.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <sstream>

#include "winnow/core/error.h"
#include "winnow/tensor/generator.h"

namespace winnow::bench {

std::vector<LmShape> lm_shapes() {
  return {
      {.name = "GPT-2 6x256, bytes",
       .config = models::gpt2_config({.vocab_size = 256, .context_length = 512, .dim = 256, .depth = 6, .heads = 8}),
       .new_tokens = 64,
       .decode_target = 5.0,
       .bandwidth_share = 0,
       .large = false},
      {.name = "SmolLM2-135M",
       .config = models::llama_config({.vocab_size = 49152,
                                       .context_length = 2048,
                                       .dim = 576,
                                       .depth = 30,
                                       .heads = 9,
                                       .kv_heads = 3,
                                       .hidden = 1536}),
       .new_tokens = 12,
       .decode_target = 2.0,
       .bandwidth_share = 0.8,
       .large = false},
      {.name = "Llama 22x2048",
       .config = models::llama_config({.vocab_size = 32000,
                                       .context_length = 2048,
                                       .dim = 2048,
                                       .depth = 22,
                                       .heads = 32,
                                       .kv_heads = 4,
                                       .hidden = 5632,
                                       .tied = false}),
       .new_tokens = 4,
       .decode_target = 1.25,
       .bandwidth_share = 0.8,
       .large = true}};
}

LmPair::LmPair(const LmShape& s)
    : shape(s),
      folder(std::filesystem::temp_directory_path() / fmt::format("winnow_lm_bench_{}", getpid())),
      model(s.config, /*seed=*/1),
      prompt(at::randint(s.config.vocab_size, {1, 8}, make_generator(2), at::kLong)) {
  model->eval();
  models::save(*model, folder);
  std::ostringstream ids;
  for (int64_t i = 0; i < 8; ++i) ids << (i == 0 ? "" : ",") << prompt.const_data_ptr<int64_t>()[i];
  peer = std::make_unique<Peer>("lm_decode.py", std::vector<std::string>{"transformers==5.23.0", "safetensors==0.8.0"},
                                std::vector<std::string>{folder.string(), std::to_string(s.new_tokens), ids.str()});
  const at::NoGradGuard no_grad;
  const auto state = model->make_state(1, 16);
  const auto logits = model->run({.ids = prompt, .state = state.get()}).logits.select(1, 7).flatten();
  std::istringstream theirs(peer->ask("logits"));
  double worst = 0;
  for (int64_t i = 0; i < 8; ++i) {
    double value = 0;
    theirs >> value;
    worst = std::max(worst, std::abs(value - static_cast<double>(logits.const_data_ptr<float>()[i])));
  }
  WINNOW_CHECK(theirs && worst <= 1e-4, "lm benchmark: the logits of both must be equal to 1e-4, got {} apart", worst);
}

LmPair::~LmPair() {
  peer.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

Side LmPair::peer_side(const std::string& attention, const std::string& work) {
  const auto choose = [this, attention, work] { peer->ask("use " + attention + " " + work); };
  return {.label = "transformers " + attention,
          .timed =
              [this, choose](int64_t calls) {
                choose();
                return peer->run(calls);
              },
          .set_threads = [this](int64_t threads) { peer->set_threads(threads); }};
}

}  // namespace winnow::bench
