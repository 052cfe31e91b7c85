#include "winnow/tensor/gradcheck.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

std::vector<at::Tensor> fresh_leaves(const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> leaves;
  for (const auto& x : inputs) {
    const bool wanted = x.defined() && x.requires_grad();
    leaves.push_back(wanted ? x.detach().clone(at::MemoryFormat::Preserve).requires_grad_() : x);
  }
  return leaves;
}

// Weights for every output that has a gradient; undefined for the others.
std::vector<at::Tensor> output_weights(const std::vector<at::Tensor>& outputs, uint64_t seed) {
  auto generator = make_generator(seed);
  std::vector<at::Tensor> weights;
  for (const auto& y : outputs) {
    const bool wanted = y.defined() && y.requires_grad();
    weights.push_back(wanted ? at::randn(y.sizes(), generator, at::kDouble).to(y.device()) : at::Tensor());
  }
  return weights;
}

at::Tensor weighted_sum(const std::vector<at::Tensor>& outputs, const std::vector<at::Tensor>& weights) {
  at::Tensor sum;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!weights[i].defined()) continue;
    const auto part = (outputs[i].to(at::kDouble) * weights[i]).sum();
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

// The gradients of the leaves that require one, zero where the outputs do not depend on them.
std::vector<at::Tensor> analytic_gradients(const GradcheckFunction& fn, const std::vector<at::Tensor>& inputs,
                                           uint64_t seed) {
  const at::AutoGradMode on(true);
  const auto leaves = fresh_leaves(inputs);
  const auto outputs = fn(leaves);
  const auto sum = weighted_sum(outputs, output_weights(outputs, seed));
  WINNOW_CHECK(sum.defined(), "gradcheck: fn must give an output with a gradient, got none");
  std::vector<at::Tensor> wanted;
  for (const auto& x : leaves) {
    if (x.defined() && x.requires_grad()) wanted.push_back(x);
  }
  auto grads = torch::autograd::grad({sum}, wanted, {}, std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < grads.size(); ++i) {
    if (!grads[i].defined()) grads[i] = at::zeros_like(wanted[i]);
  }
  return grads;
}

}  // namespace

GradcheckResult gradcheck(const GradcheckFunction& fn, const std::vector<at::Tensor>& inputs,
                          const GradcheckOptions& opts) {
  bool any = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || !inputs[i].requires_grad()) continue;
    any = true;
    WINNOW_CHECK(inputs[i].scalar_type() == at::kDouble, "gradcheck: inputs[{}] must be float64, got {}", i,
                 inputs[i].scalar_type());
  }
  WINNOW_CHECK(any, "gradcheck: inputs must hold one that requires a gradient, got none");
  GradcheckResult result;
  const auto analytic = analytic_gradients(fn, inputs, opts.seed);
  std::vector<at::Tensor> weights;
  {
    const at::AutoGradMode on(true);
    weights = output_weights(fn(fresh_leaves(inputs)), opts.seed);
  }
  const at::AutoGradMode off(false);
  std::vector<at::Tensor> point;
  for (const auto& x : inputs) point.push_back(x.defined() && x.requires_grad() ? x.detach().clone() : x);
  const auto value = [&] { return weighted_sum(fn(point), weights).item<double>(); };
  size_t which = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || !inputs[i].requires_grad()) continue;
    const auto gradient = analytic[which++].detach().cpu().contiguous().flatten();
    for (int64_t j = 0; j < gradient.numel(); ++j) {
      const auto base = inputs[i].detach().flatten()[j].item<double>();
      // Writes through whatever strides the input has.
      auto element = point[i];
      for (int64_t rest = j, block = element.numel(); element.dim() > 0;) {
        block /= element.size(0);
        element = element.select(0, rest / block);
        rest %= block;
      }
      element.fill_(base + opts.eps);
      const double above = value();
      element.fill_(base - opts.eps);
      const double below = value();
      element.fill_(base);
      const double numeric = (above - below) / (2 * opts.eps), exact = gradient[j].item<double>();
      const double scale = std::max({1.0, std::abs(exact), std::abs(numeric)});
      double error = std::abs(exact - numeric) / scale;
      if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
      if (error > result.worst_error || result.worst_input < 0) {
        result.worst_error = error;
        result.worst_input = static_cast<int64_t>(i);
        result.worst_index = j;
        result.analytic = exact;
        result.numeric = numeric;
      }
    }
  }
  if (result.worst_error > opts.tolerance) {
    result.message = fmt::format("gradient of inputs[{}] at {}: analytic {}, numeric {}, relative error {} above {}",
                                 result.worst_input, result.worst_index, result.analytic, result.numeric,
                                 result.worst_error, opts.tolerance);
  } else if (opts.deterministic) {
    const auto again = analytic_gradients(fn, inputs, opts.seed);
    for (size_t i = 0; i < again.size() && result.message.empty(); ++i) {
      if (!at::equal(again[i], analytic[i])) {
        result.message = fmt::format("gradient number {} differs between two runs", i);
      }
    }
  }
  result.passed = result.message.empty();
  return result;
}

}  // namespace winnow
