#include "winnow/models/generation.h"

#include <ATen/core/grad_mode.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "generation/generation_job.h"
#include "winnow/core/error.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow::models {
namespace {

void check_tokens(const char* what, const std::vector<std::vector<int64_t>>& rows, int64_t vocabulary) {
  for (size_t row = 0; row < rows.size(); ++row) {
    WINNOW_CHECK(!rows[row].empty(), "generate: {} {} must hold at least one token", what, row);
    for (const auto token : rows[row]) {
      WINNOW_CHECK(token >= 0 && token < vocabulary, "generate: tokens of {} {} must be in [0, {}), got {}", what, row,
                   vocabulary, token);
    }
  }
}

// The prompts, an empty one of an encoder-decoder model replaced by its first token.
std::vector<std::vector<int64_t>> whole_prompts(const LanguageModel& model, const GenerationInput& input,
                                                const GenerationOptions& options) {
  auto prompts = input.prompts;
  if (!input.encoder_states.defined()) return prompts;
  const auto* pair = dynamic_cast<const EncoderDecoder*>(&model);
  if (prompts.empty()) prompts.resize(static_cast<size_t>(input.encoder_states.size(0)));
  for (auto& prompt : prompts) {
    if (!prompt.empty()) continue;
    if (options.decoder_start) {
      prompt = {*options.decoder_start};
    } else if (pair != nullptr) {
      prompt = {pair->decoder_start()};
    }
  }
  return prompts;
}

void check_encoder(const LanguageModel& model, const GenerationInput& input, size_t B) {
  const bool needed = dynamic_cast<const EncoderDecoder*>(&model) != nullptr;
  WINNOW_CHECK(!needed || input.encoder_states.defined(),
               "generate: an encoder-decoder model needs encoder_states, what encode() returns");
  if (!input.encoder_states.defined()) return;
  check_dim("generate: encoder_states", input.encoder_states, 3);
  WINNOW_CHECK(input.encoder_states.size(0) == static_cast<int64_t>(B),
               "generate: encoder_states must have one row a prompt, {}, got {}", B, input.encoder_states.sizes());
}

std::vector<std::vector<int64_t>> negative_prompts(const GenerationJob& job) {
  if (job.options.guidance_scale == 1) return {};
  if (!job.input.negative_prompts.empty()) return job.input.negative_prompts;
  std::vector<std::vector<int64_t>> negatives;
  for (const auto& prompt : job.prompts) negatives.push_back({prompt.back()});
  return negatives;
}

void check_job(const GenerationJob& job) {
  const auto B = job.prompts.size();
  const auto vocabulary = job.model.vocab_size();
  WINNOW_CHECK(B >= 1, "generate: at least one prompt must be given");
  check_tokens("prompt", job.prompts, vocabulary);
  check_encoder(job.model, job.input, B);
  const auto& negatives = job.input.negative_prompts;
  WINNOW_CHECK(negatives.empty() || negatives.size() == B,
               "generate: negative_prompts must have one row a prompt, {}, got {}", B, negatives.size());
  check_tokens("negative prompt", negatives, vocabulary);
  const auto& encoder = job.input.encoder_ids;
  WINNOW_CHECK(encoder.empty() || encoder.size() == B, "generate: encoder_ids must have one row a prompt, {}, got {}",
               B, encoder.size());
  const bool single = B == 1 && job.options.sequences == 1 && job.options.beams == 1;
  WINNOW_CHECK(
      job.input.cache == nullptr || (single && job.options.guidance_scale == 1 && !job.input.encoder_states.defined()),
      "generate: a cache must be used with one prompt and one sequence, without beams, guidance and encoder");
  const auto& streams = job.options.row_streams;
  const auto wanted = B * static_cast<size_t>(job.options.sequences);
  WINNOW_CHECK(streams.empty() || streams.size() == wanted,
               "generate: row_streams must have one number a sequence, {}, got {}", wanted, streams.size());
  if (job.options.tokenizer) check_vocabulary(job.model, *job.options.tokenizer);
}

void set_limits(GenerationJob& job) {
  const auto context = job.model.context_length();
  for (const auto& prompt : job.prompts) {
    job.limits.push_back(length_limits(job.options, static_cast<int64_t>(prompt.size()), context));
  }
  for (size_t row = 0; row < job.negatives.size(); ++row) {
    const auto tokens = static_cast<int64_t>(job.negatives[row].size());
    WINNOW_CHECK(context == 0 || tokens + job.limits[row].max_new <= context,
                 "generate: negative prompt and new tokens must fit the model's context of {} tokens, got {} + {}",
                 context, tokens, job.limits[row].max_new);
  }
}

}  // namespace

