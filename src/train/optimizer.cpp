#include "winnow/train/optimizer.h"

#include <ATen/Functions.h>
#include <torch/types.h>

#include <cmath>
#include <set>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::train {
namespace {

void check_group(const char* kind, const ParamGroup& group, std::set<std::string>& names) {
  WINNOW_CHECK(std::isfinite(group.lr_scale) && group.lr_scale >= 0,
               "{}: lr_scale of group '{}' must be finite and >= 0, got {}", kind, group.name, group.lr_scale);
  WINNOW_CHECK(std::isfinite(group.weight_decay) && group.weight_decay >= 0,
               "{}: weight_decay of group '{}' must be finite and >= 0, got {}", kind, group.name, group.weight_decay);
  for (const auto& [name, tensor] : group.params) {
    WINNOW_CHECK(tensor.defined(), "{}: parameter '{}' is undefined", kind, name);
    WINNOW_CHECK(names.insert(name).second, "{}: parameter '{}' occurs twice", kind, name);
    WINNOW_CHECK(at::isFloatingType(tensor.scalar_type()), "{}: parameter '{}' must be floating point, got {}", kind,
                 name, tensor.scalar_type());
    WINNOW_CHECK(tensor.requires_grad() && tensor.is_leaf(),
                 "{}: parameter '{}' must be a leaf that requires a gradient", kind, name);
    WINNOW_CHECK(tensor.layout() == at::kStrided && tensor.is_non_overlapping_and_dense(),
                 "{}: parameter '{}' must be dense in memory, got strides {}", kind, name, tensor.strides());
  }
}

// The kernels walk parameter, gradient and state by one index, so a gradient in another memory order must be copied.
void match_strides(at::Tensor& param, const char* kind, const std::string& name) {
  at::Tensor& grad = param.mutable_grad();
  WINNOW_CHECK(grad.layout() == at::kStrided, "{}: the gradient of parameter '{}' must be dense, got a sparse one",
               kind, name);
  if (grad.strides() == param.strides() && grad.scalar_type() == param.scalar_type()) return;
  grad = at::empty_like(param, param.options().requires_grad(false)).copy_(grad);
}

}  // namespace

Optimizer::Optimizer(const char* kind, std::vector<ParamGroup> groups) : kind_(kind), groups_(std::move(groups)) {
  std::set<std::string> names;
  for (const auto& group : groups_) {
    check_group(kind_, group, names);
    auto& entries = entries_.emplace_back();
    for (const auto& [name, tensor] : group.params) entries.push_back({.name = name, .param = tensor, .slots = {}});
  }
  WINNOW_CHECK(!names.empty(), "{}: there must be at least one parameter", kind_);
}

void Optimizer::before_update(const std::vector<Entry*>&) {}

void Optimizer::step(double lr) {
  WINNOW_CHECK(std::isfinite(lr) && lr >= 0, "{}: lr must be finite and >= 0, got {}", kind_, lr);
  const at::NoGradGuard no_grad;
  const auto slot_count = slot_names().size();
  std::vector<std::vector<Entry*>> present(groups_.size());
  std::vector<Entry*> all;
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (auto& entry : entries_[g]) {
      if (!entry.param.grad().defined()) continue;
      match_strides(entry.param, kind_, entry.name);
      present[g].push_back(&entry);
      all.push_back(&entry);
    }
  }
  for (auto* entry : all) {
    if (entry->slots.empty()) {
      for (size_t i = 0; i < slot_count; ++i) {
        entry->slots.push_back(at::zeros_like(entry->param, entry->param.options().requires_grad(false)));
      }
    }
    ++entry->steps;
  }
  if (!all.empty()) before_update(all);
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!present[g].empty()) update(present[g], lr * groups_[g].lr_scale, groups_[g].weight_decay);
  }
}

void Optimizer::zero_grad() {
  for (auto& entries : entries_) {
    for (auto& entry : entries) entry.param.mutable_grad().reset();
  }
}

std::vector<at::Tensor> Optimizer::parameters() const {
  std::vector<at::Tensor> result;
  for (const auto& entries : entries_) {
    for (const auto& entry : entries) result.push_back(entry.param);
  }
  return result;
}

StateDict Optimizer::state() const {
  StateDict result;
  const auto slots = slot_names();
  auto steps = nlohmann::json::object();
  for (const auto& entries : entries_) {
    for (const auto& entry : entries) {
      steps[entry.name] = entry.steps;
      for (size_t i = 0; i < entry.slots.size(); ++i) result.tensors[entry.name + "." + slots[i]] = entry.slots[i];
    }
  }
  result.values = {{"kind", kind_}, {"steps", std::move(steps)}};
  return result;
}

void Optimizer::load_state(const StateDict& state) {
  const auto found_kind = state.values.value("kind", std::string("none"));
  WINNOW_CHECK_KIND(found_kind == kind_, ErrorKind::file, "{}: the saved state is of another optimiser, '{}'", kind_,
                    found_kind);
  const auto steps = state.values.value("steps", nlohmann::json::object());
  const auto slots = slot_names();
  size_t count = 0;
  // Everything is checked before anything is copied.
  for (const auto& entries : entries_) {
    for (const auto& entry : entries) {
      const auto found = steps.find(entry.name);
      WINNOW_CHECK_KIND(found != steps.end() && found->is_number_integer(), ErrorKind::file,
                        "{}: the saved state has no parameter '{}'", kind_, entry.name);
      ++count;
      if (found->get<int64_t>() == 0) continue;
      for (const auto& slot : slots) state_tensor(state, entry.name + "." + slot, entry.param, kind_);
    }
  }
  WINNOW_CHECK_KIND(count == steps.size(), ErrorKind::file,
                    "{}: the saved state has {} parameters, the optimiser has {}", kind_, steps.size(), count);
  const at::NoGradGuard no_grad;
  for (auto& entries : entries_) {
    for (auto& entry : entries) {
      entry.steps = steps.at(entry.name).get<int64_t>();
      entry.slots.clear();
      if (entry.steps == 0) continue;
      for (const auto& slot : slots) {
        auto copy = at::empty_like(entry.param, entry.param.options().requires_grad(false));
        entry.slots.push_back(copy.copy_(state.tensors.at(entry.name + "." + slot)));
      }
    }
  }
}

at::Tensor Optimizer::slot(const std::string& parameter, const std::string& slot_name) const {
  const auto slots = slot_names();
  for (const auto& entries : entries_) {
    for (const auto& entry : entries) {
      if (entry.name != parameter) continue;
      for (size_t i = 0; i < slots.size(); ++i) {
        if (slots[i] == slot_name) return entry.slots.empty() ? at::Tensor() : entry.slots[i];
      }
      fail(ErrorKind::argument, "{}: there is no state '{}'", kind_, slot_name);
    }
  }
  fail(ErrorKind::argument, "{}: there is no parameter '{}'", kind_, parameter);
}

}  // namespace winnow::train
