// Continues a text with a language model of a published folder or a .gguf file; the text appears as it is made.
//
//   ./dev data smollm2
//   generate --model data/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --prompt "The capital of France is"
//       --max-new-tokens 20 --temperature 0
//
// continues " Paris." on standard output, and tells the speed on standard error. Without --prompt the text comes from
// standard input. Loading takes about a second, a token of a 135M model some 40 ms on one core.
#include <fmt/format.h>
#include <torch/types.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "text_arguments.h"
#include "winnow/core/config.h"

int main(int argc, char** argv) {
  using namespace winnow;
  examples::TextArguments arguments;
  std::string prompt, negative;
  int64_t beams = 1;
  double guidance = 1;
  bool log_probs = false;
  ProgramInfo info{.name = "generate",
                   .summary = "Continues a text with a language model.",
                   .arguments = arguments.list(),
                   .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  info.arguments.insert(info.arguments.end(),
                        {{"--prompt", &prompt, "the text to continue; empty: standard input"},
                         {"--beams", &beams, "above 1: beam search, the text appears at its end"},
                         {"--guidance", &guidance, "above 1: away from the negative prompt"},
                         {"--negative-prompt", &negative, "for --guidance; empty: the last token of the prompt"},
                         {"--log-probs", &log_probs, "one token a line with its log-probability"}});
  return run_program(argc, argv, info, [&](Config&) {
    const auto model = arguments.load();
    if (prompt.empty()) prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    auto options = model.options;
    if (beams > 1) options.sample = false;
    options.beams = beams;
    options.guidance_scale = guidance;
    models::GenerationInput input{.prompts = {model.tokenizer->encode(prompt).ids}};
    if (!negative.empty()) input.negative_prompts = {model.tokenizer->encode(negative).ids};
    if (!log_probs) fmt::print("{}", prompt);
    std::fflush(stdout);
    const auto output = models::generate(*model.language_model, input, options, [&](const models::TokenEvent& event) {
      if (log_probs) {
        fmt::print("{:9.4f}  {:6d}  {}\n", event.log_prob, event.token, model.tokenizer->token(event.token));
      } else {
        fmt::print("{}", event.text);
      }
      std::fflush(stdout);
      return !stop_requested();
    });
    if (!log_probs) fmt::print("\n");
    fmt::print(
        stderr, "{}; ended by {}\n",
        examples::speed_line(output.prompt_tokens, output.prefill_seconds, output.new_tokens, output.decode_seconds),
        to_string(output.rows[0][0].finish));
    return 0;
  });
}
