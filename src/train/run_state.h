// The state of a run as a checkpoint: which parts there are, collecting them, putting them back.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "winnow/train/checkpoint.h"
#include "winnow/train/process_group.h"
#include "winnow/train/trainer_options.h"

namespace torch::nn {
class Module;
}

namespace winnow::train {

struct RunParts {
  torch::nn::Module* model;
  std::vector<std::pair<std::string, Stateful*>> stateful;        // optimizer, scaler, ema and the program's own
  std::vector<std::pair<std::string, at::Generator>> generators;  // of this process
  std::function<nlohmann::json()> data_state;
  std::function<void(const nlohmann::json&)> load_data_state;
};

// `loop` are the trainer's own values (see Trainer). All processes must call it; generators of all are collected.
Checkpoint collect(const RunParts& parts, const StateDict& loop, int64_t step, ProcessGroup& group);

// Puts everything back and returns the trainer's own values. Errors name `source`, the checkpoint's folder.
StateDict restore(const RunParts& parts, const Checkpoint& checkpoint, const std::string& source,
                  const ProcessGroup& group);

// The checkpoint to start from by the options' resume, resume_from and overwrite, or none; process 0 clears what
// `overwrite` removes. Throws winnow::Error as Trainer::fit says.
struct StartingPoint {
  Checkpoint checkpoint;
  std::string source;
};
std::optional<StartingPoint> starting_point(const TrainerOptions& options, bool is_main);

// <out>/checkpoints.
std::filesystem::path checkpoint_root(const TrainerOptions& options);

// Logs a warning for each option that changes the course of the run and differs from the checkpoint's.
void warn_of_changed_options(const nlohmann::json& saved, const nlohmann::json& now);

}  // namespace winnow::train
