#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace winnow {

// A new random generator on `device`, seeded. Two of the same seed and device give the same draws; the process-wide
// generator of LibTorch is neither used nor changed. Throws winnow::Error (kind unsupported) if the device has none.
at::Generator make_generator(uint64_t seed, at::Device device = at::Device(at::kCPU));

}  // namespace winnow
