#include "winnow/tensor/cross_entropy.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow {

namespace {

void check_arguments(const char* who, const at::Tensor& rows, const at::Tensor& targets, int64_t classes,
                     const TokenLossOptions& o) {
  check_defined(fmt::format("{}: targets", who), targets);
  check_dtype(fmt::format("{}: targets", who), targets, at::kLong);
  WINNOW_CHECK(targets.sizes() == rows.sizes().slice(0, static_cast<size_t>(rows.dim()) - 1),
               "{}: targets must have shape [{}], got [{}]", who,
               fmt::join(rows.sizes().slice(0, static_cast<size_t>(rows.dim()) - 1), ", "),
               fmt::join(targets.sizes(), ", "));
  check_device(fmt::format("{}: targets", who), targets, rows.device());
  check_indices(fmt::format("{}: targets (where counted)", who), targets.masked_fill(targets == o.ignore, 0), classes);
  WINNOW_CHECK(o.label_smoothing >= 0 && o.label_smoothing < 1, "{}: label_smoothing must be in [0, 1), got {}", who,
               o.label_smoothing);
  WINNOW_CHECK(o.z_loss >= 0, "{}: z_loss must be >= 0, got {}", who, o.z_loss);
  WINNOW_CHECK(o.chunk >= 1, "{}: chunk must be >= 1, got {}", who, o.chunk);
}

at::Tensor widened(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble || x.scalar_type() == at::kFloat ? x : x.to(at::kFloat);
}

struct Rows {
  at::Tensor targets;  // [N, 1], 0 where ignored
  at::Tensor weight;   // [N, 1]: 1 / counted rows, 0 where ignored
};

Rows weigh(const at::Tensor& targets, int64_t ignore, at::ScalarType dtype) {
  const auto column = targets.reshape({-1, 1});
  const auto counts = column != ignore;
  const auto total = counts.sum().clamp_min(1).to(dtype);
  return {.targets = column.masked_fill(counts.logical_not(), 0), .weight = counts.to(dtype) / total};
}

struct Part {
  at::Tensor loss;      // scalar: this part's share of the mean
  at::Tensor gradient;  // [n, V] of the logits, if wanted
};

// Loss of some rows of logits [n, V], and its gradient in the one array of log-probabilities. With log p = l - lse and
// p = softmax(l): d/dl = w (p - (1 - e) one-hot - e / V + 2 z lse p).
Part part_loss(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weight, const TokenLossOptions& o,
               bool wants_gradient) {
  auto logp = at::log_softmax(logits, 1);  // [n, V]
  const auto at_target = logp.gather(1, targets);
  auto loss = at_target * -(1 - o.label_smoothing);
  if (o.label_smoothing > 0) loss = loss - logp.mean(1, /*keepdim=*/true) * o.label_smoothing;
  at::Tensor lse;
  if (o.z_loss > 0) {
    lse = logits.gather(1, targets) - at_target;
    loss = loss + lse.square() * o.z_loss;
  }
  Part part{.loss = (loss * weight).sum(), .gradient = {}};
  if (!wants_gradient) return part;
  auto& g = part.gradient = logp.exp_();
  g.mul_(o.z_loss > 0 ? weight * (lse * (2 * o.z_loss) + 1) : weight);
  if (o.label_smoothing > 0) g.sub_(weight * (o.label_smoothing / static_cast<double>(logits.size(1))));
  g.scatter_add_(1, targets, weight * -(1 - o.label_smoothing));
  return part;
}

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::tensor_list;

struct TokenCrossEntropy : Function<TokenCrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits, const at::Tensor& targets,
                            const TokenLossOptions& options, bool learns) {
    const auto wide = widened(logits.reshape({-1, logits.size(-1)}));
    const auto rows = weigh(targets, options.ignore, wide.scalar_type());
    auto part = part_loss(wide, rows.targets, rows.weight, options, learns);
    if (part.gradient.defined()) {
      context->save_for_backward({part.gradient.view(logits.sizes()).to(logits.scalar_type())});
    }
    return part.loss;
  }
  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    return {context->get_saved_variables()[0] * grads[0], {}, {}, {}};
  }
};

