// The command line that the programs of text generation share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/core/program.h"
#include "winnow/models/text_model.h"

namespace winnow::examples {

// Numbers below 0 and empty texts mean "as the model's generation_config.json says".
struct TextArguments {
  std::string model;  // folder or .gguf file
  std::string weights = "float32";
  std::string device = "cpu";
  int64_t max_new_tokens = 256;
  double temperature = -1;  // 0: greedy
  int64_t top_k = -1;
  double top_p = -1, min_p = -1, typical_p = -1;
  double repetition_penalty = -1;
  int64_t no_repeat_ngram = -1;
  int64_t seed = 0;
  std::vector<std::string> stop;

  [[nodiscard]] std::vector<Argument> list();
  // Loads the model and puts the given options over its own. A value out of range is a UsageError.
  [[nodiscard]] models::TextModel load() const;
};

// "512 tokens of prompt in 0.21 s, 40 tokens in 1.3 s: 30.8 tokens/s".
std::string speed_line(int64_t prompt_tokens, double prefill_seconds, int64_t new_tokens, double decode_seconds);

}  // namespace winnow::examples
