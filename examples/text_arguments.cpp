#include "text_arguments.h"

#include <c10/core/Device.h>
#include <fmt/format.h>

#include <map>

#include "winnow/core/config.h"
#include "winnow/core/error.h"

namespace winnow::examples {

std::vector<Argument> TextArguments::list() {
  return {{"--model", &model, "folder of a published model, or a .gguf file", /*required=*/true},
          {"--weights", &weights, "how linear weights are kept in memory: float32, float16 or bfloat16"},
          {"--device", &device, "cpu or cuda"},
          {"--max-new-tokens", &max_new_tokens, "tokens of an answer at most"},
          {"--temperature", &temperature, "of sampling; 0: always the likeliest token"},
          {"--top-k", &top_k, "sample from the k likeliest tokens; 0: from all"},
          {"--top-p", &top_p, "sample from the likeliest tokens of this probability"},
          {"--min-p", &min_p, "sample from tokens of this probability relative to the likeliest"},
          {"--typical-p", &typical_p, "sample from the most typical tokens of this probability"},
          {"--repetition-penalty", &repetition_penalty, "above 1: tokens that occurred are less likely"},
          {"--no-repeat-ngram", &no_repeat_ngram, "no sequence of so many tokens occurs twice"},
          {"--seed", &seed, "of sampling"},
          {"--stop", &stop, "texts that end the answer"}};
}

models::TextModel TextArguments::load() const {
  const std::map<std::string, at::ScalarType> types{
      {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}};
  if (!types.contains(weights)) {
    throw UsageError(fmt::format("--weights must be float32, float16 or bfloat16, got {}", weights));
  }
  if (device != "cpu" && device != "cuda") throw UsageError("--device must be cpu or cuda, got " + device);
  auto loaded = models::load_text_model(model, {.dtype = types.at(weights), .device = at::Device(device)});
  auto& o = loaded.options;
  const auto set = [](auto& target, auto value) {
    if (value >= 0) target = value;
  };
  o.max_new_tokens = max_new_tokens;
  o.seed = static_cast<uint64_t>(seed);
  if (temperature >= 0) o.sample = temperature > 0;
  set(o.warp.temperature, temperature);
  set(o.warp.top_k, top_k);
  set(o.warp.top_p, top_p);
  set(o.warp.min_p, min_p);
  set(o.warp.typical_p, typical_p);
  set(o.repetition_penalty, repetition_penalty);
  set(o.no_repeat_ngram, no_repeat_ngram);
  if (!stop.empty()) o.stop_strings = stop;
  try {
    o.check();
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
  return loaded;
}

std::string speed_line(int64_t prompt_tokens, double prefill_seconds, int64_t new_tokens, double decode_seconds) {
  // The first new token comes out of the prompt's run.
  const auto rate = decode_seconds > 0 ? static_cast<double>(new_tokens - 1) / decode_seconds : 0;
  return fmt::format("{} tokens of prompt in {:.2f} s, {} new tokens in {:.2f} s: {:.1f} tokens/s", prompt_tokens,
                     prefill_seconds, new_tokens, decode_seconds, rate);
}

}  // namespace winnow::examples