struct LinearCrossEntropy : Function<LinearCrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& targets, const TokenLossOptions& options, bool x_learns,
                            bool weight_learns) {
    const auto flat = x.reshape({-1, x.size(-1)});  // [N, D]
    const auto N = flat.size(0);
    const auto rows = weigh(targets, options.ignore, widened(flat.slice(0, 0, 0)).scalar_type());
    const auto grad_x = x_learns ? at::empty_like(flat) : at::Tensor();
    const auto grad_weight = weight_learns ? at::zeros_like(weight) : at::Tensor();
    auto loss = at::zeros({}, rows.weight.options());
    for (int64_t begin = 0; begin < N; begin += options.chunk) {
      const auto count = std::min(options.chunk, N - begin);
      const auto part_x = flat.narrow(0, begin, count);
      auto part = part_loss(widened(at::mm(part_x, weight.t())), rows.targets.narrow(0, begin, count),
                            rows.weight.narrow(0, begin, count), options, x_learns || weight_learns);
      loss.add_(part.loss);
      if (!part.gradient.defined()) continue;
      const auto g = part.gradient.to(flat.scalar_type());
      if (x_learns) {
        auto target = grad_x.narrow(0, begin, count);
        at::mm_out(target, g, weight);
      }
      if (weight_learns) grad_weight.addmm_(g.t(), part_x);
    }
    context->save_for_backward({x_learns ? grad_x.view(x.sizes()) : at::Tensor(), grad_weight});
    return loss;
  }
  static tensor_list backward(AutogradContext* context, const tensor_list& grads) {
    const auto saved = context->get_saved_variables();
    const auto scaled = [&](const at::Tensor& g) { return g.defined() ? g * grads[0].to(g.scalar_type()) : g; };
    return {scaled(saved[0]), scaled(saved[1]), {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor token_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const TokenLossOptions& options) {
  check_defined("token_cross_entropy: logits", logits);
  check_floating("token_cross_entropy: logits", logits);
  WINNOW_CHECK(logits.dim() >= 1 && logits.size(-1) >= 1,
               "token_cross_entropy: logits must have shape [..., V] with V >= 1, got [{}]",
               fmt::join(logits.sizes(), ", "));
  check_arguments("token_cross_entropy", logits, targets, logits.size(-1), options);
  return TokenCrossEntropy::apply(logits, targets, options, at::GradMode::is_enabled() && logits.requires_grad());
}

at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& targets,
                                const TokenLossOptions& options) {
  check_defined("linear_cross_entropy: x", x);
  check_floating("linear_cross_entropy: x", x);
  check_like("linear_cross_entropy: weight", weight, x);
  check_dim("linear_cross_entropy: weight", weight, 2);
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == weight.size(1) && weight.size(0) >= 1,
               "linear_cross_entropy: x must have {} as its last size, got shape [{}]", weight.size(1),
               fmt::join(x.sizes(), ", "));
  check_arguments("linear_cross_entropy", x, targets, weight.size(0), options);
  const bool records = at::GradMode::is_enabled();
  return LinearCrossEntropy::apply(x, weight, targets, options, records && x.requires_grad(),
                                   records && weight.requires_grad());
}

at::Tensor token_nll(const at::Tensor& logits, const at::Tensor& targets, int64_t ignore) {
  check_defined("token_nll: logits", logits);
  check_floating("token_nll: logits", logits);
  WINNOW_CHECK(logits.dim() >= 1, "token_nll: logits must have shape [..., V], got []");
  check_arguments("token_nll", logits, targets, logits.size(-1), {.ignore = ignore});
  const at::NoGradGuard no_grad;
  const auto ignored = targets == ignore;
  const auto wide = widened(logits);
  const auto chosen = wide.gather(-1, targets.masked_fill(ignored, 0).unsqueeze(-1)).squeeze(-1);
  return (at::logsumexp(wide, -1) - chosen).masked_fill_(ignored, 0);
}

at::Tensor next_tokens(const at::Tensor& ids, int64_t ignore) {
  check_dtype("next_tokens: ids", ids, at::kLong);
  check_dim("next_tokens: ids", ids, 2);
  auto targets = at::full_like(ids, ignore);
  const auto L = ids.size(1);
  if (L > 1) targets.narrow(1, 0, L - 1).copy_(ids.narrow(1, 1, L - 1));
  return targets;
}

}  // namespace winnow
