// GGUF files (versions 2 and 3, little-endian): metadata, and tensors that may be kept in few bits. Tensors come out
// dequantised, in the shapes of safetensors. Tokenizer: gguf_tokenizer.h; as a model: models/gguf.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "winnow/io/bytes.h"
#include "winnow/io/json.h"

namespace winnow::io {

// How a tensor is kept. The numbers are those of the files; all types that files may name are known by name, those
// below can be read.
enum class GgufType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q8_0 = 8,
  i8 = 24,
  i16 = 25,
  i32 = 26,
  i64 = 27,
  f64 = 28,
  bf16 = 30
};

struct GgufEntry {
  uint32_t type = 0;           // a GgufType, or one that cannot be read
  std::vector<int64_t> shape;  // slowest dimension first: a linear weight is [out, in]
  uint64_t begin = 0;          // bytes of the file [begin, end); end = begin where the size of the type is unknown
  uint64_t end = 0;
};

// "Q4_1"; "type 99" for a number that no file format version defines.
std::string gguf_type_name(uint32_t type);

// True if the file begins with GGUF's magic number. False for what cannot be opened.
bool is_gguf(const std::filesystem::path& path);

// One file, mapped. Header, metadata and the places of all tensors are read and checked at construction, a tensor's
// data when it is asked for. Thread safe: all members are const.
class GgufFile {
 public:
  // Throws Error(file) naming file and place: no GGUF, another version or byte order, truncated, a length or count that
  // does not fit, a key or a tensor twice, an alignment that is no power of two, a tensor that lies outside the file,
  // unaligned or upon another; Error(unsupported) for a file in parts (split.count).
  explicit GgufFile(const std::filesystem::path& path);
  // The same over bytes, which are copied; `name` is what errors call them.
  explicit GgufFile(std::vector<uint8_t> bytes, std::string name = kMemoryName);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] uint32_t version() const { return version_; }

  // The metadata: one flat object, "llama.block_count": 30. Strings are bytes as they stand in the file, which need not
  // be UTF-8. Typed access with errors that name file and key: metadata().get<int64_t>("llama.block_count").
  [[nodiscard]] const JsonObject& metadata() const { return metadata_; }

  [[nodiscard]] const std::map<std::string, GgufEntry>& entries() const { return entries_; }
  [[nodiscard]] bool has(const std::string& tensor) const { return entries_.contains(tensor); }
  [[nodiscard]] std::vector<std::string> names() const;  // sorted

  // The tensor, on the CPU, in memory of its own: plain numbers as they are kept, Q4_0, Q4_1 and Q8_0 as float32
  // (each weight exactly scale * q + minimum in float32 from the half scales of the file). Throws Error(file) naming
  // file, tensor and the nearest name if there is no such tensor, Error(unsupported) naming tensor and type if the type
  // cannot be read.
  [[nodiscard]] at::Tensor tensor(const std::string& tensor) const;

 private:
  void read();

  std::shared_ptr<const void> owner_;  // the mapping or the bytes
  Bytes bytes_;
  std::string name_;
  uint32_t version_ = 0;
  JsonObject metadata_;
  std::map<std::string, GgufEntry> entries_;
};

}  // namespace winnow::io
