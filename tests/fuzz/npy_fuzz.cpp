// Any bytes as a .npy file: an array that is written and read back equal, or one winnow::Error.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "winnow/core/error.h"
#include "winnow/io/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto tensor = winnow::io::parse_npy({data, size});
    const auto again = winnow::io::parse_npy(winnow::io::to_npy(tensor));
    if (again.sizes() != tensor.sizes() || again.scalar_type() != tensor.scalar_type()) std::abort();
    if (tensor.numel() == 0) return 0;
    const auto* a = static_cast<const uint8_t*>(tensor.const_data_ptr());
    const auto* b = static_cast<const uint8_t*>(again.const_data_ptr());
    if (!std::equal(a, a + tensor.nbytes(), b)) std::abort();
  } catch (const winnow::Error&) {
  }
  return 0;
}
