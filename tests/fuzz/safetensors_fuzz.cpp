// Any bytes as a safetensors file: every tensor is read whole, or there is one winnow::Error. What was read and written
// again must read the same.
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const winnow::io::SafetensorsFile file(std::vector<uint8_t>(data, data + size));
    winnow::io::TensorMap tensors;
    for (const auto& name : file.names()) tensors.emplace(name, file.tensor(name).clone());
    const winnow::io::SafetensorsFile again(winnow::io::to_safetensors(tensors, file.metadata()));
    if (again.names() != file.names() || again.metadata() != file.metadata()) std::abort();
    for (const auto& [name, tensor] : tensors) {
      const auto copy = again.tensor(name);
      if (copy.sizes() != tensor.sizes() || copy.scalar_type() != tensor.scalar_type()) std::abort();
      if (tensor.numel() == 0) continue;
      const auto bytes = [](const at::Tensor& x) { return x.reshape({-1}).view(at::kByte); };
      if (!at::equal(bytes(copy), bytes(tensor))) std::abort();
    }
  } catch (const winnow::Error&) {
  }
  return 0;
}
