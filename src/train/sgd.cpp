#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>

#include <utility>

#include "winnow/core/error.h"
#include "winnow/train/optimizer.h"

namespace winnow::train {

Sgd::Sgd(std::vector<ParamGroup> groups, SgdOptions options) : Optimizer("sgd", std::move(groups)), options_(options) {
  WINNOW_CHECK(options_.momentum >= 0 && options_.momentum < 1, "Sgd: momentum must be in [0, 1), got {}",
               options_.momentum);
  WINNOW_CHECK(!options_.nesterov || options_.momentum > 0, "Sgd: nesterov needs momentum > 0, got {}",
               options_.momentum);
}

std::vector<std::string> Sgd::slot_names() const {
  return options_.momentum > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{};
}

void Sgd::update(const std::vector<Entry*>& entries, double lr, double weight_decay) {
  std::vector<at::Tensor> params, grads, buffers;
  for (const auto* entry : entries) {
    params.push_back(entry->param);
    grads.push_back(entry->param.grad());
    if (options_.momentum > 0) buffers.push_back(entry->slots[0]);
  }
  if (weight_decay > 0) grads = at::_foreach_add(grads, params, weight_decay);
  if (options_.momentum > 0) {
    at::_foreach_mul_(buffers, options_.momentum);  // zero at the first step, so that the buffer becomes g
    at::_foreach_add_(buffers, grads);
    grads = options_.nesterov ? at::_foreach_add(grads, buffers, options_.momentum) : buffers;
  }
  at::_foreach_add_(params, grads, -lr);
}

}  // namespace winnow::train
