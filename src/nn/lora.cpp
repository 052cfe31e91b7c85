#include "winnow/nn/lora.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <set>

#include "dense_linear.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/init.h"
#include "winnow/tensor/generator.h"

namespace winnow {

Fields<LoraOptions> LoraOptions::fields() {
  return Fields<LoraOptions>("Lora")
      .add("rank", &LoraOptions::rank, "rank of the adapters", at_least(1))
      .add("alpha", &LoraOptions::alpha, "numerator of their scale")
      .add("rslora", &LoraOptions::rslora, "whether the scale is alpha / sqrt(rank) instead of alpha / rank")
      .add("dropout", &LoraOptions::dropout, "of the adapters' input", in_range(0, 1, Ends::right_open))
      .add("seed", &LoraOptions::seed, "of the first values and the dropout");
}

double lora_scale(const LoraOptions& options) {
  const auto rank = static_cast<double>(options.rank);
  return options.alpha / (options.rslora ? std::sqrt(rank) : rank);
}

namespace {

at::Tensor as_dtype(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : tensor.to(dtype);
}

// Whether the rows stand behind each other; none given: all.
bool in_a_run(const std::vector<int64_t>& rows) {
  for (size_t i = 1; i < rows.size(); ++i) {
    if (rows[i] != rows[0] + static_cast<int64_t>(i)) return false;
  }
  return true;
}

// Adds delta [n, R] to the columns `rows` of y [n, out]; in place.
void add_to_rows(at::Tensor& y, const at::Tensor& delta, const std::vector<int64_t>& rows, int64_t dim) {
  if (rows.empty()) {
    y.add_(delta);
  } else if (in_a_run(rows)) {
    y.narrow(dim, rows[0], static_cast<int64_t>(rows.size())).add_(delta);
  } else {
    y.index_add_(dim, at::tensor(rows, at::kLong).to(y.device()), delta);
  }
}

}  // namespace

LoraStorage::LoraStorage(const LinearImpl& linear) : in_(linear.in_features), out_(linear.out_features) {
  if (linear.storage) {
    inner = register_module("inner", linear.storage);
    for (auto& parameter : inner->parameters()) parameter.requires_grad_(false);
  } else {
    base = register_buffer("base", linear.weight.detach());
  }
}

LoraPart& LoraStorage::add_part(std::string name, const LoraOptions& options, std::vector<int64_t> rows) {
  check(options);
  WINNOW_CHECK(!merged(), "LoraStorage: a merged weight must be unmerged before it gets an adapter");
  std::set<int64_t> taken;
  for (const auto& part : parts) {
    WINNOW_CHECK(!part.rows.empty() && !rows.empty(),
                 "LoraStorage: rows of '{}' must have no adapter yet, '{}' has them", name, part.name);
    taken.insert(part.rows.begin(), part.rows.end());
  }
  for (const auto row : rows) {
    WINNOW_CHECK(row >= 0 && row < out_, "LoraStorage: rows must be in [0, {}), got {}", out_, row);
    WINNOW_CHECK(taken.insert(row).second, "LoraStorage: row {} must have one adapter at most", row);
  }
  const auto index = parts.size();
  const auto suffix = index == 0 ? std::string() : std::to_string(index);
  const auto height = rows.empty() ? out_ : static_cast<int64_t>(rows.size());
  const auto device = base.defined() ? base.device() : at::Device(at::kCPU);
  const double bound = in_ > 0 ? 1.0 / std::sqrt(static_cast<double>(in_)) : 0.0;
  LoraPart part{.name = std::move(name), .options = options, .rows = std::move(rows), .a = {}, .b = {}};
  auto a = at::empty({options.rank, in_});
  uniform_(a, make_generator(options.seed), -bound, bound);
  part.a = register_parameter("a" + suffix, a.to(device));
  part.b = register_parameter("b" + suffix, at::zeros({height, options.rank}, at::TensorOptions(device)));
  Dropout drop{nullptr};
  if (options.dropout > 0) {
    drop = Dropout(DropOptions{.p = options.dropout, .seed = derive_seed(options.seed, 1)});
    register_module("drop" + suffix, drop);
  }
  drops_.push_back(drop);
  parts.push_back(std::move(part));
  return parts.back();
}

int64_t LoraStorage::bytes() const {
  int64_t total = inner ? inner->bytes() : static_cast<int64_t>(base.nbytes());
  if (merged()) return total;
  for (const auto& part : parts) total += static_cast<int64_t>(part.a.nbytes() + part.b.nbytes());
  return total;
}

at::Tensor LoraStorage::matmul(const at::Tensor& x) {
  auto y = inner ? inner->matmul(x) : dense_linear(x, base, {});
  if (merged()) return y;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& part = parts[i];
    const auto input = drops_[i] ? drops_[i]->forward(x) : x;
    const auto narrow = at::linear(input, as_dtype(part.a, x.scalar_type()));  // [n, r]
    add_to_rows(y, at::linear(narrow, as_dtype(part.b, x.scalar_type())) * lora_scale(part.options), part.rows, 1);
  }
  return y;
}

