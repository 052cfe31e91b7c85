#include "winnow/nn/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>

#include <mutex>
#include <set>

#include "winnow/core/error.h"

namespace winnow {

namespace {

at::Tensor state_of(const at::Generator& generator) {
  auto held = generator;
  const std::scoped_lock lock(held.mutex());
  return held.get_state();
}

void set_state(at::Generator generator, const at::Tensor& state) {
  const std::scoped_lock lock(generator.mutex());
  generator.set_state(state);
}

// Generators and their states, put back when it goes out of scope.
class RngStates {
 public:
  explicit RngStates(std::vector<at::Generator> generators) : generators_(std::move(generators)) {
    for (const auto& generator : generators_) states_.push_back(state_of(generator));
  }
  void restore() const {
    for (size_t i = 0; i < generators_.size(); ++i) set_state(generators_[i], states_[i]);
  }
  const std::vector<at::Generator>& generators() const { return generators_; }

 private:
  std::vector<at::Generator> generators_;
  std::vector<at::Tensor> states_;
};

struct RestoreAtEnd {
  const RngStates& states;
  ~RestoreAtEnd() { states.restore(); }
};

struct AutocastState {
  bool cpu = at::autocast::is_autocast_enabled(at::kCPU), cuda = at::autocast::is_autocast_enabled(at::kCUDA);
  at::ScalarType cpu_dtype = at::autocast::get_autocast_dtype(at::kCPU);
  at::ScalarType cuda_dtype = at::autocast::get_autocast_dtype(at::kCUDA);
  void apply() const {
    at::autocast::set_autocast_enabled(at::kCPU, cpu);
    at::autocast::set_autocast_enabled(at::kCUDA, cuda);
    at::autocast::set_autocast_dtype(at::kCPU, cpu_dtype);
    at::autocast::set_autocast_dtype(at::kCUDA, cuda_dtype);
  }
};

struct AutocastAtEnd {
  AutocastState outer;
  ~AutocastAtEnd() { outer.apply(); }
};

// What the second run needs. Held by the autograd node.
struct Recompute : torch::CustomClassHolder {
  Recompute(CheckpointFn f, std::vector<at::Generator> generators) : fn(std::move(f)), before(std::move(generators)) {}
  CheckpointFn fn;
  RngStates before;
  AutocastState autocast;
};

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  // `always` requires a gradient, so that outputs do even if only captured parameters need one.
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                const c10::intrusive_ptr<Recompute>& recompute,
                                                const at::Tensor& always, const std::vector<at::Tensor>& inputs) {
    (void)always;
    ctx->saved_data["recompute"] = c10::IValue::make_capsule(recompute);
    ctx->save_for_backward(inputs);
    ctx->set_materialize_grads(false);
    return recompute->fn(inputs);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    WINNOW_CHECK_KIND(torch::autograd::Engine::get_default_engine().is_checkpoint_valid(), ErrorKind::unsupported,
                      "checkpoint: gradients must be asked for by backward(), not by autograd::grad()");
    const auto recompute = c10::static_intrusive_pointer_cast<Recompute>(ctx->saved_data["recompute"].toCapsule());
    std::vector<at::Tensor> inputs;
    for (const auto& saved : ctx->get_saved_variables()) {
      inputs.push_back(saved.defined() ? saved.detach().requires_grad_(saved.requires_grad()) : saved);
    }
    std::vector<at::Tensor> outputs;
    {
      const RngStates now(recompute->before.generators());
      const RestoreAtEnd restore{now};
      const AutocastAtEnd autocast{};
      recompute->autocast.apply();
      recompute->before.restore();
      const at::AutoGradMode enable_grad(true);
      outputs = recompute->fn(inputs);
    }
    WINNOW_CHECK(outputs.size() == grads.size(), "checkpoint: fn must return {} tensors again, got {}", grads.size(),
                 outputs.size());
    torch::autograd::variable_list roots, seeds;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!grads[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      seeds.push_back(grads[i]);
    }
    if (!roots.empty()) torch::autograd::backward(roots, seeds);
    torch::autograd::variable_list result = {at::Tensor(), at::Tensor()};  // of recompute and `always`
    for (const auto& input : inputs) result.push_back(input.defined() ? input.grad() : input);
    return result;
  }
};

std::vector<at::Generator> all_generators(const std::vector<at::Tensor>& inputs,
                                          const std::vector<at::Generator>& extra) {
  std::vector<at::Generator> all = {at::globalContext().defaultGenerator(at::kCPU)};
  std::set<at::DeviceIndex> devices;
  for (const auto& input : inputs) {
    if (input.defined() && input.is_cuda() && devices.insert(input.get_device()).second) {
      all.push_back(at::globalContext().defaultGenerator(input.device()));
    }
  }
  all.insert(all.end(), extra.begin(), extra.end());
  return all;
}

}  // namespace

std::vector<at::Tensor> checkpoint(const CheckpointFn& fn, const std::vector<at::Tensor>& inputs,
                                   const std::vector<at::Generator>& generators) {
  WINNOW_CHECK(fn, "checkpoint: fn must be callable");
  for (const auto& generator : generators) {
    WINNOW_CHECK(generator.defined(), "checkpoint: generators must be defined");
  }
  if (!at::GradMode::is_enabled()) return fn(inputs);
  const auto recompute = c10::make_intrusive<Recompute>(fn, all_generators(inputs, generators));
  const auto always = at::empty({0}, at::kFloat).requires_grad_();
  return CheckpointFunction::apply(recompute, always, inputs);
}

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& fn, const at::Tensor& input,
                      const std::vector<at::Generator>& generators) {
  WINNOW_CHECK(fn, "checkpoint: fn must be callable");
  const auto run = [fn](const std::vector<at::Tensor>& inputs) { return std::vector<at::Tensor>{fn(inputs.at(0))}; };
  return checkpoint(run, std::vector<at::Tensor>{input}, generators).at(0);
}

}  // namespace winnow
