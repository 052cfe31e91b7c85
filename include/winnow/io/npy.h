// NumPy's .npy files, versions 1 to 3.
#pragma once

#include <ATen/core/Tensor.h>

#include "winnow/io/bytes.h"

namespace winnow::io {

// The array of a .npy file, contiguous, in memory of its own: bool, (u)int8..64, float16..64, complex64/128, either
// byte order, C or Fortran order. Throws Error(file) naming the file for another magic or version, a malformed header,
// a size that does not fit the content exactly; Error(unsupported) for arrays of objects, strings or records.
at::Tensor read_npy(const std::filesystem::path& path);
at::Tensor parse_npy(Bytes bytes, const std::string& name = kMemoryName);

// Writes version 1.0 (C order, little-endian), atomically. bfloat16, which NumPy lacks, is an Error(argument).
void write_npy(const std::filesystem::path& path, const at::Tensor& tensor);
std::vector<uint8_t> to_npy(const at::Tensor& tensor);

}  // namespace winnow::io
