#pragma once

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <string>
#include <string_view>

// fmt formatters of LibTorch's types for messages: a shape prints as "[2, 3]", a dtype as "float32", a device as
// "cuda:0", a tensor as "float32 [2, 3] on cpu" (never its values), an undefined tensor as "undefined".
namespace winnow {

// "float32", "bfloat16", "int64" ...: the names that Python users and safetensors files know.
std::string_view dtype_name(at::ScalarType dtype);
std::string describe(const at::Tensor& tensor);
std::string describe(at::IntArrayRef shape);

}  // namespace winnow

template <>
struct fmt::formatter<at::IntArrayRef> : fmt::formatter<std::string_view> {
  auto format(at::IntArrayRef shape, fmt::format_context& ctx) const {
    return fmt::formatter<std::string_view>::format(winnow::describe(shape), ctx);
  }
};

template <>
struct fmt::formatter<at::ScalarType> : fmt::formatter<std::string_view> {
  auto format(at::ScalarType dtype, fmt::format_context& ctx) const {
    return fmt::formatter<std::string_view>::format(winnow::dtype_name(dtype), ctx);
  }
};

template <>
struct fmt::formatter<at::Device> : fmt::formatter<std::string_view> {
  auto format(at::Device device, fmt::format_context& ctx) const {
    return fmt::formatter<std::string_view>::format(device.str(), ctx);
  }
};

template <>
struct fmt::formatter<at::Tensor> : fmt::formatter<std::string_view> {
  auto format(const at::Tensor& tensor, fmt::format_context& ctx) const {
    return fmt::formatter<std::string_view>::format(winnow::describe(tensor), ctx);
  }
};
