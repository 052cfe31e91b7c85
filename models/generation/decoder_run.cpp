#include "decoder_run.h"

#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>

#include "winnow/core/error.h"

namespace winnow::models {

at::Device device_of(const LanguageModel& model) {
  if (const auto* module = dynamic_cast<const torch::nn::Module*>(&model)) {
    for (const auto& parameter : module->parameters()) return parameter.device();
  }
  return at::kCPU;
}

DecoderRun::DecoderRun(LanguageModel& model, const std::vector<TokenSpan>& prompts, int64_t new_tokens,
                       PromptCache* cache)
    : model_(model), cache_(cache), device_(device_of(model)) {
  const auto B = static_cast<int64_t>(prompts.size());
  size_t longest = 0, shortest = prompts.front().size();
  for (const auto& prompt : prompts) {
    longest = std::max(longest, prompt.size());
    shortest = std::min(shortest, prompt.size());
  }
  const auto L = static_cast<int64_t>(longest);
  ids_ = at::zeros({B, L}, at::kLong);
  auto* ids = ids_.data_ptr<int64_t>();
  for (int64_t b = 0; b < B; ++b) {
    const auto& prompt = prompts[static_cast<size_t>(b)];
    std::copy(prompt.begin(), prompt.end(), ids + (b + 1) * L - static_cast<int64_t>(prompt.size()));
  }
  if (shortest < longest) {
    keep_ = at::ones({B, L + new_tokens}, at::kBool);
    for (int64_t b = 0; b < B; ++b) {
      keep_[b].slice(0, 0, L - static_cast<int64_t>(prompts[static_cast<size_t>(b)].size())).fill_(false);
    }
    keep_ = keep_.to(device_);
  }
  if (cache_ != nullptr) {
    open_cache(prompts.front(), L + new_tokens);
  } else {
    own_state_ = model.make_state(B, L + new_tokens);
    state_ = own_state_.get();
  }
}

// Cuts the cache to what it has in common with the prompt; at least one token is left to be read.
void DecoderRun::open_cache(TokenSpan prompt, int64_t capacity) {
  auto& held = cache_->tokens;
  const auto differ = std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end() - 1).first;
  reused_ = differ - held.begin();
  bool usable = cache_->state != nullptr && cache_->state->length() >= reused_ && reused_ > 0;
  if (usable && cache_->state->length() > reused_) {
    try {
      cache_->state->truncate(reused_);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      usable = false;
    }
  }
  if (!usable) {
    cache_->state = model_.make_state(1, capacity);
    reused_ = 0;
  }
  held.resize(static_cast<size_t>(reused_));
  state_ = cache_->state.get();
  length_ = reused_;
  ids_ = ids_.slice(1, reused_);
}

at::Tensor DecoderRun::run(LmInput input) {
  input.state = state_;
  input.last_only = true;
  const auto ids = input.ids;
  input.ids = ids.to(device_);
  length_ += input.ids.size(1);
  if (keep_.defined()) input.keep = keep_.slice(1, 0, length_);
  const auto logits = model_.run(input).logits;  // [B, 1, V]
  if (cache_ != nullptr) {
    for (int64_t i = 0; i < ids.size(1); ++i) cache_->tokens.push_back(ids.const_data_ptr<int64_t>()[i]);
  }
  return logits.select(1, logits.size(1) - 1).to(at::kCPU, at::kFloat).contiguous();
}

at::Tensor DecoderRun::prefill(const at::Tensor& encoder_states, const at::Tensor& encoder_keep, int64_t chunk) {
  const auto prompts = ids_;
  const auto B = prompts.size(0), L = prompts.size(1), piece = chunk > 0 ? chunk : L;
  at::Tensor positions, logits;  // positions of real tokens count from 0; those of padding are 0
  if (keep_.defined()) positions = (keep_.slice(1, 0, L).to(at::kLong).cumsum(1) - 1).clamp_min(0);
  for (int64_t begin = 0; begin < L; begin += piece) {
    const auto end = std::min(begin + piece, L);
    LmInput input{.ids = prompts.slice(1, begin, end)};
    if (positions.defined()) input.positions = positions.slice(1, begin, end);
    if (begin == 0) {
      input.encoder_states = encoder_states;
      input.encoder_keep = encoder_keep;
    }
    logits = run(std::move(input));
  }
  if (positions.defined()) positions_ = positions.slice(1, L - 1) + 1;
  ids_ = at::empty({B, 1}, at::kLong);
  return logits;
}

at::Tensor DecoderRun::step(TokenSpan tokens) {
  std::copy(tokens.begin(), tokens.end(), ids_.data_ptr<int64_t>());
  LmInput input{.ids = ids_, .positions = positions_};
  auto logits = run(std::move(input));
  if (positions_.defined()) positions_ = positions_ + 1;
  return logits;
}

bool DecoderRun::select(const std::vector<int64_t>& rows) {
  const auto index = at::tensor(rows, at::kLong);
  try {
    state_->select(index);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    return false;
  }
  ids_ = at::empty({index.size(0), 1}, at::kLong);
  if (keep_.defined()) {
    keep_ = keep_.index_select(0, index.to(device_));
    positions_ = positions_.index_select(0, index.to(device_));
  }
  return true;
}

}  // namespace winnow::models
