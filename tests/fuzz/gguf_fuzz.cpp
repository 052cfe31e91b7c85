// Any bytes as a GGUF file: every tensor is read whole and the tokenizer is made, or there is one winnow::Error.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/io/gguf.h"
#include "winnow/io/gguf_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const winnow::io::GgufFile file(std::vector<uint8_t>(data, data + size));
    for (const auto& name : file.names()) {
      try {
        const auto tensor = file.tensor(name);
        if (tensor.sizes() != file.entries().at(name).shape) std::abort();
      } catch (const winnow::Error&) {
      }
    }
    const auto tokenizer = winnow::io::load_gguf_tokenizer(file);
    const auto ids = tokenizer->encode("The 3 cats, caf\xc3\xa9.").ids;
    (void)tokenizer->decode(ids);
  } catch (const winnow::Error&) {
  }
  return 0;
}