at::Tensor LoraStorage::base_weight() const {
  if (inner) return inner->dense();
  return (merged() ? original_ : base).detach();
}

at::Tensor LoraStorage::dense() const {
  const at::NoGradGuard no_grad;
  if (merged()) return base.to(at::kFloat);
  const auto weight = base_weight();
  auto sum = weight.to(weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat, /*non_blocking=*/false,
                       /*copy=*/true);
  for (const auto& part : parts) {
    const auto delta = at::matmul(part.b.to(sum.scalar_type()), part.a.to(sum.scalar_type()));
    add_to_rows(sum, delta * lora_scale(part.options), part.rows, 0);
  }
  return sum;
}

std::vector<std::pair<std::string, at::Tensor>> LoraStorage::tensors() const {
  std::vector<std::pair<std::string, at::Tensor>> result;
  if (inner) {
    result = inner->tensors();
  } else {
    result.emplace_back("weight", base_weight());
  }
  for (const auto& part : parts) {
    const auto prefix = parts.size() == 1 ? std::string() : part.name + ".";
    result.emplace_back(prefix + "lora_A.weight", part.a.detach());
    result.emplace_back(prefix + "lora_B.weight", part.b.detach());
  }
  return result;
}

std::shared_ptr<torch::nn::Module> LoraStorage::clone(const std::optional<torch::Device>& device) const {
  const at::NoGradGuard no_grad;
  LinearImpl linear(in_, out_, false);
  if (inner) {
    linear.set_storage(std::dynamic_pointer_cast<LinearStorage>(inner->clone(device)));
  } else {
    linear.set_weight(base_weight().clone());
  }
  auto copy = std::make_shared<LoraStorage>(linear);
  for (const auto& part : parts) {
    auto& added = copy->add_part(part.name, part.options, part.rows);
    for (const auto& [to, from] : {std::pair{added.a, part.a}, std::pair{added.b, part.b}}) {
      to.set_data(from.detach().clone());
      to.requires_grad_(from.requires_grad());
    }
  }
  if (merged()) copy->merge();
  if (device) copy->to(*device);
  copy->train(is_training());
  return copy;
}

void LoraStorage::merge() {
  if (merged()) return;
  WINNOW_CHECK_KIND(!inner, ErrorKind::unsupported,
                    "LoraStorage: merge needs a dense weight; fold_lora makes one of another storage");
  const auto sum = dense().to(base.scalar_type());
  original_ = base.detach();
  base.set_data(sum);
}

void LoraStorage::unmerge() {
  if (!merged()) return;
  base.set_data(original_.to(base.options()));
  original_ = at::Tensor();
}

}  // namespace winnow
