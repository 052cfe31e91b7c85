// Talks with a language model on the terminal. The model's own chat template makes the prompts; answers appear as they
// are made. Ctrl-C ends an answer, not the program; twice, or Ctrl-D at the prompt, leaves.
//
//   ./dev data smollm2
//   chat --model data/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --temperature 0.6 --top-p 0.9
//
// Lines that begin with / are commands: /reset forgets the conversation, /system TEXT sets the system's message and
// forgets, /help, /quit. The speed stands below each answer; a 135M model makes some 25 tokens/s on one core.
#include <fmt/format.h>
#include <torch/types.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <optional>

#include "text_arguments.h"
#include "winnow/core/config.h"
#include "winnow/core/text.h"
#include "winnow/io/chat_template.h"

namespace {

using namespace winnow;  // NOLINT: a program

class Chat {
 public:
  Chat(const models::TextModel& model, io::ChatTemplate chat_template, std::string system)
      : model_(model), template_(std::move(chat_template)), system_(std::move(system)) {
    reset();
  }

  // False: leave. Unknown commands are told.
  bool command(const std::string& line) {
    if (line == "/quit" || line == "/exit") return false;
    if (line == "/reset") {
      reset();
      fmt::print("(a new conversation)\n");
    } else if (line.starts_with("/system")) {
      system_ = trim(line.substr(7));
      reset();
      fmt::print("(system: {})\n", system_.empty() ? "none" : system_);
    } else {
      fmt::print("/reset  a new conversation\n/system TEXT  what the model is told first\n/quit\n");
    }
    return true;
  }

  void answer(const std::string& line) {
    messages_.push_back({.role = "user", .content = line});
    const auto output = models::generate(*model_.language_model, {.prompts = {prompt()}, .cache = &cache_},
                                         model_.options, [](const models::TokenEvent& event) {
                                           fmt::print("{}", event.text);
                                           std::fflush(stdout);
                                           return !stop_requested();
                                         });
    const auto& sequence = output.rows[0][0];
    messages_.push_back({.role = "assistant", .content = std::string(trim(sequence.text))});
    fmt::print("\n({}{})\n",
               examples::speed_line(output.prompt_tokens - output.reused_tokens, output.prefill_seconds,
                                    output.new_tokens, output.decode_seconds),
               sequence.finish == models::Finish::callback ? ", interrupted" : "");
  }

 private:
  void reset() {
    messages_.clear();
    if (!system_.empty()) messages_.push_back({.role = "system", .content = system_});
  }

  // The conversation as tokens. What is too long for the context loses its oldest question and answer.
  std::vector<int64_t> prompt() {
    const auto context = model_.language_model->context_length();
    const ptrdiff_t first = system_.empty() ? 0 : 1;
    while (true) {
      auto ids = model_.tokenizer->encode(template_.render(messages_), {.add_special_tokens = false}).ids;
      const auto needed = static_cast<int64_t>(ids.size()) + *model_.options.max_new_tokens;
      if (context == 0 || needed <= context || std::ssize(messages_) < first + 3) return ids;
      messages_.erase(messages_.begin() + first, messages_.begin() + first + 2);
      fmt::print("(the oldest question and answer are forgotten)\n");
    }
  }

  const models::TextModel& model_;
  io::ChatTemplate template_;
  std::string system_;
  std::vector<io::ChatMessage> messages_;
  models::PromptCache cache_;
};

std::optional<std::string> read_line(bool terminal) {
  if (terminal) fmt::print("> ");
  std::fflush(stdout);
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return std::string(trim(line));
}

}  // namespace

int main(int argc, char** argv) {
  examples::TextArguments arguments;
  std::string system;
  ProgramInfo info{.name = "chat",
                   .summary = "Talks with a language model on the terminal.",
                   .arguments = arguments.list(),
                   .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  info.arguments.push_back({"--system", &system, "what the model is told first"});
  return run_program(argc, argv, info, [&](Config&) {
    const auto model = arguments.load();
    Chat chat(model, io::ChatTemplate::from_folder(arguments.model), system);
    const bool terminal = isatty(STDIN_FILENO) != 0;
    while (const auto line = read_line(terminal)) {
      if (stop_requested()) break;  // Ctrl-C at the prompt
      if (line->empty()) continue;
      if (line->starts_with('/')) {
        if (!chat.command(*line)) break;
        continue;
      }
      chat.answer(*line);
      if (stop_signal() == SIGINT) request_stop(0);  // it ended the answer; SIGTERM ends the program
    }
    if (terminal) fmt::print("\n");
    return 0;
  });
}
