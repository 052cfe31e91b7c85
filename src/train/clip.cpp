#include "winnow/train/clip.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_clamp_max.h>
#include <ATen/ops/_foreach_clamp_min.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <map>
#include <utility>

#include "winnow/core/error.h"

namespace winnow::train {
namespace {

// Gradients in lists of one device and dtype, which the multi-tensor operations want.
std::vector<std::vector<at::Tensor>> gradient_lists(const std::vector<at::Tensor>& parameters) {
  std::map<std::pair<std::string, at::ScalarType>, size_t> index;
  std::vector<std::vector<at::Tensor>> lists;
  for (const auto& parameter : parameters) {
    const auto& grad = parameter.grad();
    if (!grad.defined()) continue;
    const auto [at, added] = index.try_emplace({grad.device().str(), grad.scalar_type()}, lists.size());
    if (added) lists.emplace_back();
    lists[at->second].push_back(grad);
  }
  return lists;
}

}  // namespace

at::Tensor grad_norm(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const auto& list : gradient_lists(parameters)) {
    for (const auto& norm : at::_foreach_norm(list, 2)) {
      norms.push_back(norms.empty() ? norm.to(at::kFloat) : norm.to(norms[0].device(), at::kFloat));
    }
  }
  if (norms.empty()) return at::zeros({});
  return at::linalg_vector_norm(at::stack(norms));
}

at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm) {
  WINNOW_CHECK(max_norm > 0, "clip_grad_norm: max_norm must be > 0, got {}", max_norm);
  const at::NoGradGuard no_grad;
  const auto norm = grad_norm(parameters);
  const auto factor = (max_norm / (norm + 1e-6)).clamp_max_(1.0);
  for (auto& list : gradient_lists(parameters)) {
    at::_foreach_mul_(list, factor.to(list[0].device(), list[0].scalar_type()));
  }
  return norm;
}

void clip_grad_value(const std::vector<at::Tensor>& parameters, double max_value) {
  WINNOW_CHECK(max_value > 0, "clip_grad_value: max_value must be > 0, got {}", max_value);
  const at::NoGradGuard no_grad;
  for (auto& list : gradient_lists(parameters)) {
    at::_foreach_clamp_min_(list, -max_value);
    at::_foreach_clamp_max_(list, max_value);
  }
}

}  // namespace winnow::train
