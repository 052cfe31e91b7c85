// A data::Loader as an endless source of batches for Trainer::fit.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "winnow/data/loader.h"

namespace winnow::train {

// Keeps a reference to the loader.
class LoaderSource {
 public:
  explicit LoaderSource(data::Loader& loader) : loader_(loader) {}

  data::Batch next() { return loader_.next_endless(); }
  int64_t batches_per_epoch() const { return loader_.batches_per_epoch(); }
  // {"epoch", "step", "seed", "dataset_size", "global_batch"}.
  nlohmann::json state() const;
  // Throws winnow::Error (kind file) if a key is missing, or as Loader::load_state.
  void load_state(const nlohmann::json& state);

 private:
  data::Loader& loader_;
};

}  // namespace winnow::train
