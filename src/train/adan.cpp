#include "winnow/train/adan.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcdiv.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_foreach_sub.h>

#include <cmath>
#include <map>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/train/clip.h"

namespace winnow::train {
namespace {

void check_beta(const char* name, double beta) {
  WINNOW_CHECK(beta >= 0 && beta < 1, "Adan: {} must be in [0, 1), got {}", name, beta);
}

}  // namespace

Adan::Adan(std::vector<ParamGroup> groups, AdanOptions options)
    : Optimizer("adan", std::move(groups)), options_(options) {
  check_beta("beta1", options_.beta1);
  check_beta("beta2", options_.beta2);
  check_beta("beta3", options_.beta3);
  WINNOW_CHECK(options_.eps > 0, "Adan: eps must be > 0, got {}", options_.eps);
  WINNOW_CHECK(options_.max_grad_norm >= 0, "Adan: max_grad_norm must be >= 0, got {}", options_.max_grad_norm);
}

std::vector<std::string> Adan::slot_names() const {
  return {"exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad"};
}

void Adan::before_update(const std::vector<Entry*>& all) {
  std::vector<at::Tensor> params;
  for (const auto* entry : all) params.push_back(entry->param);
  if (options_.max_grad_norm > 0) {
    const auto factor = (options_.max_grad_norm / (grad_norm(params) + options_.eps)).clamp_max_(1.0);
    for (auto& param : params) param.mutable_grad().mul_(factor.to(param.device(), param.scalar_type()));
  }
  for (auto* entry : all) {
    if (entry->steps == 1) entry->slots[3].copy_(entry->param.grad());  // the first difference is 0
  }
}

void Adan::update(const std::vector<Entry*>& entries, double lr, double weight_decay) {
  struct Lists {
    std::vector<at::Tensor> params, grads, avg, diff, sq, previous;
  };
  std::map<int64_t, Lists> by_steps;
  for (const auto* entry : entries) {
    auto& lists = by_steps[entry->steps];
    lists.params.push_back(entry->param);
    lists.grads.push_back(entry->param.grad());
    lists.avg.push_back(entry->slots[0]);
    lists.diff.push_back(entry->slots[1]);
    lists.sq.push_back(entry->slots[2]);
    lists.previous.push_back(entry->slots[3]);
  }
  const auto [beta1, beta2, beta3, eps, max_norm, decay_before] = options_;
  for (auto& [steps, lists] : by_steps) {
    const auto t = static_cast<double>(steps);
    const double correction1 = 1 - std::pow(beta1, t);
    const double correction2 = 1 - std::pow(beta2, t);
    const double correction3 = 1 - std::pow(beta3, t);

    const auto difference = at::_foreach_sub(lists.grads, lists.previous);
    const auto look_ahead = at::_foreach_add(lists.grads, difference, beta2);
    at::_foreach_lerp_(lists.avg, lists.grads, 1 - beta1);
    at::_foreach_lerp_(lists.diff, difference, 1 - beta2);
    at::_foreach_mul_(lists.sq, beta3);
    at::_foreach_addcmul_(lists.sq, look_ahead, look_ahead, 1 - beta3);

    auto denominator = at::_foreach_sqrt(lists.sq);
    at::_foreach_div_(denominator, std::sqrt(correction3));
    at::_foreach_add_(denominator, eps);
    if (decay_before) at::_foreach_mul_(lists.params, 1 - lr * weight_decay);
    at::_foreach_addcdiv_(lists.params, lists.avg, denominator, -lr / correction1);
    at::_foreach_addcdiv_(lists.params, lists.diff, denominator, -lr * beta2 / correction2);
    if (!decay_before) at::_foreach_div_(lists.params, 1 + lr * weight_decay);
    at::_foreach_copy_(lists.previous, lists.grads);
  }
}

}  // namespace winnow::train
