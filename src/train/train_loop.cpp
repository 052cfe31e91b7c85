#include "train_loop.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/log.h"
#include "winnow/core/program.h"
#include "winnow/io/load_state.h"
#include "winnow/tensor/format.h"
#include "winnow/train/clip.h"

namespace winnow::train {
namespace {

bool due(int64_t step, int64_t every) {
  return every > 0 && step % every == 0;
}

// Evaluation mode, no gradients and averaged weights while it lives.
class EvaluationScope {
 public:
  EvaluationScope(torch::nn::Module& model, Ema* ema) : model_(model), was_training_(model.is_training()) {
    if (ema != nullptr) averaged_.emplace(*ema);
    model_.eval();
  }
  ~EvaluationScope() { model_.train(was_training_); }
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  at::NoGradGuard no_grad_;
  torch::nn::Module& model_;
  bool was_training_;
  std::optional<EmaScope> averaged_;
};

}  // namespace

TrainLoop::TrainLoop(LoopSetting setting, RunParts parts, const at::Generator& generator)
    : s_(std::move(setting)), parts_(std::move(parts)) {
  parameters_ = s_.model.parameters();
  WINNOW_CHECK(!parameters_.empty(), "Trainer: the model must have parameters");
  device_ = parameters_[0].device();
  const auto on_device = at::TensorOptions().device(device_);
  loss_sum_ = at::zeros({}, on_device.dtype(at::kDouble));
  first_bad_ = at::full({}, -1, on_device.dtype(at::kLong));
  context_.generator = generator;
  context_.total_steps = s_.total_steps;
  context_.rank = s_.group->rank();
}

TrainResult TrainLoop::run(int64_t first_step, const StateDict* saved) {
  const auto start = std::chrono::steady_clock::now();
  step_ = saved_step_ = first_step;
  result_.total_steps = s_.total_steps;
  WINNOW_CHECK_KIND(step_ <= s_.total_steps, ErrorKind::config,
                    "Trainer: the checkpoint is of step {}, beyond the {} steps of this run", step_, s_.total_steps);
  if (saved != nullptr) load_state(*saved);
  if (s_.group->size() > 1) parallel_.emplace(s_.model, s_.group);
  output_.emplace(s_.options, s_.group->is_main(), step_, s_.total_steps);
  s_.model.train();
  while (step_ < s_.total_steps && result_.signal == 0) {
    train_step();
    agree();
    report();
  }
  if (result_.signal != 0) {
    save();
    log_info("stopped by a signal after step {} of {}{}", step_, s_.total_steps,
             s_.options.out.empty() ? "" : "; a checkpoint was written");
  }
  output_->finish();
  zero_grad();
  if (step_loss_.defined()) result_.loss = step_loss_.item<double>();
  result_.step = step_;
  result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result_;
}

void TrainLoop::zero_grad() {
  for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  s_.optimizer.zero_grad();
}

// Accumulated gradients of one step; the mean loss stays on the device.
void TrainLoop::backward() {
  zero_grad();
  const auto accumulate = s_.options.accumulate;
  step_loss_ = at::Tensor();
  step_metrics_.clear();
  for (int64_t micro = 0; micro < accumulate; ++micro) {
    context_.micro_step = micro;
    if (parallel_) parallel_->set_sync(micro + 1 == accumulate);
    StepResult result;
    {
      const AutocastGuard autocast(device_.type(), s_.options.precision);
      result = s_.step(context_);
    }
    for (const auto& [name, value] : result.metrics) {
      const auto part = value.detach() / accumulate;
      auto& sum = step_metrics_[name];
      sum = sum.defined() ? sum + part : part;
    }
    if (!result.loss.defined()) continue;
    WINNOW_CHECK(result.loss.numel() == 1, "Trainer: the loss must be a scalar, got shape {}", result.loss.sizes());
    WINNOW_CHECK(result.loss.requires_grad(), "Trainer: the loss must require a gradient");
    auto loss = accumulate == 1 ? result.loss : result.loss / accumulate;
    const auto value = loss.detach().reshape({});
    step_loss_ = step_loss_.defined() ? step_loss_ + value : value;
    if (s_.options.precision == Precision::fp16) loss = s_.scaler.scale(loss);
    loss.backward();
  }
  if (parallel_) parallel_->finish();
}

// Clips and moves the weights. False if fp16 left the step out.
bool TrainLoop::update() {
  if (s_.options.precision == Precision::fp16) {
    const bool good = s_.scaler.unscale(s_.optimizer.parameters());
    s_.scaler.update(good);
    if (!good) return false;
  }
  if (s_.callbacks.before_update) s_.callbacks.before_update(context_);
  const auto parameters = s_.optimizer.parameters();
  if (s_.options.clip_value > 0) clip_grad_value(parameters, s_.options.clip_value);
  if (s_.options.clip_norm > 0) {
    step_metrics_["grad_norm"] = clip_grad_norm(parameters, s_.options.clip_norm);
  } else if (context_.log) {
    step_metrics_["grad_norm"] = grad_norm(parameters);
  }
  s_.optimizer.step(context_.lr);
  return true;
}

void TrainLoop::train_step() {
  context_.step = step_;
  context_.epoch = epoch(step_);
  context_.lr = s_.schedule(static_cast<double>(step_));
  context_.log = due(step_ + 1, s_.options.log_every) || step_ + 1 == s_.total_steps;
  backward();
  note_loss();
  const bool updated = update();
  if (s_.callbacks.after_update) s_.callbacks.after_update(context_);
  if (s_.ema != nullptr && updated) s_.ema->update();
  ++step_;
  if (s_.callbacks.on_step && step_loss_.defined()) s_.callbacks.on_step(context_, step_loss_);
}

// A loss on the CPU is looked at at once; elsewhere a flag is raised on the device, to be read when something is
// reported.
void TrainLoop::note_loss() {
  if (!step_loss_.defined()) return;
  const at::NoGradGuard no_grad;
  loss_sum_.add_(step_loss_);
  ++loss_count_;
  if (device_.is_cpu()) {
    if (!std::isfinite(step_loss_.item<double>())) bad_step_ = step_;
    if (bad_step_ >= 0 && s_.group->size() == 1) fail_for_loss();
  } else {
    const auto bad = first_bad_.lt(0).logical_and_(at::isfinite(step_loss_).logical_not_());
    first_bad_ = at::where(bad, at::full_like(first_bad_, step_), first_bad_);
  }
}

// Signals and bad losses of any process are those of all, so that none waits for one that is gone.
void TrainLoop::agree() {
  const auto share = [&] {
    if (s_.group->size() == 1) return;
    const auto flags = at::tensor({static_cast<int64_t>(result_.signal), bad_step_}, at::kLong);
    s_.group->all_reduce_max(flags);
    result_.signal = static_cast<int>(flags[0].item<int64_t>());
    bad_step_ = flags[1].item<int64_t>();
  };
  result_.signal = stop_signal();
  bool looked = device_.is_cpu();
  if (!looked && (context_.log || is_saving())) {
    bad_step_ = first_bad_.item<int64_t>();
    looked = true;
  }
  share();
  if (!looked && result_.signal != 0) {  // about to save
    bad_step_ = first_bad_.item<int64_t>();
    share();
  }
  if (bad_step_ >= 0) fail_for_loss();
}

void TrainLoop::fail_for_loss() {
  const auto value = step_loss_.defined() && bad_step_ + 1 >= step_ ? step_loss_.item<double>() : NAN;
  fail(ErrorKind::config, "Trainer: the loss is {} at step {} of {} (lr {:.3g}); {}",
       std::isfinite(value) ? std::string("not finite") : fmt::format("{}", value), bad_step_ + 1, s_.total_steps,
       s_.schedule(static_cast<double>(bad_step_)), last_checkpoint());
}

std::string TrainLoop::last_checkpoint() const {
  const auto existing =
      s_.options.out.empty() ? std::vector<CheckpointEntry>{} : list_checkpoints(checkpoint_root(s_.options));
  if (existing.empty()) return "there is no checkpoint to go back to";
  return fmt::format("the last good checkpoint is '{}'", existing.back().path.string());
}

double TrainLoop::epoch(int64_t step) const {
  return static_cast<double>(step * s_.options.accumulate) / static_cast<double>(s_.batches_per_epoch);
}

bool TrainLoop::is_saving() const {
  return due(step_, s_.options.checkpoint_every) || is_last();
}

void TrainLoop::report() {
  if (context_.log) log_step();
  if (s_.callbacks.evaluate && (due(step_, s_.options.eval_every) || is_last())) evaluate();
  if (s_.callbacks.pictures && (due(step_, s_.options.pictures_every) || is_last())) make_pictures();
  if (is_last()) write_final_weights();
  if (is_saving()) save();
  output_->progress(step_);
}

void TrainLoop::log_step() {
  const auto count = std::max<int64_t>(loss_count_, 1);
  Metrics metrics = {{"lr", context_.lr}};
  if (loss_count_ > 0) metrics["loss"] = loss_sum_.item<double>() / static_cast<double>(count);
  for (const auto& [name, value] : step_metrics_) metrics[name] = value.item<double>();
  loss_sum_.zero_();
  loss_count_ = 0;
  output_->step_metrics(step_, epoch(step_), metrics);
}

void TrainLoop::evaluate() {
  const EvaluationScope scope(s_.model, s_.ema);
  result_.evaluation = s_.callbacks.evaluate();
  output_->evaluation(step_, result_.evaluation);
}

void TrainLoop::make_pictures() {
  if (s_.options.out.empty() || !s_.group->is_main()) return;
  const auto folder = std::filesystem::path(s_.options.out) / "pictures";
  ensure_directory(folder.string());
  const EvaluationScope scope(s_.model, s_.ema);
  s_.callbacks.pictures(folder, step_);
}

void TrainLoop::write_final_weights() {
  if (s_.options.out.empty() || !s_.options.final_weights || !s_.group->is_main()) return;
  check_weights();
  const auto out = std::filesystem::path(s_.options.out);
  ensure_directory(out.string());
  io::save_safetensors(out / "model.safetensors", io::state_of(s_.model), {{"format", "pt"}});
  if (s_.ema == nullptr) return;
  const EmaScope averaged(*s_.ema);
  io::save_safetensors(out / "model_ema.safetensors", io::state_of(s_.model), {{"format", "pt"}});
}

void TrainLoop::check_weights() const {
  auto total = at::zeros({}, at::TensorOptions().device(device_).dtype(at::kFloat));
  for (const auto& parameter : parameters_) total.add_(parameter.detach().sum(at::kFloat).mul_(0).to(device_));
  WINNOW_CHECK_KIND(total.item<float>() == 0.0f, ErrorKind::config,
                    "Trainer: a weight is infinite or NaN after step {} of {} (lr {:.3g}); {}", step_, s_.total_steps,
                    context_.lr, last_checkpoint());
}

void TrainLoop::save() {
  if (s_.options.out.empty() || saved_step_ == step_) return;
  check_weights();
  auto checkpoint = collect(parts_, state(), step_, *s_.group);
  checkpoint.options = {{"trainer", nlohmann::json::parse(to_json(s_.options))}, {"program", s_.run_options}};
  if (s_.group->is_main()) save_checkpoint(checkpoint_root(s_.options), checkpoint, s_.options.keep_last);
  s_.group->barrier();
  saved_step_ = step_;
}

StateDict TrainLoop::state() const {
  const double loss = step_loss_.defined() ? step_loss_.item<double>() : result_.loss;
  auto evaluation = nlohmann::json::object();
  for (const auto& [name, value] : result_.evaluation) {
    if (std::isfinite(value)) evaluation[name] = value;  // JSON has no NaN
  }
  return {.tensors = {{"loss_sum", loss_sum_}},
          .values = {{"loss_count", loss_count_}, {"loss", loss}, {"evaluation", std::move(evaluation)}}};
}

void TrainLoop::load_state(const StateDict& state) {
  loss_sum_.copy_(state_tensor(state, "loss_sum", loss_sum_, "Trainer"));
  loss_count_ = state.values.value("loss_count", int64_t{0});
  result_.loss = state.values.value("loss", 0.0);
  result_.evaluation = state.values.value("evaluation", Metrics{});
}

}  // namespace winnow::train
