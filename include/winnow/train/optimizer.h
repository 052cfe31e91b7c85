// Optimisers over named parameter groups: the common interface, AdamW and SGD. Also lars.h and adan.h.
//
// An optimiser holds the parameters (they share memory with the module's) and its own state. The learning rate comes
// with each step, from a schedule (schedule.h); a group multiplies it by its `lr_scale`. A parameter whose gradient is
// undefined is skipped: neither its value nor its state nor its step count changes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/train/state.h"

namespace winnow::train {

struct NamedParameter {
  std::string name;  // as in module.named_parameters(): names the state in checkpoints
  at::Tensor tensor;
};

// Parameters that share a learning-rate factor and a weight decay. See param_groups.h for the usual ways to make
// groups.
struct ParamGroup {
  std::string name;
  std::vector<NamedParameter> params;
  double lr_scale = 1.0;      // >= 0, multiplies the rate given to step()
  double weight_decay = 0.0;  // >= 0
};

// Not safe for use from two threads at a time.
class Optimizer : public Stateful {
 public:
  // Throws winnow::Error if there is no parameter, if a name occurs twice, or if a parameter is undefined, not floating
  // point, not dense in memory, or does not require a gradient.
  Optimizer(const char* kind, std::vector<ParamGroup> groups);
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update with the gradients now in the parameters. Throws winnow::Error if lr is negative or not finite, or if a
  // gradient is sparse.
  void step(double lr);

  // Drops the gradients (they become undefined), so that the next backward pass writes instead of adding.
  void zero_grad();

  const char* kind() const { return kind_; }  // "adamw", "sgd", "lars", "adan"; stored in the state
  std::vector<ParamGroup>& groups() { return groups_; }
  const std::vector<ParamGroup>& groups() const { return groups_; }
  std::vector<at::Tensor> parameters() const;  // of all groups, in order

  // Tensors "<parameter>.<slot>", value "steps" {parameter: count}, value "kind".
  StateDict state() const override;
  // Throws winnow::Error if the state is of another kind of optimiser or does not fit the parameters.
  void load_state(const StateDict& state) override;

  // The state tensor of a parameter ("exp_avg", "momentum" ...); undefined before its first step. For tests and
  // inspection.
  at::Tensor slot(const std::string& parameter, const std::string& slot_name) const;

 protected:
  // A parameter with its state. `slots` has one tensor for each of slot_names(), all undefined before the first step.
  struct Entry {
    std::string name;
    at::Tensor param;
    std::vector<at::Tensor> slots;
    int64_t steps = 0;  // updates made, 1 in the first update's formulas
  };

  virtual std::vector<std::string> slot_names() const = 0;
  // Updates the entries (all have a dense gradient with the parameter's strides; steps already counts this update;
  // slots are allocated, zero at first). The entries of one call are of one group.
  virtual void update(const std::vector<Entry*>& entries, double lr, double weight_decay) = 0;
  // Called once before the updates of a step with everything that will be updated. Adan clips over all groups here.
  virtual void before_update(const std::vector<Entry*>& all);

 private:
  const char* kind_;
  std::vector<ParamGroup> groups_;
  std::vector<std::vector<Entry>> entries_;  // [group][parameter]
};

struct AdamWOptions {
  double beta1 = 0.9;    // [0, 1)
  double beta2 = 0.999;  // [0, 1); masked autoencoders use 0.95
  double eps = 1e-8;     // > 0, added to the root of the corrected second moment
};

// AdamW (Loshchilov and Hutter, arXiv 1711.05101): p *= 1 - lr*wd; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
// p -= lr * (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps). Slots exp_avg, exp_avg_sq.
// One fused LibTorch call for all parameters of a group with equal dtype, device and step count.
class FusedAdamW : public Optimizer {
 public:
  explicit FusedAdamW(std::vector<ParamGroup> groups, AdamWOptions options = {});

 protected:
  std::vector<std::string> slot_names() const override;
  void update(const std::vector<Entry*>& entries, double lr, double weight_decay) override;

 private:
  AdamWOptions options_;
};

struct SgdOptions {
  double momentum = 0.0;  // [0, 1)
  bool nesterov = false;  // needs momentum > 0
};

// Gradient descent: g += wd p; buffer = momentum * buffer + g (first step: g); p -= lr * buffer, with Nesterov
// p -= lr * (g + momentum * buffer). Slot momentum (absent when momentum = 0).
class Sgd : public Optimizer {
 public:
  explicit Sgd(std::vector<ParamGroup> groups, SgdOptions options = {});

 protected:
  std::vector<std::string> slot_names() const override;
  void update(const std::vector<Entry*>& entries, double lr, double weight_decay) override;

 private:
  SgdOptions options_;
};

}  // namespace winnow::train
