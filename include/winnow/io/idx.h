// IDX, the format of MNIST and Fashion-MNIST, plain or gzipped.
#pragma once

#include <ATen/core/Tensor.h>

#include "winnow/io/bytes.h"

namespace winnow::io {

// The array of an IDX file: uint8, int8, int16, int32, float32 or float64 of any shape, in memory of its own.
// Throws Error(file) naming the file for a wrong magic number, an unknown element type, a size that does not fit the
// length of the content exactly, or a gzip stream that unpacks to more than max_bytes.
at::Tensor read_idx(const std::filesystem::path& path, int64_t max_bytes = kMaxFileBytes);
// Over bytes; gzip is recognised here too.
at::Tensor parse_idx(Bytes bytes, const std::string& name = kMemoryName, int64_t max_bytes = kMaxFileBytes);

}  // namespace winnow::io
