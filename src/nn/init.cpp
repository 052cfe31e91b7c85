#include "winnow/nn/init.h"

#include <ATen/ops/empty.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <cmath>

#include "winnow/core/error.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/patch_embed.h"
#include "winnow/tensor/check.h"

namespace winnow {

namespace {

// Fills through a float32 CPU tensor, so that the numbers do not depend on device or dtype.
template <class Draw>
void fill(const char* what, const at::Tensor& weight, const at::Generator& generator, Draw&& draw) {
  check_defined(what, weight);
  check_floating(what, weight);
  WINNOW_CHECK(generator.defined() && generator.device().is_cpu(), "{} must be drawn by a CPU generator", what);
  const at::NoGradGuard no_grad;
  auto numbers = at::empty(weight.sizes(), at::kFloat);
  draw(numbers);
  weight.copy_(numbers);
}

double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

double inverse_root_fan_in(const at::Tensor& weight) {
  return 1.0 / std::sqrt(static_cast<double>(weight.numel()) / static_cast<double>(weight.size(0)));
}

template <class InitLinear, class InitPatches>
void init_tree(torch::nn::Module& root, const at::Generator& generator, InitLinear&& init_linear,
               InitPatches&& init_patches) {
  const at::NoGradGuard no_grad;
  root.apply([&](torch::nn::Module& module) {
    if (auto* linear = module.as<LinearImpl>()) {
      if (linear->weight.defined()) init_linear(linear->weight);
      if (linear->bias.defined()) linear->bias.zero_();
    } else if (auto* other = module.as<torch::nn::LinearImpl>()) {
      init_linear(other->weight);
      if (other->bias.defined()) other->bias.zero_();
    } else if (auto* patches = module.as<PatchProjectionImpl>()) {
      init_patches(patches->weight);
      const double bound = inverse_root_fan_in(patches->weight);
      if (patches->bias.defined()) uniform_(patches->bias, generator, -bound, bound);
    } else if (auto* norm = module.as<NormImpl>()) {
      if (norm->weight.defined()) norm->weight.fill_(1.0);
      if (norm->bias.defined()) norm->bias.zero_();
    } else if (auto* layer_norm = module.as<torch::nn::LayerNormImpl>()) {
      if (layer_norm->weight.defined()) layer_norm->weight.fill_(1.0);
      if (layer_norm->bias.defined()) layer_norm->bias.zero_();
    }
  });
}

}  // namespace

void uniform_(const at::Tensor& weight, at::Generator generator, double low, double high) {
  WINNOW_CHECK(low <= high, "uniform_: low must be <= high {}, got {}", high, low);
  fill("uniform_: weight", weight, generator, [&](at::Tensor& numbers) { numbers.uniform_(low, high, generator); });
}

void normal_(const at::Tensor& weight, at::Generator generator, double deviation, double mean) {
  WINNOW_CHECK(deviation >= 0, "normal_: deviation must be >= 0, got {}", deviation);
  fill("normal_: weight", weight, generator, [&](at::Tensor& numbers) { numbers.normal_(mean, deviation, generator); });
}

void xavier_uniform_(const at::Tensor& weight, at::Generator generator) {
  check_defined("xavier_uniform_: weight", weight);
  WINNOW_CHECK(weight.dim() >= 2 && weight.numel() > 0,
               "xavier_uniform_: weight must have at least 2 dimensions and be not empty, got shape [{}]",
               fmt::join(weight.sizes(), ", "));
  const auto fan_out = static_cast<double>(weight.size(0));
  const auto fan_in = static_cast<double>(weight.numel()) / fan_out;
  const double bound = std::sqrt(6.0 / (fan_in + fan_out));
  uniform_(weight, std::move(generator), -bound, bound);
}

void trunc_normal_(const at::Tensor& weight, at::Generator generator, double deviation, double mean, double low,
                   double high) {
  WINNOW_CHECK(deviation > 0, "trunc_normal_: deviation must be > 0, got {}", deviation);
  WINNOW_CHECK(low < high, "trunc_normal_: low must be < high {}, got {}", high, low);
  const double from = 2.0 * normal_cdf((low - mean) / deviation) - 1.0;
  const double to = 2.0 * normal_cdf((high - mean) / deviation) - 1.0;
  fill("trunc_normal_: weight", weight, generator, [&](at::Tensor& numbers) {
    numbers.uniform_(from, to, generator).erfinv_().mul_(deviation * std::sqrt(2.0)).add_(mean).clamp_(low, high);
  });
}

void init_mae_weights(torch::nn::Module& root, at::Generator generator) {
  const auto xavier = [&](const at::Tensor& weight) { xavier_uniform_(weight, generator); };
  init_tree(root, generator, xavier, xavier);
}

void init_trunc_normal_weights(torch::nn::Module& root, at::Generator generator) {
  init_tree(
      root, generator, [&](const at::Tensor& weight) { trunc_normal_(weight, generator, 0.02, 0.0, -2.0, 2.0); },
      [&](const at::Tensor& weight) {
        const double bound = inverse_root_fan_in(weight);
        uniform_(weight, generator, -bound, bound);
      });
}

}  // namespace winnow
