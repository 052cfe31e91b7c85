#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

// Argument checks that many functions share. `what` names function and argument: "gather_tokens: x". Each throws
// winnow::Error (kind argument) with "<what> must WANTED, got FOUND".
namespace winnow {

void check_defined(std::string_view what, const at::Tensor& x);

// The dtype and device of `like`.
void check_like(std::string_view what, const at::Tensor& x, const at::Tensor& like);

void check_device(std::string_view what, const at::Tensor& x, at::Device device);

// float64, float32, float16 or bfloat16.
void check_floating(std::string_view what, const at::Tensor& x);

void check_dtype(std::string_view what, const at::Tensor& x, at::ScalarType dtype);

void check_dim(std::string_view what, const at::Tensor& x, int64_t dim);

// -1 in `shape` stands for any size and prints as "*".
void check_shape(std::string_view what, const at::Tensor& x, at::IntArrayRef shape);

// Every entry of an integer tensor in [0, limit). Reads the data: on a CUDA tensor only when debug checks are on, see
// below.
void check_indices(std::string_view what, const at::Tensor& ids, int64_t limit);

// Whether checks that must read a CUDA tensor's data run (they wait for the device). Off at the start unless the
// environment holds WINNOW_DEBUG=1. On CPU tensors these checks always run.
bool debug_checks();
void set_debug_checks(bool on);

}  // namespace winnow
