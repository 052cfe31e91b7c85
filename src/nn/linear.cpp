#include "winnow/nn/linear.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>

#include <cmath>
#include <utility>

#include "dense_linear.h"
#include "winnow/core/error.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/linear_rows.h"

namespace winnow {

void LinearStorage::rows(const float* x, int64_t n, float* y) const {
  const at::NoGradGuard no_grad;
  const auto input = at::from_blob(const_cast<float*>(x), {n, in()}, at::kFloat);
  // matmul is not const because hooks and counters may run in it; the weight does not change.
  at::from_blob(y, {n, out()}, at::kFloat).copy_(const_cast<LinearStorage*>(this)->matmul(input));
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias)
    : in_features(in), out_features(out), has_bias_(with_bias) {
  WINNOW_CHECK(in >= 0 && out >= 0, "Linear: in and out must be >= 0, got {} and {}", in, out);
  reset();
}

void LinearImpl::reset() {
  weight = register_parameter("weight", at::empty({out_features, in_features}));
  bias = register_parameter("bias", has_bias_ ? at::empty({out_features}) : at::Tensor(), has_bias_);
  if (SkipRandomInit::active()) return;
  const at::NoGradGuard no_grad;
  const double bound = in_features > 0 ? 1.0 / std::sqrt(static_cast<double>(in_features)) : 0.0;
  weight.uniform_(-bound, bound);
  if (has_bias_) bias.uniform_(-bound, bound);
}

std::shared_ptr<torch::nn::Module> LinearImpl::clone(const std::optional<torch::Device>& device) const {
  if (!storage) return torch::nn::Cloneable<LinearImpl>::clone(device);
  const at::NoGradGuard no_grad;
  auto copy = std::make_shared<LinearImpl>(*this);  // shares everything with this layer so far
  const auto kept = std::dynamic_pointer_cast<LinearStorage>(storage->clone(device));
  WINNOW_CHECK(kept, "Linear: the clone of a storage must be a LinearStorage");
  copy->unregister_module("storage");
  copy->storage = copy->register_module("storage", kept);
  if (bias.defined()) {
    copy->parameters_.erase("bias");
    copy->bias = copy->register_parameter("bias", bias.detach().clone(), bias.requires_grad());
    if (device) copy->bias.set_data(copy->bias.to(*device));
  }
  return copy;
}

namespace {

bool is_half(at::ScalarType dtype) {
  return dtype == at::kHalf || dtype == at::kBFloat16;
}

at::Tensor as_dtype(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.defined() && tensor.scalar_type() != dtype ? tensor.to(dtype) : tensor;
}

thread_local bool as_in_training = false;

// Whether the kernel for few rows, which has no gradient, takes it.
bool suits_few_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (as_in_training || !fits_linear_rows(x, weight, {})) return false;
  const bool wants_gradient = at::GradMode::is_enabled() &&
                              (x.requires_grad() || weight.requires_grad() || (bias.defined() && bias.requires_grad()));
  return !wants_gradient && !at::autocast::is_autocast_enabled(at::kCPU);
}

}  // namespace

at::Tensor dense_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& b) {
  if (suits_few_rows(x, weight, b)) return linear_rows(x, weight, as_dtype(b, at::kFloat));
  const auto dtype = x.scalar_type();
  // Under autocast at::linear itself decides the dtype.
  if (dtype == weight.scalar_type() || !is_half(weight.scalar_type()) || is_half(dtype) ||
      at::autocast::is_autocast_enabled(x.device().type())) {
    return at::linear(x, weight, b);
  }
  return at::linear(x, weight.to(dtype), as_dtype(b, dtype));
}

at::Tensor LinearImpl::storage_forward(const at::Tensor& x, const at::Tensor& b) {
  auto y = storage->matmul(x.reshape({-1, in_features}));
  if (b.defined()) y = y + as_dtype(b, y.scalar_type());
  auto sizes = x.sizes().vec();
  sizes.back() = out_features;
  return y.view(sizes);
}

at::Tensor LinearImpl::forward_with_bias(const at::Tensor& x, const at::Tensor& other_bias) {
  WINNOW_CHECK(x.dim() >= 1 && x.size(-1) == in_features, "Linear: x must have {} as its last size, got shape [{}]",
               in_features, fmt::join(x.sizes(), ", "));
  return hooked(storage ? storage_forward(x, other_bias) : dense_linear(x, weight, other_bias));
}

at::Tensor LinearImpl::forward(const at::Tensor& x) {
  return forward_with_bias(x, bias);
}

void LinearImpl::set_storage(std::shared_ptr<LinearStorage> other) {
  WINNOW_CHECK(other, "Linear: storage must not be null");
  WINNOW_CHECK(other->in() == in_features && other->out() == out_features,
               "Linear: storage must be of shape [{}, {}], got [{}, {}]", out_features, in_features, other->out(),
               other->in());
  if (storage) unregister_module("storage");
  if (parameters_.contains("weight")) parameters_.erase("weight");
  weight = at::Tensor();
  storage = register_module("storage", std::move(other));
}

void LinearImpl::set_weight(const at::Tensor& dense) {
  check_defined("Linear: weight", dense);
  check_floating("Linear: weight", dense);
  WINNOW_CHECK(dense.dim() == 2 && dense.size(0) == out_features && dense.size(1) == in_features,
               "Linear: weight must have shape [{}, {}], got [{}]", out_features, in_features,
               fmt::join(dense.sizes(), ", "));
  if (storage) unregister_module("storage");
  storage = nullptr;
  if (parameters_.contains("weight")) parameters_.erase("weight");
  // The order "weight", "bias" is kept: optimizers number parameters by it.
  const bool biased = parameters_.contains("bias");
  const bool bias_learns = biased && bias.defined() && bias.requires_grad();
  if (biased) parameters_.erase("bias");
  weight = register_parameter("weight", dense.detach());
  if (biased) bias = register_parameter("bias", bias, bias_learns);
}

at::Tensor LinearImpl::dense_weight() const {
  return storage ? storage->dense() : weight.detach();
}

LinearAsInTraining::LinearAsInTraining() : outer_(std::exchange(as_in_training, true)) {}

LinearAsInTraining::~LinearAsInTraining() {
  as_in_training = outer_;
}

int64_t LinearImpl::weight_bytes() const {
  return storage ? storage->bytes() : static_cast<int64_t>(weight.nbytes());
}

}  // namespace winnow
