#include "winnow/tensor/count.h"

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <mutex>
#include <set>
#include <sstream>
#include <vector>

namespace winnow {

ParameterCount count_parameters(const torch::nn::Module& module) {
  ParameterCount count;
  std::set<const c10::TensorImpl*> seen;
  for (const auto& x : module.parameters()) {
    if (!x.defined() || !seen.insert(x.unsafeGetTensorImpl()).second) continue;
    (x.requires_grad() ? count.trainable : count.frozen) += x.numel();
  }
  for (const auto& x : module.buffers()) {
    if (!x.defined() || !seen.insert(x.unsafeGetTensorImpl()).second || !x.is_floating_point()) continue;
    count.buffers += x.numel();
  }
  return count;
}

namespace {

using Inputs = c10::ArrayRef<const c10::IValue>;

at::Tensor tensor_at(Inputs inputs, size_t i) {
  return i < inputs.size() && inputs[i].isTensor() ? inputs[i].toTensor() : at::Tensor();
}

// a [..., n, k] times b [..., k, m]: the elements of a times the columns of b.
int64_t product(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || b.dim() < 1) return 0;
  return a.numel() * (b.dim() == 1 ? 1 : b.size(-1));
}

// Every output element of a convolution, or input element of a transposed one, takes one filter of weight [O, C/groups,
// ...].
int64_t filters(const at::Tensor& weight, int64_t elements) {
  return weight.defined() && weight.numel() > 0 ? elements * (weight.numel() / weight.size(0)) : 0;
}

int64_t int_at(const c10::IValue& list, size_t i) {
  const auto values = list.toIntVector();
  return values[values.size() == 1 ? 0 : i];
}

// aten::convolution(input, weight, bias, stride, padding, dilation, transposed, ...).
int64_t convolution(Inputs inputs) {
  const auto input = tensor_at(inputs, 0), weight = tensor_at(inputs, 1);
  if (!input.defined() || !weight.defined() || inputs.size() < 7 || weight.numel() == 0) return 0;
  if (inputs[6].toBool()) return filters(weight, input.numel());
  const auto dims = weight.dim() - 2;
  int64_t elements = weight.size(0) * (input.dim() == weight.dim() ? input.size(0) : 1);
  for (int64_t i = 0; i < dims; ++i) {
    const auto at = static_cast<size_t>(i);
    const auto reach = int_at(inputs[5], at) * (weight.size(2 + i) - 1) + 1;
    elements *= (input.size(input.dim() - dims + i) + 2 * int_at(inputs[4], at) - reach) / int_at(inputs[3], at) + 1;
  }
  return filters(weight, elements);
}

// query [B, H, Lq, Dh], key [B, H or fewer, Lk, Dh]: one product of the attention matrix's size.
int64_t attention(const at::Tensor& query, const at::Tensor& key) {
  if (!query.defined() || !key.defined() || key.dim() < 2) return 0;
  return query.numel() * key.size(-2);
}

// Only operators at the bottom: linear and matmul arrive here as the mm, addmm or bmm that they call.
int64_t multiply_adds(const std::string& name, Inputs inputs) {
  const auto in = [&](size_t i) { return tensor_at(inputs, i); };
  if (name == "aten::mm" || name == "aten::bmm" || name == "aten::mv" || name == "aten::dot") {
    return product(in(0), in(1));
  }
  if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::addmv" || name == "aten::addmm_" ||
      name == "aten::baddbmm_" || name == "aten::addbmm") {
    return product(in(1), in(2));
  }
  if (name == "aten::mkldnn_linear" || name == "aten::_addmm_activation") return product(in(1), in(2));
  if (name.find("_scaled_dot_product_flash_attention") != std::string::npos ||
      name.find("_scaled_dot_product_efficient_attention") != std::string::npos ||
      name.find("_scaled_dot_product_cudnn_attention") != std::string::npos) {
    const bool backward = name.find("_backward") != std::string::npos;
    return backward ? 5 * attention(in(1), in(2)) : 2 * attention(in(0), in(1));
  }
  if (name == "winnow::blocked_attention") return 2 * attention(in(0), in(1));
  if (name == "winnow::blocked_attention_backward") return 5 * attention(in(1), in(2));
  if (name == "winnow::linear_rows") return in(0).numel() * in(1).size(0);
  if (name == "aten::convolution") return convolution(inputs);
  if (name == "aten::convolution_backward") {
    const auto grad = in(0), weight = in(2);
    const auto mask = inputs.size() > 10 && inputs[10].isBoolList() ? inputs[10].toBoolList() : c10::List<bool>();
    int64_t products = 0;
    for (size_t i = 0; i < mask.size() && i < 2; ++i) products += mask.get(i) ? 1 : 0;  // input and weight gradients
    const bool transposed = inputs.size() > 7 && inputs[7].isBool() && inputs[7].toBool();
    return products * filters(weight, transposed ? in(1).numel() : grad.numel());
  }
  return 0;
}

}  // namespace

struct OpCounter::State {
  std::mutex mutex;
  OpCounts counts;
  std::function<void(const std::string&, int64_t)> sink;

  void record(const std::string& name, int64_t adds) {
    const std::lock_guard lock(mutex);
    ++counts.dispatches;
    counts.multiply_adds += adds;
    ++counts.by_name[name];
  }
};

namespace {

// LibTorch's callbacks are plain functions, so the counters that live are found here. One callback serves them all.
struct Registry {
  std::mutex mutex;
  std::vector<std::function<void(const std::string&, int64_t)>*> counters;
  at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

std::unique_ptr<at::ObserverContext> on_operator(const at::RecordFunction& fn) {
  const std::string name = fn.name();
  const auto adds = multiply_adds(name, fn.inputs());
  const std::lock_guard lock(registry().mutex);
  for (const auto* counter : registry().counters) (*counter)(name, adds);
  return nullptr;
}

}  // namespace

OpCounter::OpCounter() : state_(std::make_unique<State>()) {
  state_->sink = [state = state_.get()](const std::string& name, int64_t adds) { state->record(name, adds); };
  const std::lock_guard lock(registry().mutex);
  registry().counters.push_back(&state_->sink);
  if (registry().counters.size() > 1) return;
  registry().handle = at::addGlobalCallback(
      at::RecordFunctionCallback(&on_operator).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

OpCounter::~OpCounter() {
  const std::lock_guard lock(registry().mutex);
  auto& counters = registry().counters;
  counters.erase(std::find(counters.begin(), counters.end(), &state_->sink));
  if (counters.empty()) at::removeCallback(registry().handle);
}

OpCounts OpCounter::counts() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) != 0) continue;
    std::istringstream fields(line.substr(6));
    int64_t kilobytes = 0;
    fields >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

bool reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << '5' << std::flush;
  return file.good();
}

}  // namespace winnow
