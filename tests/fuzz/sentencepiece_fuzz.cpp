// Any bytes as a .model: it encodes and decodes any text, or there is one winnow::Error. The first byte tells how many
// bytes at the end are the text.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "winnow/core/error.h"
#include "winnow/io/sentencepiece.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto tail = std::min<size_t>(data[0], size - 1);
  const std::string text(reinterpret_cast<const char*>(data) + size - tail, tail);
  try {
    const winnow::io::SentencePieceTokenizer tokenizer(winnow::io::parse_sentencepiece({data + 1, size - 1 - tail}),
                                                       {.bos = true, .eos = true});
    const auto ids = tokenizer.encode_bytes(text);
    for (const auto id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    }
    (void)tokenizer.decode(ids);
    const auto encoding = tokenizer.encode(text, {.offsets = true, .replace_invalid = true});
    if (encoding.offsets.size() != encoding.ids.size()) std::abort();
  } catch (const winnow::Error&) {
  }
  return 0;
}
