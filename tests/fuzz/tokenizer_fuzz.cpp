// Any bytes as a tokenizer.json: it loads and then takes any text and any ids, or there is one winnow::Error. The input
// is a tokenizer.json, a zero byte, and a text; without a zero byte the whole is also a text for a fixed byte-level
// tokenizer, whose decoding must give the text back.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/io/tokenizer.h"

namespace {

using winnow::io::Json;
using winnow::io::Tokenizer;

// All 256 bytes and a few merges, cut by the pattern of Llama 3.
std::shared_ptr<const Tokenizer> byte_level() {
  Json vocab = Json::object();
  for (int byte = 0, next = 0x100; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const int code = printable ? byte : next++;
    std::string token;
    if (code < 0x80) {
      token += static_cast<char>(code);
    } else {
      token += static_cast<char>(0xC0 | code >> 6);
      token += static_cast<char>(0x80 | (code & 0x3F));
    }
    vocab[token] = byte;
  }
  vocab["he"] = 256;
  vocab["the"] = 257;
  const Json split = {
      {"type", "Split"},
      {"behavior", "Isolated"},
      {"pattern",
       {{"Regex",
         R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}};
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  return winnow::io::parse_tokenizer_json({{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e", "t he"}}}},
                                           {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}},
                                           {"decoder", {{"type", "ByteLevel"}}}});
}

void use(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text) {
  const auto plain = tokenizer->encode(text, {.replace_invalid = true});
  const auto tracked = tokenizer->encode(text, {.offsets = true, .replace_invalid = true});
  if (plain.ids != tracked.ids || tracked.offsets.size() != tracked.ids.size()) std::abort();
  for (const auto& [begin, end] : tracked.offsets) {
    if (begin < 0 || end < begin || end > static_cast<int64_t>(text.size())) std::abort();
  }
  std::vector<int64_t> ids = plain.ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  winnow::io::StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const auto id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed != tokenizer->decode(ids, true)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto fixed = byte_level();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto zero = input.find('\0');
  const auto text = zero == std::string_view::npos ? input : input.substr(zero + 1);
  use(fixed, text);
  try {
    const auto ids = fixed->encode(text).ids;
    if (fixed->decode(ids) != text) std::abort();
  } catch (const winnow::Error&) {
  }
  try {
    use(winnow::io::parse_tokenizer_json(winnow::io::parse_json(input.substr(0, zero))), text);
  } catch (const winnow::Error&) {
  }
  return 0;
}
