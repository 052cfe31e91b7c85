// What the operators of this layer share. Internal: not installed.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <string_view>
#include <vector>

#include "winnow/kernels/cuda_stream.h"

namespace winnow::ops {

// The operators of TORCH_LIBRARY(winnow): each is registered for CPU, CUDA and Meta by one function, which branches
// where a kernel is called; any other device is answered by unsupported_device().
std::vector<std::string_view> names();

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// The gradients here are computed by kernels that nothing can differentiate again. Throws winnow::Error (kind
// unsupported) when a graph of the gradients is being built, instead of treating them as constants.
void refuse_double_backward(std::string_view function);

// Registers one implementation of an operator for every device that the layer covers.
#define WINNOW_IMPLEMENT(name, function)      \
  TORCH_LIBRARY_IMPL(winnow, CPU, library) {  \
    library.impl(#name, &function);           \
  }                                           \
  TORCH_LIBRARY_IMPL(winnow, CUDA, library) { \
    library.impl(#name, &function);           \
  }                                           \
  TORCH_LIBRARY_IMPL(winnow, Meta, library) { \
    library.impl(#name, &function);           \
  }

// Whether there is nothing to compute: no data, or no elements.
inline bool is_shape_only(const at::Tensor& out) {
  return out.is_meta() || out.numel() == 0;
}

// LibTorch's current stream on the device of x.
cudaStream_t stream_of(const at::Tensor& x);

// Throws winnow::Error if the CUDA kernels that `function` started could not be launched.
void check_launch(std::string_view function);

}  // namespace winnow::ops
