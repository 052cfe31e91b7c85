#pragma once
#include <ATen/core/Tensor.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "winnow/nn/hooks.h"

namespace winnow {

// A weight [out, in] that is kept in another way than as one dense tensor: low-bit, sparse, wrapped by an adapter, a
// slice of an expert bank. A Linear holds one in place of its weight; what stands in needs to know nothing of the
// model. A subclass overrides torch::nn::Module::clone, so that models that hold it can be cloned.
struct LinearStorage : torch::nn::Module {
  virtual int64_t in() const = 0;
  virtual int64_t out() const = 0;
  // Bytes that one product reads of the weight.
  virtual int64_t bytes() const = 0;
  // Whether it has parameters that get a gradient.
  virtual bool trainable() const = 0;
  // x [n, in] -> [n, out] = x W^T, of the dtype of x. Differentiable in x, and in its own parameters if trainable.
  virtual at::Tensor matmul(const at::Tensor& x) = 0;
  // The same for 1 to 64 rows of float32 on the CPU, without gradient: x [n, in], y [n, out], both dense. Here: through
  // matmul; a storage with a kernel of its own overrides it and allocates nothing.
  virtual void rows(const float* x, int64_t n, float* y) const;
  // W as float32 [out, in], without gradient; for merging, saving in the dense form and inspection.
  virtual at::Tensor dense() const = 0;
  // What it writes to a checkpoint: suffix of the linear layer's name ("weight", "weight_scale") and tensor.
  virtual std::vector<std::pair<std::string, at::Tensor>> tensors() const = 0;
};

// The linear layer of all networks here: y = x W^T + b. The weight is dense in float32, float64, float16 or bfloat16,
// or a LinearStorage stands in for it. Parameters: weight [out, in] and bias [out], drawn as torch::nn::Linear draws
// them (U(-1/sqrt(in), 1/sqrt(in)), LibTorch's global generator). A half-precision weight multiplies a float32 or
// float64 input in the dtype of the input: the weight is widened, nothing is rounded. 1 to 64 float32 rows on the CPU
// without gradient go through a kernel of our own, in which the result of a row does not depend on its neighbours.
struct LinearImpl : torch::nn::Cloneable<LinearImpl>, Hookable {
  LinearImpl(int64_t in, int64_t out, bool with_bias = true);  // throws winnow::Error on a negative size
  void reset() override;
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  // x [..., in] -> [..., out], any leading shape, also empty.
  at::Tensor forward(const at::Tensor& x);
  // The same with `other_bias` [out] (undefined: none) in place of the layer's own.
  at::Tensor forward_with_bias(const at::Tensor& x, const at::Tensor& other_bias);

  // Puts `other` (sizes in and out of this layer, else winnow::Error) in the place of the weight, which becomes
  // undefined and is no parameter any more; the parameters of `other` are then named "storage.*".
  void set_storage(std::shared_ptr<LinearStorage> other);
  // Makes the layer dense: `dense` [out, in], floating point, becomes the parameter `weight`; a storage is dropped.
  void set_weight(const at::Tensor& dense);
  // W as a dense tensor without gradient, whatever keeps it: the weight itself, or storage->dense().
  at::Tensor dense_weight() const;
  // Bytes that one product reads of the weight.
  int64_t weight_bytes() const;

  at::Tensor weight;  // [out, in]; undefined while `storage` stands in
  at::Tensor bias;    // [out], or undefined
  std::shared_ptr<LinearStorage> storage;
  int64_t in_features, out_features;

 private:
  at::Tensor storage_forward(const at::Tensor& x, const at::Tensor& b);
  bool has_bias_;
};
TORCH_MODULE(Linear);

// While one lives, Linear layers in this thread compute as they do where a gradient is recorded, also without one: the
// forward pass of a checkpoint must equal its recomputation to the bit.
class LinearAsInTraining {
 public:
  LinearAsInTraining();
  ~LinearAsInTraining();
  LinearAsInTraining(const LinearAsInTraining&) = delete;
  LinearAsInTraining& operator=(const LinearAsInTraining&) = delete;

 private:
  bool outer_;
};

}  // namespace winnow
