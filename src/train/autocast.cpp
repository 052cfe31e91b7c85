#include "winnow/train/autocast.h"

#include <ATen/autocast_mode.h>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::train {
namespace {

at::ScalarType dtype_of(Precision precision) {
  switch (precision) {
    case Precision::bf16: return at::kBFloat16;
    case Precision::fp16: return at::kHalf;
    case Precision::fp32: break;
  }
  return at::kFloat;
}

}  // namespace

AutocastGuard::AutocastGuard(at::DeviceType device_type, Precision precision)
    : AutocastGuard(device_type, dtype_of(precision)) {}

AutocastGuard::AutocastGuard(at::DeviceType device_type, at::ScalarType dtype) : device_type_(device_type) {
  WINNOW_CHECK(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
               "AutocastGuard: dtype must be float32, bfloat16 or float16, got {}", dtype);
  old_enabled_ = at::autocast::is_autocast_enabled(device_type_);
  old_dtype_ = at::autocast::get_autocast_dtype(device_type_);
  at::autocast::set_autocast_enabled(device_type_, dtype != at::kFloat);
  if (dtype != at::kFloat) at::autocast::set_autocast_dtype(device_type_, dtype);
  at::autocast::increment_nesting();
}

AutocastGuard::~AutocastGuard() {
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_dtype(device_type_, old_dtype_);
  at::autocast::set_autocast_enabled(device_type_, old_enabled_);
}

}  // namespace winnow::train
