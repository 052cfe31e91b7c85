#pragma once
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace winnow {

// What a TransformerBlock may run in the place of its Mlp (TransformerBlockOptions::custom_mlp): a mixture of experts,
// a memory, a transcoder. A subclass overrides torch::nn::Module::clone, so that models that hold it can be cloned.
struct FeedForward : torch::nn::Module {
  // x [B, L, D] -> [B, L, D].
  virtual at::Tensor apply(const at::Tensor& x) = 0;
  using torch::nn::Module::apply;
};

}  // namespace winnow
