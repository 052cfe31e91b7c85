// The processes of a distributed run: collectives over LibTorch's c10d, Gloo on the CPU and NCCL on CUDA where it was
// built in.
//
// Started by torchrun or any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; without them (or with
// WORLD_SIZE=1) there is one process and every collective does nothing. All processes must make the same calls in the
// same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace winnow::train {

class ProcessGroup {
 public:
  enum class Backend { gloo, nccl };
  struct Options {
    Backend backend = Backend::gloo;
    double timeout_seconds = 1800;  // of one collective; a lost process ends the others by an error after it
    std::string address = "";       // of the network interface for Gloo; empty: this machine's host name, else loopback
  };

  // One process.
  ProcessGroup();

  // From the environment. Throws winnow::Error (kind config) naming the variable if only some are set or one is no
  // number.
  static std::shared_ptr<ProcessGroup> from_environment(const Options& options);
  static std::shared_ptr<ProcessGroup> from_environment();

  // Meets over a file that all processes can reach (it must not exist before the first one arrives). For tests and for
  // processes of one machine.
  static std::shared_ptr<ProcessGroup> from_file(const std::string& path, int64_t rank, int64_t size,
                                                 const Options& options);

  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  bool is_main() const { return rank_ == 0; }

  // In place, all waiting. Tensors must be contiguous.
  void all_reduce_sum(const at::Tensor& tensor);
  void all_reduce_max(const at::Tensor& tensor);
  void broadcast(const at::Tensor& tensor, int64_t from = 0);
  void barrier();
  // The bytes of every process, by rank; they may differ in length.
  std::vector<std::string> all_gather(const std::string& bytes);

  // A running all-reduce (sum); wait() blocks until the tensor holds the sum. The tensor must live until then.
  class Pending {
   public:
    explicit Pending(std::function<void()> wait) : wait_(std::move(wait)) {}
    void wait() { wait_(); }

   private:
    std::function<void()> wait_;
  };
  Pending start_all_reduce_sum(const at::Tensor& tensor);

 private:
  struct Impl;
  explicit ProcessGroup(std::unique_ptr<Impl> impl, int64_t rank, int64_t size);
  std::unique_ptr<Impl> impl_;  // null with one process
  int64_t rank_ = 0;
  int64_t size_ = 1;
};

}  // namespace winnow::train
