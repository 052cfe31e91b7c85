// Exponential moving average of a module's parameters.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/train/state.h"

namespace torch::nn {
class Module;
}

namespace winnow::train {

struct EmaOptions {
  double decay = 0.9999;  // in [0, 1]
  bool warm_up = false;   // decay of update n (from 0): min(decay, (1 + n) / (10 + n)), for short runs
};

// average = decay * average + (1 - decay) * parameter after each update(). Buffers (running statistics) are not
// averaged: evaluation uses the module's own. Starts as a copy of the parameters. Holds references to the parameter
// tensors: the module must not replace them (moving it to another device does).
class Ema : public Stateful {
 public:
  // All floating-point parameters, trainable or not.
  Ema(const torch::nn::Module& module, EmaOptions options);

  void update();
  // Exchanges averages and parameters, bit by bit; a second call restores both.
  void swap();

  int64_t updates() const { return updates_; }
  // The average of one parameter, by its name. Throws winnow::Error if there is none.
  const at::Tensor& average(const std::string& name) const;

  StateDict state() const override;
  void load_state(const StateDict& state) override;

 private:
  EmaOptions options_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_;  // detached, sharing memory with the module's
  std::vector<at::Tensor> averages_;
  int64_t updates_ = 0;
};

// The module computes with the averages while this lives: { EmaScope averaged(ema); evaluate(model); }.
class EmaScope {
 public:
  explicit EmaScope(Ema& ema) : ema_(ema) { ema_.swap(); }
  ~EmaScope() { ema_.swap(); }
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  Ema& ema_;
};

}  // namespace winnow::train
