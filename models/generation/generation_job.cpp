#include "generation_job.h"

#include <algorithm>

namespace winnow::models {
namespace {

std::vector<TokenSpan> spans(const std::vector<std::vector<int64_t>>& rows) {
  return {rows.begin(), rows.end()};
}

int64_t most_new_tokens(const GenerationJob& job) {
  int64_t most = 0;
  for (const auto& limits : job.limits) most = std::max(most, limits.max_new);
  return most;
}

}  // namespace

double GenerationJob::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TokenSpan GenerationJob::encoder_tokens(size_t row) const {
  return input.encoder_ids.empty() ? TokenSpan() : TokenSpan(input.encoder_ids[row]);
}

bool GenerationJob::is_eos(int64_t token) const {
  return std::find(options.eos.begin(), options.eos.end(), token) != options.eos.end();
}

std::optional<TextStream> GenerationJob::text_stream(size_t row) const {
  if (!options.tokenizer) return std::nullopt;
  return TextStream(options.tokenizer, options.stop_strings, prompts[row], options.skip_special);
}

std::span<const float> StepLogits::row_of(const at::Tensor& logits, int64_t i) {
  if (!logits.defined()) return {};
  const auto V = logits.size(1);
  return {logits.const_data_ptr<float>() + i * V, static_cast<size_t>(V)};
}

GuidedRun::GuidedRun(const GenerationJob& job)
    : job_(job), conditional_(job.model, spans(job.prompts), most_new_tokens(job), job.input.cache) {
  if (!job.negatives.empty()) unconditional_.emplace(job.model, spans(job.negatives), most_new_tokens(job), nullptr);
}

StepLogits GuidedRun::prefill() {
  const auto& input = job_.input;
  const auto chunk = job_.options.prefill_chunk;
  StepLogits logits{conditional_.prefill(input.encoder_states, input.encoder_keep, chunk), {}};
  if (unconditional_) {
    logits.conditional = logits.conditional.clone();  // a model may use the memory of its result again
    logits.unconditional = unconditional_->prefill(input.encoder_states, input.encoder_keep, chunk);
  }
  return logits;
}

StepLogits GuidedRun::step(TokenSpan tokens) {
  StepLogits logits{conditional_.step(tokens), {}};
  if (unconditional_) {
    logits.conditional = logits.conditional.clone();
    logits.unconditional = unconditional_->step(tokens);
  }
  return logits;
}

bool GuidedRun::select(const std::vector<int64_t>& rows) {
  return conditional_.select(rows) && (!unconditional_ || unconditional_->select(rows));
}

}  // namespace winnow::models
