// The training loop of every method: optimiser steps with accumulation, clipping, mixed precision, averages, data
// parallelism; metrics as JSON lines and TensorBoard events, evaluation, pictures, checkpoints, exact resume, signals.
//
//     train::FusedAdamW optimizer(train::weight_decay_groups(*model, 0.05), {.beta2 = 0.95});
//     train::Trainer trainer(*model, optimizer, {.steps = 2000, .schedule = {.lr = 2e-3, .warmup = 0.1}, .out =
//     "runs/mae"}); trainer.callbacks.evaluate = [&] { return train::Metrics{{"mse", held_out_mse(model)}}; }; const
//     auto result = trainer.fit(loader, [&](const auto& batch, train::StepContext& context) {
//       return train::StepResult{.loss = model->forward(batch.images, context.generator).loss};
//     });
//     return result.exit_code();
//
// Files under options.out: metrics.jsonl, tensorboard/, pictures/ (made by the callback), checkpoints/step_*,
// model.safetensors.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "winnow/train/optimizer.h"
#include "winnow/train/process_group.h"
#include "winnow/train/schedule.h"
#include "winnow/train/state.h"
#include "winnow/train/trainer_options.h"

namespace torch::nn {
class Module;
}

namespace winnow::train {

class DataParallel;
class Ema;

using Metrics = std::map<std::string, double>;

// What a step function knows about where it is. `generator` (CPU) is the run's own: draw from it and nothing else, and
// a resumed run repeats an unbroken one.
struct StepContext {
  int64_t step = 0;  // optimiser steps done before this one
  int64_t total_steps = 0;
  int64_t micro_step = 0;  // batch within the step, 0 .. accumulate - 1
  double epoch = 0;        // passes over the data, fractional
  double lr = 0;           // of this step, before a group's lr_scale
  bool log = false;        // metrics of this step will be read: a function may leave out costly ones otherwise
  int64_t rank = 0;        // of this process
  at::Generator generator = {};
};

struct StepResult {
  // Scalar that requires a gradient; the trainer divides by `accumulate`, scales and runs backward. Undefined: the step
  // function has put the gradients in place itself.
  at::Tensor loss = {};
  // Further scalars to report, read only when a line is logged; averaged over the batches of a step.
  std::map<std::string, at::Tensor> metrics = {};
};

struct TrainerCallbacks {
  // Gradients are complete (averaged over processes, unscaled), not yet clipped. For projections of gradients.
  std::function<void(StepContext&)> before_update;
  // The optimiser has moved the weights (or fp16 left the step out). For constraints on weights and teachers.
  std::function<void(StepContext&)> after_update;
  // Every eval_every steps and at the end, in evaluation mode, without gradients, with the averaged weights if there
  // are any. Runs in every process; the metrics of process 0 are reported.
  std::function<Metrics()> evaluate;
  // Every pictures_every steps and at the end, like evaluate, in process 0 only: writes PNG files into the folder
  // given.
  std::function<void(const std::filesystem::path& folder, int64_t step)> pictures;
  // After each step; `loss` is the mean over its batches, a scalar without gradient on the device of the loss.
  std::function<void(const StepContext&, const at::Tensor& loss)> on_step;
};

struct TrainResult {
  int64_t step = 0;  // optimiser steps done, in this run and those it resumed
  int64_t total_steps = 0;
  double loss = 0;          // of the last step
  Metrics evaluation = {};  // of the last evaluation
  int signal = 0;           // SIGINT or SIGTERM if it ended the run early
  double seconds = 0;       // of this run
  bool finished() const { return step == total_steps; }
  int exit_code() const { return signal == 0 ? 0 : 128 + signal; }
};

// What fit() needs of a source of batches of any type. next() never ends: after the last batch of an epoch it goes on
// with the next epoch. state() describes the position after the last batch that next() returned. A data::Loader is
// taken as it is.
template <typename Source>
concept BatchSource = requires(Source& source, const nlohmann::json& state) {
  source.next();
  { source.batches_per_epoch() } -> std::convertible_to<int64_t>;
  { source.state() } -> std::convertible_to<nlohmann::json>;
  source.load_state(state);
};

class Trainer {
 public:
  // Keeps references to both, which must live as long as the trainer. The optimiser's parameters are the model's.
  // Throws winnow::Error if an option is out of range.
  Trainer(torch::nn::Module& model, Optimizer& optimizer, TrainerOptions options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  TrainerCallbacks callbacks;

  // Rate over optimiser steps, instead of options.schedule. For epochs: in_epochs(schedule, steps_per_epoch).
  void set_schedule(Schedule schedule);
  // One process of several; each must draw its own part of the data.
  void set_process_group(std::shared_ptr<ProcessGroup> group);
  // More to save and restore: a teacher's weights, a queue, a second optimiser. Names: letters, digits, '_', '-'.
  void add_state(const std::string& name, Stateful& part);
  // A generator that the step function uses besides the context's. Those of Dropout and DropPath modules are added by
  // themselves.
  void add_generator(const std::string& name, const at::Generator& generator);
  // Stored in checkpoints for the reader: the whole configuration of the program.
  void set_run_options(nlohmann::json options);

  // Trains to the end, or to a signal. Resumes first if the options say so. Can be called once.
  // Throws winnow::Error: no step to do, no batch in the source; checkpoints present though resume is `never`, none or
  // a damaged one though it must go on; a loss that is NaN or infinite, naming the step and the last checkpoint;
  // anything that cannot be written.
  template <BatchSource Source, typename StepFunction>
  TrainResult fit(Source& source, StepFunction&& step) {
    return run({.step = [&](StepContext& context) -> StepResult {
                  auto&& batch = source.next();
                  return step(std::as_const(batch), context);
                },
                .batches_per_epoch = static_cast<int64_t>(source.batches_per_epoch()),
                .state = [&]() -> nlohmann::json { return source.state(); },
                .load_state = [&](const nlohmann::json& state) { source.load_state(state); }});
  }

  // The average of the weights, or null without ema_decay. Exists from the construction on.
  Ema* ema();
  const TrainerOptions& options() const { return options_; }

 private:
  struct Data {
    std::function<StepResult(StepContext&)> step;
    int64_t batches_per_epoch;
    std::function<nlohmann::json()> state;
    std::function<void(const nlohmann::json&)> load_state;
  };
  struct Impl;
  TrainResult run(const Data& data);

  TrainerOptions options_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace winnow::train
