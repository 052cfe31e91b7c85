#include "winnow/train/trainer_options.h"

#include "winnow/core/error.h"

namespace winnow::train {

Fields<TrainerOptions> TrainerOptions::fields() {
  return Fields<TrainerOptions>("Trainer")
      .add("steps", &TrainerOptions::steps, "optimiser steps; 0: by epochs", at_least(0))
      .add("epochs", &TrainerOptions::epochs, "passes over the data, where steps is 0", at_least(0))
      .add("accumulate", &TrainerOptions::accumulate, "batches whose gradients are averaged in one step", at_least(1))
      .add("clip_norm", &TrainerOptions::clip_norm, "limit of the global gradient norm; 0: none", at_least(0))
      .add("clip_value", &TrainerOptions::clip_value, "limit of each gradient entry; 0: none", at_least(0))
      .add("precision", &TrainerOptions::precision, "of matrix products and convolutions")
      .add("ema_decay", &TrainerOptions::ema_decay, "of the average of the weights used in evaluation; 0: no average",
           in_range(0, 1, Ends::right_open))
      .add("ema_warm_up", &TrainerOptions::ema_warm_up, "smaller ema_decay in the first steps")
      .nest("schedule", &TrainerOptions::schedule, "of the learning rate")
      .add("seed", &TrainerOptions::seed, "of the random draws of training")
      .add("log_every", &TrainerOptions::log_every, "steps between lines of metrics; 0: none", at_least(0))
      .add("eval_every", &TrainerOptions::eval_every, "steps between evaluations; 0: only at the end", at_least(0))
      .add("pictures_every", &TrainerOptions::pictures_every, "steps between pictures; 0: only at the end", at_least(0))
      .add("checkpoint_every", &TrainerOptions::checkpoint_every, "steps between checkpoints; 0: only at the end",
           at_least(0))
      .add("keep_last", &TrainerOptions::keep_last, "checkpoints that are kept", at_least(1))
      .add("out", &TrainerOptions::out, "folder of everything that is written; empty: nothing is")
      .add("progress", &TrainerOptions::progress, "show progress")
      .add("tensorboard", &TrainerOptions::tensorboard, "write TensorBoard events")
      .add("final_weights", &TrainerOptions::final_weights, "write model.safetensors at the end")
      .add("resume", &TrainerOptions::resume,
           "never: start anew; latest: go on from the newest checkpoint; auto: from the newest that can be read, or "
           "anew")
      .add("resume_from", &TrainerOptions::resume_from, "checkpoint folder to go on from; empty: as resume says")
      .add("overwrite", &TrainerOptions::overwrite, "with resume never: remove an earlier run from out");
}

}  // namespace winnow::train
