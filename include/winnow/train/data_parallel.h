// Data parallel training: every process has the whole module and a part of each batch; gradients are averaged.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "winnow/train/optimizer.h"
#include "winnow/train/process_group.h"

namespace torch::nn {
class Module;
}

namespace winnow::train {

struct DataParallelOptions {
  int64_t bucket_bytes = 25 * 1024 * 1024;  // >= 1; gradients are summed in buckets of about this size
};

// Buckets fill in the reverse order of the parameters as the backward pass produces gradients; a full one is summed
// over the processes while the backward pass goes on. After finish() every process has the same gradients: the mean of
// the processes' gradients, which is the gradient of the mean loss over the joint batch when every process has an equal
// share of it. With unequal shares (an uneven last batch) the mean weighs processes, not samples: drop such a batch or
// let the loader pad it. A parameter that no process used keeps an undefined gradient; one that only some used counts
// as zero in the others. Parameters must be the same, in the same order, in all processes, and must not be replaced
// later.
class DataParallel {
 public:
  // Copies parameters and buffers of process 0 to the others.
  DataParallel(const torch::nn::Module& module, std::shared_ptr<ProcessGroup> group, DataParallelOptions options = {});
  ~DataParallel();
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  // False: the following backward passes only add up on this process (all but the last micro-batch of a step).
  void set_sync(bool sync);

  // After the last backward pass of a step, before clipping and the optimiser: waits for the sums.
  void finish();

  int64_t bucket_count() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace winnow::train
