#include "winnow/nn/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <mutex>
#include <set>

#include "winnow/core/error.h"
#include "winnow/nn/linear.h"

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

// The node of the graph in place of those of fn. A node of its own and not an autograd Function, which takes no list of
// tensors; so outputs also have a history if only captured parameters need gradients.
struct CheckpointNode : torch::autograd::Node {
  CheckpointNode(CheckpointFn f, std::vector<at::Generator> generators)
      : fn(std::move(f)), before(std::move(generators)) {}

  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override;
  std::string name() const override { return "WinnowCheckpoint"; }
  void release_variables() override {
    saved.clear();
    released = true;
  }

  CheckpointFn fn;
  RngStates before;
  AutocastState autocast;
  std::vector<torch::autograd::SavedVariable> saved;  // the inputs
  std::vector<size_t> differentiable;                 // which outputs have a gradient
  bool released = false;
};

torch::autograd::variable_list CheckpointNode::apply(torch::autograd::variable_list&& grads) {
  WINNOW_CHECK_KIND(torch::autograd::Engine::get_default_engine().is_checkpoint_valid(), ErrorKind::unsupported,
                    "checkpoint: gradients must be asked for by backward(), not by autograd::grad()");
  WINNOW_CHECK(!released, "checkpoint: a second backward pass must be announced by retain_graph in the first");
  std::vector<at::Tensor> inputs;
  for (const auto& variable : saved) {
    const auto input = variable.unpack();
    inputs.push_back(input.defined() ? input.detach().requires_grad_(input.requires_grad()) : input);
  }
  std::vector<at::Tensor> outputs;
  {
    const RngStates now(before.generators());
    const RestoreAtEnd restore{now};
    const AutocastAtEnd outer{};
    autocast.apply();
    before.restore();
    const at::AutoGradMode enable_grad(true);
    outputs = fn(inputs);
  }
  torch::autograd::variable_list roots, seeds;
  for (size_t i = 0; i < differentiable.size(); ++i) {
    WINNOW_CHECK(differentiable[i] < outputs.size(), "checkpoint: fn must return as many tensors as before, got {}",
                 outputs.size());
    const auto& output = outputs[differentiable[i]];
    if (!grads[i].defined() || !output.requires_grad()) continue;
    roots.push_back(output);
    seeds.push_back(grads[i]);
  }
  if (!roots.empty()) torch::autograd::backward(roots, seeds);
  torch::autograd::variable_list result;
  for (const auto& input : inputs) result.push_back(input.defined() ? input.grad() : input);
  return result;
}

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
  const std::shared_ptr<CheckpointNode> node(new CheckpointNode(fn, all_generators(inputs, generators)),
                                             torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  for (const auto& input : inputs) node->saved.emplace_back(input, /*is_output=*/false);
  std::vector<at::Tensor> outputs;
  {
    const at::NoGradGuard no_grad;
    const LinearAsInTraining same_numbers;
    for (const auto& output : fn(inputs)) {
      WINNOW_CHECK(output.defined(), "checkpoint: fn must return defined tensors");
      outputs.push_back(output.detach());  // an output may be an input: that must keep its own history
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!torch::autograd::isDifferentiableType(outputs[i].scalar_type())) continue;
    node->differentiable.push_back(i);
    torch::autograd::set_history(outputs[i], node);
  }
  return outputs;
}

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& fn, const at::Tensor& input,
                      const std::vector<at::Generator>& generators) {
  WINNOW_CHECK(fn, "checkpoint: fn must be callable");
  const auto run = [fn](const std::vector<at::Tensor>& inputs) { return std::vector<at::Tensor>{fn(inputs.at(0))}; };
  return checkpoint(run, std::vector<at::Tensor>{input}, generators).at(0);
}

}  // namespace winnow
