// Header, metadata and tensor places of a GGUF file, checked against the bytes of the file.
#pragma once

#include <map>
#include <string>

#include "winnow/io/gguf.h"

namespace winnow::io {

struct GgufHeader {
  uint32_t version = 0;
  Json metadata = Json::object();
  std::map<std::string, GgufEntry> entries{};
};

// How values of a type are grouped: `bytes` hold `values` neighbours of the fastest dimension. 0 where unknown.
struct GgufBlock {
  int64_t values = 0;
  uint64_t bytes = 0;
};

GgufBlock gguf_block(uint32_t type);

GgufHeader parse_gguf_header(Bytes bytes, const std::string& name);

}  // namespace winnow::io
