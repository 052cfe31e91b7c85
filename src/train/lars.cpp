#include "winnow/train/lars.h"

#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>

#include <utility>

#include "winnow/core/error.h"

namespace winnow::train {

Lars::Lars(std::vector<ParamGroup> groups, LarsOptions options)
    : Optimizer("lars", std::move(groups)), options_(options) {
  WINNOW_CHECK(options_.momentum >= 0 && options_.momentum < 1, "Lars: momentum must be in [0, 1), got {}",
               options_.momentum);
  WINNOW_CHECK(options_.trust > 0, "Lars: trust must be > 0, got {}", options_.trust);
}

std::vector<std::string> Lars::slot_names() const {
  return {"mu"};
}

void Lars::update(const std::vector<Entry*>& entries, double lr, double weight_decay) {
  for (auto* entry : entries) {
    auto& param = entry->param;
    auto change = param.grad();
    if (param.dim() > 1) {
      if (weight_decay > 0) change = change.add(param, weight_decay);
      const auto param_norm = param.norm();
      const auto change_norm = change.norm();
      // Without reading the norms on the host: 1 where either is 0.
      const auto both = (param_norm > 0).logical_and_(change_norm > 0);
      const auto ratio = at::where(both, param_norm * options_.trust / change_norm, at::ones_like(param_norm));
      change = change * ratio;
    }
    auto& buffer = entry->slots[0];
    buffer.mul_(options_.momentum).add_(change);
    param.add_(buffer, -lr);
  }
}

}  // namespace winnow::train
