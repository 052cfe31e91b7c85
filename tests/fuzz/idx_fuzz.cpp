// Any bytes as an IDX file, plain or gzipped: a tensor, or one winnow::Error.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>

#include "winnow/core/error.h"
#include "winnow/io/idx.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kMaxBytes = 1 << 20;
  try {
    const auto tensor = winnow::io::parse_idx({data, size}, "fuzz", kMaxBytes);
    if (tensor.numel() > 0 && static_cast<int64_t>(tensor.nbytes()) > kMaxBytes) std::abort();
  } catch (const winnow::Error&) {
  }
  return 0;
}
