#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

// A fact is written once and runs over {device, dtype, tolerance}: derive from DeviceTest, use TEST_P, then
//   INSTANTIATE_TEST_SUITE_P(Cpu, MaskingTest, cpu_cases(), case_name);
//   INSTANTIATE_TEST_SUITE_P(Cuda, MaskingTest, cuda_cases(), case_name);
// The Cuda cases always exist and skip themselves where there is no GPU or no CUDA in the build.
namespace winnow::testing {

struct DeviceCase {
  at::DeviceType device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  double tolerance = 0;  // a fair absolute error for values of order 1 in that dtype
};

// "cpu float32": how a failing case prints.
std::ostream& operator<<(std::ostream& out, const DeviceCase& device_case);

// float64, float32, bfloat16, float16 on the device.
::testing::internal::ParamGenerator<DeviceCase> cpu_cases();
::testing::internal::ParamGenerator<DeviceCase> cuda_cases();
std::string case_name(const ::testing::TestParamInfo<DeviceCase>& info);

class DeviceTest : public ::testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override;  // skips a CUDA case without a GPU
  at::TensorOptions options() const;
  double tolerance() const { return GetParam().tolerance; }
  // Normal values, fixed by the seed, on the case's device and dtype.
  at::Tensor randn(at::IntArrayRef shape, uint64_t seed = 0) const;
  at::Tensor on_device(const at::Tensor& x) const { return x.to(GetParam().device); }
};

// Whether CUDA kernels can run here.
bool cuda_usable();

// Runs fn(name) once for each CPU target that the machine supports, the kernels narrowed to it, and fails the test
// unless the kernels that ran were compiled for that target.
void for_each_cpu_target(const std::function<void(const std::string&)>& fn);

}  // namespace winnow::testing
