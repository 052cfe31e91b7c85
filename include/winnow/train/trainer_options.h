// The options of a training run, as they stand under `train:` in a configuration file.
#pragma once

#include <cstdint>
#include <string>

#include "winnow/core/options.h"
#include "winnow/train/autocast.h"
#include "winnow/train/schedule.h"

namespace winnow::train {

// What to do with the checkpoints that are in the output folder already.
//   never:  there must be none, else an error (unless `overwrite`); start from the beginning.
//   latest: go on from the newest; an error if there is none or if it is damaged.
//   automatic ("auto" in files): go on from the newest that can be read, with a warning about those that cannot; start
//   from the
//           beginning if there is none.
enum class Resume { never, latest, automatic };

inline EnumNames<Resume> enum_names(Resume) {
  return {{"never", Resume::never}, {"latest", Resume::latest}, {"auto", Resume::automatic}};
}
inline EnumNames<Precision> enum_names(Precision) {
  return {{"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}};
}

struct TrainerOptions {
  // How long. One of the two must be >= 1; steps wins if both are given.
  int64_t steps = 0;   // optimiser steps
  int64_t epochs = 0;  // passes over the data
  // What a step does.
  int64_t accumulate = 1;  // batches whose gradients are averaged in one step
  double clip_norm = 0;    // limit of the global gradient norm; 0 = off
  double clip_value = 0;   // limit of each gradient entry; 0 = off
  Precision precision = Precision::fp32;
  double ema_decay = 0;           // of the average of the weights, used in evaluation; 0 = off
  bool ema_warm_up = false;       // smaller decay in the first steps
  ScheduleOptions schedule = {};  // over the steps of the run, unless the program sets another
  uint64_t seed = 0;              // of the generator that the step function gets
  // What is reported and kept. In steps; 0 = never (evaluation and checkpoint: only at the end).
  int64_t log_every = 50;
  int64_t eval_every = 0;
  int64_t pictures_every = 0;
  int64_t checkpoint_every = 0;
  int64_t keep_last = 3;      // checkpoints
  std::string out = "";       // folder of everything that is written; empty: nothing is written
  bool progress = true;       // bar on a terminal
  bool tensorboard = true;    // event file under out/tensorboard
  bool final_weights = true;  // out/model.safetensors at the end (model_ema.safetensors beside it with an average)
  Resume resume = Resume::never;
  std::string resume_from = "";  // a checkpoint folder to start from, instead of the newest one under `out`
  bool overwrite = false;        // with resume: never, remove what an earlier run left under `out`

  static Fields<TrainerOptions> fields();
};

}  // namespace winnow::train
