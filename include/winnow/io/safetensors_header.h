// The header of a safetensors file, read without trust. No LibTorch.
//
// A file is: 8 bytes little-endian header length N, N bytes of JSON, then the data. The JSON maps each tensor's name to
// {"dtype", "shape", "data_offsets": [begin, end]} with offsets counted from the first byte of data, and may hold
// "__metadata__", a map of strings. Source: the format description of the safetensors project.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/bytes.h"

namespace winnow::io {

// A header longer than this is refused, as by the original implementation.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// One tensor of a file. shape has at most 64 entries, each >= 0; end - begin = elements x element size.
struct SafetensorsEntry {
  std::string dtype;  // as in the file: "F32", "BF16", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // in the whole file, not in its data part
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Bytes of one element of a dtype as it is written in files; 0 if it is unknown.
uint64_t safetensors_dtype_size(std::string_view dtype);

// Reads and checks the header of a whole file given as bytes; the data are not touched. Throws Error(file) that names
// `name` and what is wrong: a length beyond the file or over 100 MB, JSON that is broken, nested or not an object,
// repeated keys, an unknown dtype, a negative or overflowing shape, offsets that are out of range, overlap, leave holes
// or do not fit the shape.
SafetensorsHeader parse_safetensors_header(Bytes file, const std::string& name = kMemoryName);

}  // namespace winnow::io
