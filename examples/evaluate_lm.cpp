// Perplexity of a language model on a text, each token judged once from a window that moves by a stride.
//   build/release/bin/evaluate_lm --model runs/gpt_char --text data/kjv/kjv.txt --tokens 20000
// prints loss, perplexity and bits a byte; adapters of peft may be put on the model first.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>

#include "language.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/program.h"
#include "winnow/models/peft.h"

namespace {

using namespace winnow;  // NOLINT: a program

struct Arguments {
  std::string model, adapters, text, device = "cpu";
  int64_t window = 0, stride = 0, batch = 4, tokens = 0;
};

int evaluate_lm(const Arguments& args) {
  const at::Device device(args.device);
  const auto network = models::load(args.model);
  auto* model = dynamic_cast<LanguageModel*>(network.get());
  WINNOW_CHECK(model != nullptr, "evaluate_lm: {} must be a language model, {} is none", args.model,
               network->architecture());
  if (!args.adapters.empty()) {
    models::load_adapters(*network, args.adapters);
    merge_lora(*network);
  }
  network->to(device);
  network->eval();
  const auto tokenizer = io::load_tokenizer(args.model);
  const auto text = data::encode_documents({read_file(args.text)}, *tokenizer);
  const auto judged = examples::judged_text(text, *tokenizer, args.tokens, device);

  const auto context = model->context_length();
  train::PerplexityOptions options{.window = args.window, .stride = args.stride, .batch = args.batch};
  if (options.window == 0) options.window = context == 0 ? 1024 : std::min<int64_t>(1024, context);
  if (options.stride == 0) options.stride = std::max<int64_t>(1, options.window / 2);
  const auto loss = train::strided_loss(*model, judged.ids, options);
  fmt::print("{} tokens, {} bytes, window {}, stride {}\n", loss.tokens, judged.bytes, options.window, options.stride);
  fmt::print("loss {:.4f} a token, perplexity {:.4f}, {:.4f} bits a byte\n", loss.mean(), loss.perplexity(),
             loss.bits_per_byte(judged.bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  const ProgramInfo info{.name = "evaluate_lm",
                         .summary = "Perplexity of a language model on a text file.",
                         .arguments = {{"--model", &args.model, "folder of a language model", true},
                                       {"--text", &args.text, "a text file in UTF-8", true},
                                       {"--adapters", &args.adapters, "folder of peft adapters for it"},
                                       {"--window", &args.window, "tokens of a call; 0: the context, at most 1024"},
                                       {"--stride", &args.stride, "new tokens of a call; 0: half the window"},
                                       {"--batch", &args.batch, "windows of a call"},
                                       {"--tokens", &args.tokens, "tokens that are judged; 0: all"},
                                       {"--device", &args.device, "cpu or cuda"}},
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config&) { return evaluate_lm(args); });
}
