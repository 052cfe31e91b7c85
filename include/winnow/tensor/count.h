#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace torch::nn {
class Module;
}

namespace winnow {

struct ParameterCount {
  int64_t trainable = 0;  // elements of parameters that require a gradient
  int64_t frozen = 0;     // elements of parameters that do not
  int64_t buffers = 0;    // elements of floating buffers (fixed tables, running statistics)
  int64_t total() const { return trainable + frozen + buffers; }
};

// Over the module and all its children; a tensor that is registered twice counts once.
ParameterCount count_parameters(const torch::nn::Module& module);

struct OpCounts {
  int64_t dispatches = 0;  // operator calls through LibTorch's dispatcher, those made inside other operators included
  int64_t multiply_adds =
      0;  // of matrix products: mm, bmm, addmm and kin, mv, convolutions, attention; forward and backward
  std::map<std::string, int64_t> by_name;  // dispatches of each operator: "aten::addmm" -> 12
};

// Counts every operator dispatched in the process, in any thread, while it lives. Attention counts 2*B*H*Lq*Lk*Dh
// forward and five such products of B*H*Lq*Lk*Dh backward, whatever the mask. It slows operators a little; one at a
// time is the rule (several count independently).
class OpCounter {
 public:
  OpCounter();
  ~OpCounter();
  OpCounter(const OpCounter&) = delete;
  OpCounter& operator=(const OpCounter&) = delete;
  OpCounts counts() const;  // so far; may be called while counting goes on
 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The most memory that the process has held resident, in bytes (VmHWM); 0 where the system does not tell.
int64_t peak_memory_bytes();
// Sets that mark back to what is resident now; false where the system does not allow it.
bool reset_peak_memory();

}  // namespace winnow
