// The loop of Trainer::fit: one optimiser step after the other, what is reported between them, and the end.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "run_output.h"
#include "run_state.h"
#include "winnow/train/data_parallel.h"
#include "winnow/train/ema.h"
#include "winnow/train/grad_scaler.h"
#include "winnow/train/trainer.h"

namespace winnow::train {

// What the loop uses of the trainer.
struct LoopSetting {
  torch::nn::Module& model;
  Optimizer& optimizer;
  const TrainerOptions& options;
  const TrainerCallbacks& callbacks;
  const std::shared_ptr<ProcessGroup>& group;
  Ema* ema;  // null without an average
  GradScaler& scaler;
  Schedule schedule;
  nlohmann::json run_options;
  int64_t total_steps;
  int64_t batches_per_epoch;
  std::function<StepResult(StepContext&)> step;
};

class TrainLoop {
 public:
  TrainLoop(LoopSetting setting, RunParts parts, const at::Generator& generator);

  // From `first_step` on, with the values that state() wrote into the checkpoint, if any.
  TrainResult run(int64_t first_step, const StateDict* state);

 private:
  void train_step();
  void zero_grad();
  void backward();
  bool update();
  void note_loss();
  void agree();
  [[noreturn]] void fail_for_loss();
  std::string last_checkpoint() const;

  bool is_last() const { return step_ == s_.total_steps; }
  bool is_saving() const;
  double epoch(int64_t step) const;
  void report();
  void log_step();
  void evaluate();
  void make_pictures();
  void write_final_weights();
  void check_weights() const;
  void save();
  StateDict state() const;
  void load_state(const StateDict& state);

  LoopSetting s_;
  RunParts parts_;
  std::vector<at::Tensor> parameters_;
  at::Device device_{at::kCPU};
  std::optional<DataParallel> parallel_;
  std::optional<RunOutput> output_;
  StepContext context_;
  TrainResult result_;
  int64_t step_ = 0;        // done
  int64_t saved_step_ = 0;  // of the last checkpoint
  int64_t bad_step_ = -1;   // 0-based number of the first step with a bad loss
  int64_t loss_count_ = 0;  // steps in loss_sum_, since the last line of metrics
  at::Tensor loss_sum_;     // double, on the device
  at::Tensor first_bad_;    // int64, on the device: bad_step_ where it is not read at every step
  at::Tensor step_loss_;    // mean over the batches of this step
  std::map<std::string, at::Tensor> step_metrics_;
};

}  // namespace winnow::train
