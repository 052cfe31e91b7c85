// Mixed precision: the guard that switches LibTorch's autocast, and the precision option of the trainer.
#pragma once

#include <ATen/core/Tensor.h>

namespace winnow::train {

// fp32: as the weights are. bf16, fp16: matrix products and convolutions in that type by autocast; the weights, the
// optimiser and reductions stay in the weights' type. fp16 needs a GradScaler (grad_scaler.h). On a processor without
// bf16 or fp16 arithmetic these are slow on the CPU.
enum class Precision { fp32, bf16, fp16 };

// Autocast to `dtype` on `device_type` while it lives, restoring what was set before; guards nest. The cache of cast
// weights is dropped when the outermost guard ends. Precision::fp32 and at::kFloat switch autocast off inside. Throws
// winnow::Error if the dtype is not float, bfloat16 or half.
class AutocastGuard {
 public:
  AutocastGuard(at::DeviceType device_type, at::ScalarType dtype);
  AutocastGuard(at::DeviceType device_type, Precision precision);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  at::DeviceType device_type_;
  bool old_enabled_;
  at::ScalarType old_dtype_;
};

}  // namespace winnow::train
