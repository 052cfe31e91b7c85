#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace winnow {

// Runs fn(inputs) without keeping its activations; in the backward pass fn runs again and is differentiated then.
// Gradients equal those of a plain call bit for bit, both of `inputs` and of parameters that fn captures. Random
// numbers are the same in both runs: the default CPU generator, the default generators of all CUDA devices of the
// inputs and the given `generators` (see drop_generators) are set back for the second run and restored after it;
// autocast likewise. Source: Chen et al. 2016, arXiv 1604.06174.
//
// fn must be pure (same inputs, same outputs), must not change its inputs in place, and must return defined tensors;
// what it refers to must live until the backward pass. Gradients come by backward(); autograd::grad() cannot see
// captured parameters and throws. Without grad mode fn is simply called.
using CheckpointFn = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;
std::vector<at::Tensor> checkpoint(const CheckpointFn& fn, const std::vector<at::Tensor>& inputs,
                                   const std::vector<at::Generator>& generators = {});

// The same for one tensor in and one out.
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& fn, const at::Tensor& input,
                      const std::vector<at::Generator>& generators = {});

}  // namespace winnow
