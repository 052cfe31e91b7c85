#include "winnow/tensor/generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow {

at::Generator make_generator(uint64_t seed, at::Device device) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  WINNOW_CHECK_KIND(device.is_cuda() && at::hasCUDA(), ErrorKind::unsupported,
                    "make_generator: device must be cpu, or cuda where there is a GPU, got {}", device);
  auto generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace winnow