double GenerationOutput::tokens_per_second() const {
  int64_t first = 0;
  for (const auto& row : rows) first += static_cast<int64_t>(row.size());
  return decode_seconds > 0 ? static_cast<double>(new_tokens - first) / decode_seconds : 0;
}

const char* to_string(Finish finish) {
  switch (finish) {
    case Finish::length: return "length";
    case Finish::eos: return "eos";
    case Finish::stop: return "stop";
    case Finish::callback: return "callback";
  }
  return "?";
}

GenerationInput generation_input(const at::Tensor& ids, const at::Tensor& keep) {
  check_dtype("generation_input: ids", ids, at::kLong);
  check_dim("generation_input: ids", ids, 2);
  const auto tokens = ids.to(at::kCPU).contiguous();
  at::Tensor real;
  if (keep.defined()) {
    check_shape("generation_input: keep", keep, ids.sizes());
    real = keep.to(at::kCPU).ne(0).contiguous();
  }
  GenerationInput input;
  const auto L = tokens.size(1);
  for (int64_t b = 0; b < tokens.size(0); ++b) {
    int64_t begin = 0, end = L;
    if (real.defined()) {
      const auto* row = real.const_data_ptr<bool>() + b * L;
      begin = std::find(row, row + L, true) - row;
      end = std::find(row + begin, row + L, false) - row;
      WINNOW_CHECK(std::find(row + end, row + L, true) == row + L,
                   "generation_input: real tokens of row {} must stand together, keep has a gap at {}", b, end);
    }
    const auto* first = tokens.const_data_ptr<int64_t>() + b * L;
    input.prompts.emplace_back(first + begin, first + end);
  }
  return input;
}

void check_vocabulary(const LanguageModel& model, const io::Tokenizer& tokenizer) {
  WINNOW_CHECK(tokenizer.vocab_size() <= model.vocab_size(),
               "the tokenizer must know no more tokens than the model, {}, got {}: they belong to different models",
               model.vocab_size(), tokenizer.vocab_size());
}

GenerationOutput generate(LanguageModel& model, const GenerationInput& input, const GenerationOptions& options,
                          const TokenCallback& callback) {
  options.check();
  const at::NoGradGuard no_grad;
  GenerationJob job{.model = model,
                    .input = input,
                    .options = options,
                    .callback = callback,
                    .prompts = whole_prompts(model, input, options),
                    .negatives = {},
                    .limits = {},
                    .begin = std::chrono::steady_clock::now()};
  check_job(job);
  job.negatives = negative_prompts(job);
  set_limits(job);
  auto output = options.beams > 1 ? beam_search(job) : decode_tokens(job);
  for (const auto& prompt : job.prompts) output.prompt_tokens += static_cast<int64_t>(prompt.size());
  return output;
}

GeneratedSequence generate_text(LanguageModel& model, const std::string& prompt, const GenerationOptions& options,
                                const TokenCallback& callback) {
  WINNOW_CHECK(options.tokenizer != nullptr, "generate_text: options.tokenizer must be given");
  check_vocabulary(model, *options.tokenizer);
  auto output = generate(model, {.prompts = {options.tokenizer->encode(prompt).ids}}, options, callback);
  return std::move(output.rows.front().front());
}

}  // namespace winnow::models
