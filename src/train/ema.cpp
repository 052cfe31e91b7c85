#include "winnow/train/ema.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_lerp.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "winnow/core/error.h"

namespace winnow::train {

Ema::Ema(const torch::nn::Module& module, EmaOptions options) : options_(options) {
  WINNOW_CHECK(options_.decay >= 0 && options_.decay <= 1, "Ema: decay must be in [0, 1], got {}", options_.decay);
  for (const auto& item : module.named_parameters()) {
    if (!at::isFloatingType(item.value().scalar_type())) continue;
    names_.push_back(item.key());
    parameters_.push_back(item.value().detach());
    averages_.push_back(parameters_.back().clone());
  }
}

void Ema::update() {
  const at::NoGradGuard no_grad;
  const auto n = static_cast<double>(updates_++);
  const double decay = options_.warm_up ? std::min(options_.decay, (1 + n) / (10 + n)) : options_.decay;
  if (!averages_.empty()) at::_foreach_lerp_(averages_, parameters_, 1 - decay);
}

void Ema::swap() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const auto kept = parameters_[i].clone();
    parameters_[i].copy_(averages_[i]);
    averages_[i].copy_(kept);
  }
}

const at::Tensor& Ema::average(const std::string& name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  WINNOW_CHECK(found != names_.end(), "Ema: there is no parameter '{}'", name);
  return averages_[static_cast<size_t>(found - names_.begin())];
}

StateDict Ema::state() const {
  StateDict result;
  for (size_t i = 0; i < names_.size(); ++i) result.tensors[names_[i]] = averages_[i];
  result.values["updates"] = updates_;
  return result;
}

void Ema::load_state(const StateDict& state) {
  WINNOW_CHECK_KIND(state.values.contains("updates") && state.values["updates"].is_number_integer(), ErrorKind::file,
                    "Ema: the saved state must have updates");
  for (size_t i = 0; i < names_.size(); ++i) state_tensor(state, names_[i], averages_[i], "Ema");
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < names_.size(); ++i) averages_[i].copy_(state.tensors.at(names_[i]));
  updates_ = state.values["updates"].get<int64_t>();
}

}  // namespace winnow::train
