#include "winnow/tensor/check.h"

#include <ATen/ATen.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

std::atomic<bool>& debug_flag() {
  static std::atomic<bool> on = [] {
    const char* value = std::getenv("WINNOW_DEBUG");
    return value != nullptr && std::string_view(value) == "1";
  }();
  return on;
}

std::string pattern(at::IntArrayRef shape) {
  std::string text;
  for (const auto size : shape) text += (text.empty() ? "" : ", ") + (size < 0 ? "*" : std::to_string(size));
  return "[" + text + "]";
}

}  // namespace

void check_defined(std::string_view what, const at::Tensor& x) {
  WINNOW_CHECK(x.defined(), "{} must be a tensor, got none", what);
}

void check_like(std::string_view what, const at::Tensor& x, const at::Tensor& like) {
  check_defined(what, x);
  WINNOW_CHECK(x.scalar_type() == like.scalar_type() && x.device() == like.device(),
               "{} must be {} on {}, got {} on {}", what, like.scalar_type(), like.device(), x.scalar_type(),
               x.device());
}

void check_device(std::string_view what, const at::Tensor& x, at::Device device) {
  check_defined(what, x);
  WINNOW_CHECK(x.device() == device, "{} must be on {}, got {}", what, device, x.device());
}

void check_floating(std::string_view what, const at::Tensor& x) {
  check_defined(what, x);
  const auto dtype = x.scalar_type();
  WINNOW_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
               "{} must be float64, float32, float16 or bfloat16, got {}", what, dtype);
}

void check_dtype(std::string_view what, const at::Tensor& x, at::ScalarType dtype) {
  check_defined(what, x);
  WINNOW_CHECK(x.scalar_type() == dtype, "{} must be {}, got {}", what, dtype, x.scalar_type());
}

void check_dim(std::string_view what, const at::Tensor& x, int64_t dim) {
  check_defined(what, x);
  WINNOW_CHECK(x.dim() == dim, "{} must have {} dimension{}, got shape {}", what, dim, dim == 1 ? "" : "s", x.sizes());
}

void check_shape(std::string_view what, const at::Tensor& x, at::IntArrayRef shape) {
  check_defined(what, x);
  bool fits = x.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || x.sizes()[i] == shape[i];
  WINNOW_CHECK(fits, "{} must have shape {}, got {}", what, pattern(shape), x.sizes());
}

void check_indices(std::string_view what, const at::Tensor& ids, int64_t limit) {
  check_defined(what, ids);
  if (ids.numel() == 0 || ids.is_meta() || (!ids.is_cpu() && !debug_checks())) return;
  const auto bounds = at::aminmax(ids.detach());
  const auto low = std::get<0>(bounds).item<int64_t>(), high = std::get<1>(bounds).item<int64_t>();
  WINNOW_CHECK(low >= 0 && high < limit, "{} must be in [0, {}), got {}", what, limit, low < 0 ? low : high);
}

bool debug_checks() {
  return debug_flag().load(std::memory_order_relaxed);
}
void set_debug_checks(bool on) {
  debug_flag().store(on, std::memory_order_relaxed);
}

}  // namespace winnow
