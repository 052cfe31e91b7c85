#include "winnow/nn/drop.h"

#include <ATen/ops/empty.h>

#include "winnow/core/error.h"
#include "winnow/tensor/generator.h"

namespace winnow {

namespace {

// 0 with probability p, else 1 / (1 - p); drawn on the generator's device.
at::Tensor keep_factors(at::IntArrayRef shape, double p, at::Generator generator, const at::TensorOptions& like) {
  const auto drawn = at::empty(shape, like.device(generator.device())).bernoulli_(1.0 - p, std::move(generator));
  return drawn.div_(1.0 - p).to(like.device());
}

void check_rate(const char* name, double p) {
  WINNOW_CHECK(p >= 0 && p < 1, "{}: p must be in [0, 1), got {}", name, p);
}

}  // namespace

Fields<DropOptions> DropOptions::fields() {
  return Fields<DropOptions>("Drop")
      .add("p", &DropOptions::p, "probability of zero", in_range(0, 1, Ends::right_open))
      .add("seed", &DropOptions::seed, "of the module's generator");
}

at::Tensor dropout(const at::Tensor& x, double p, at::Generator generator) {
  check_rate("dropout", p);
  if (p == 0) return x;
  return x * keep_factors(x.sizes(), p, std::move(generator), x.options().requires_grad(false));
}

at::Tensor drop_path(const at::Tensor& x, double p, at::Generator generator) {
  check_rate("drop_path", p);
  WINNOW_CHECK(x.dim() >= 1, "drop_path: x must have a batch dimension, got a scalar");
  if (p == 0) return x;
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);  // [B, 1, ...]
  shape[0] = x.size(0);
  return x * keep_factors(shape, p, std::move(generator), x.options().requires_grad(false));
}

DropoutImpl::DropoutImpl(DropOptions opts) : options(opts) {
  check_rate("Dropout", options.p);
  reset();
}

void DropoutImpl::reset() {
  generator = make_generator(options.seed);
}

at::Tensor DropoutImpl::forward(const at::Tensor& x) {
  return hooked(is_training() ? dropout(x, options.p, generator) : x);
}

DropPathImpl::DropPathImpl(DropOptions opts) : options(opts) {
  check_rate("DropPath", options.p);
  reset();
}

void DropPathImpl::reset() {
  generator = make_generator(options.seed);
}

at::Tensor DropPathImpl::forward(const at::Tensor& x) {
  return hooked(is_training() ? drop_path(x, options.p, generator) : x);
}

std::vector<double> drop_path_rates(int64_t depth, double last) {
  WINNOW_CHECK(depth >= 0, "drop_path_rates: depth must be >= 0, got {}", depth);
  check_rate("drop_path_rates", last);
  std::vector<double> rates(static_cast<size_t>(depth), 0.0);
  for (int64_t i = 1; i < depth; ++i) {
    rates[static_cast<size_t>(i)] = last * static_cast<double>(i) / static_cast<double>(depth - 1);
  }
  return rates;
}

void set_drop_generator(torch::nn::Module& root, const at::Generator& generator) {
  WINNOW_CHECK(generator.defined(), "set_drop_generator: generator must be defined");
  root.apply([&](torch::nn::Module& module) {
    if (auto* drop = module.as<DropoutImpl>()) drop->generator = generator;
    if (auto* path = module.as<DropPathImpl>()) path->generator = generator;
  });
}

std::vector<at::Generator> drop_generators(torch::nn::Module& root) {
  std::vector<at::Generator> found;
  const auto add = [&](const at::Generator& generator) {
    for (const auto& known : found) {
      if (known == generator) return;
    }
    found.push_back(generator);
  };
  root.apply([&](torch::nn::Module& module) {
    if (auto* drop = module.as<DropoutImpl>()) add(drop->generator);
    if (auto* path = module.as<DropPathImpl>()) add(path->generator);
  });
  return found;
}

}  // namespace winnow
