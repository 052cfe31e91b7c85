#include "winnow/train/grad_scaler.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <map>
#include <string>
#include <utility>

#include "winnow/core/error.h"

namespace winnow::train {

GradScaler::GradScaler(GradScalerOptions options) : options_(options), scale_(options.initial_scale) {
  WINNOW_CHECK(options_.initial_scale > 0, "GradScaler: initial_scale must be > 0, got {}", options_.initial_scale);
  WINNOW_CHECK(options_.growth > 1, "GradScaler: growth must be > 1, got {}", options_.growth);
  WINNOW_CHECK(options_.backoff > 0 && options_.backoff < 1, "GradScaler: backoff must be in (0, 1), got {}",
               options_.backoff);
  WINNOW_CHECK(options_.interval >= 1, "GradScaler: interval must be >= 1, got {}", options_.interval);
}

at::Tensor GradScaler::scale(const at::Tensor& loss) const {
  return loss * scale_;
}

bool GradScaler::unscale(const std::vector<at::Tensor>& parameters) const {
  const at::NoGradGuard no_grad;
  std::map<std::pair<std::string, at::ScalarType>, std::vector<at::Tensor>> lists;
  for (const auto& parameter : parameters) {
    const auto& grad = parameter.grad();
    if (grad.defined()) lists[{grad.device().str(), grad.scalar_type()}].push_back(grad);
  }
  bool good = true;
  for (auto& [key, grads] : lists) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(grads[0].device());
    auto found = at::zeros({1}, options);
    const auto inverse = at::full({1}, 1.0 / scale_, options);
    at::_amp_foreach_non_finite_check_and_unscale_(grads, found, inverse);
    good = good && found.item<float>() == 0.0f;
  }
  return good;
}

void GradScaler::update(bool good) {
  if (!good) {
    scale_ *= options_.backoff;
    good_steps_ = 0;
  } else if (++good_steps_ == options_.interval) {
    scale_ *= options_.growth;
    good_steps_ = 0;
  }
}

StateDict GradScaler::state() const {
  return {.tensors = {}, .values = {{"scale", scale_}, {"good_steps", good_steps_}}};
}

void GradScaler::load_state(const StateDict& state) {
  const auto& values = state.values;
  WINNOW_CHECK_KIND(values.contains("scale") && values["scale"].is_number() && values.contains("good_steps") &&
                        values["good_steps"].is_number_integer(),
                    ErrorKind::file, "GradScaler: the saved state must have scale and good_steps");
  scale_ = values["scale"].get<double>();
  good_steps_ = values["good_steps"].get<int64_t>();
}

}  // namespace winnow::train
