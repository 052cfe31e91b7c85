// Batches of a data set, prepared ahead by worker threads, equal to the bit for any number of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "winnow/core/options.h"
#include "winnow/data/dataset.h"
#include "winnow/data/transforms.h"

namespace winnow::data {

struct LoaderOptions {
  // What comes out.
  int64_t batch_size =
      64;                 // of this process; world_size processes together take world_size * batch_size examples a step
  bool shuffle = true;    // a new order each epoch, drawn by the seed
  bool drop_last = true;  // leave out the examples that do not fill a batch (of all processes)
  uint64_t seed = 0;      // of the order and of every augmentation
  int64_t rank = 0;       // this process's share: step t of one process with world_size * batch_size is cut into equal
  int64_t world_size = 1;  //   consecutive parts, so that the union over ranks does not depend on world_size
  // How fast. Nothing here changes a value.
  int64_t workers = 0;      // threads; 0: the caller's thread does the work when a batch is asked for
  int64_t prefetch = 2;     // batches prepared ahead, >= 1; each costs one batch of memory
  bool pin_memory = false;  // page-locked batches for fast copies to the GPU; an error without CUDA
  static Fields<LoaderOptions> fields();
};

struct Batch {
  at::Tensor images;   // with a transform: float [B, C, H, W]; without: the examples stacked, their dtype
  at::Tensor labels;   // int64 [B]
  at::Tensor indices;  // int64 [B], positions in the data set
  int64_t epoch = 0;
  int64_t step = 0;  // number of the batch within its epoch
};

// Example i of epoch e is augmented with derive_seed(seed, {e, i}): the order of work cannot matter.
// One thread at a time may call the methods; the workers are the loader's own (std::thread, one intra-op thread each).
// A failure in a worker (a broken file) is thrown by the call of next() that would have returned its batch, as the
// winnow::Error it was, with the example's origin; batches before it still come, and the loader can be destroyed or
// asked again (the same error comes again). Destruction at any moment stops the workers and waits for the example each
// is at. Batch memory is reused once nobody else holds the tensors of an earlier batch.
class Loader {
 public:
  // Without a transform the examples are stacked as they are (all of one shape and dtype).
  // Throws winnow::Error on options out of range or a data set with fewer examples than one step needs.
  Loader(DatasetPtr dataset, LoaderOptions options);
  Loader(DatasetPtr dataset, ImageTransform transform, LoaderOptions options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch of an endless stream of epochs.
  Batch next();

  // The next batch of this epoch, or nothing, once, after its last batch; the call after that begins the next epoch.
  // Workers go on over the end of an epoch, so that its first batch is ready.
  std::optional<Batch> next_in_epoch();

  int64_t batches_per_epoch() const;
  int64_t epoch() const;  // of the batch that next() returns next
  const LoaderOptions& options() const;
  const Dataset& dataset() const;

  // Where the loader stands: the epoch, the batches of it that were handed out (not those merely prepared), and what
  // must agree for the numbers to make sense (seed, size of the data set, world_size * batch_size). A loader that loads
  // this state goes on with the batch that this one would return next; batch size and ranks may be divided anew.
  nlohmann::json state() const;
  // Throws winnow::Error, saying what differs, if the state is of another seed, order, data set size or global batch,
  // or is not a loader's state at all.
  void load_state(const nlohmann::json& state);
  // Begins epoch `epoch` anew.
  void start_epoch(int64_t epoch);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace winnow::data
