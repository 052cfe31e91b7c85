#include "support/devices.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "winnow/kernels/cuda_stream.h"
#include "winnow/kernels/dispatch.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow::testing {
namespace {

std::vector<DeviceCase> cases(at::DeviceType device) {
  return {{device, at::kDouble, 1e-12},
          {device, at::kFloat, 1e-5},
          {device, at::kBFloat16, 5e-2},
          {device, at::kHalf, 5e-3}};
}

}  // namespace

::testing::internal::ParamGenerator<DeviceCase> cpu_cases() {
  return ::testing::ValuesIn(cases(at::kCPU));
}
::testing::internal::ParamGenerator<DeviceCase> cuda_cases() {
  return ::testing::ValuesIn(cases(at::kCUDA));
}

std::ostream& operator<<(std::ostream& out, const DeviceCase& device_case) {
  return out << c10::DeviceTypeName(device_case.device, /*lower_case=*/true) << ' ' << dtype_name(device_case.dtype);
}

std::string case_name(const ::testing::TestParamInfo<DeviceCase>& info) {
  return c10::DeviceTypeName(info.param.device, /*lower_case=*/true) + "_" + std::string(dtype_name(info.param.dtype));
}

void DeviceTest::SetUp() {
  if (GetParam().device == at::kCUDA && !cuda_usable()) GTEST_SKIP() << "no GPU, or built without CUDA";
}

at::TensorOptions DeviceTest::options() const {
  return at::TensorOptions().device(GetParam().device).dtype(GetParam().dtype);
}

at::Tensor DeviceTest::randn(at::IntArrayRef shape, uint64_t seed) const {
  return at::randn(shape, make_generator(seed), at::kDouble).to(options());
}

bool cuda_usable() {
  return at::hasCUDA() && *kernels::cuda::toolkit_version() != '\0';
}

void for_each_cpu_target(const std::function<void(const std::string&)>& fn) {
  for (const auto& target : kernels::cpu::supported_targets()) {
    SCOPED_TRACE("CPU target " + target);
    const kernels::cpu::TargetOverride narrowed(target);
    EXPECT_EQ(kernels::cpu::target_in_use(), target);
    fn(target);
  }
}

}  // namespace winnow::testing
