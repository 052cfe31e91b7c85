// Tensors in safetensors files: the format in which winnow reads and writes all weights. Pickle (.pt, .bin) is never
// read.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "winnow/io/bytes.h"
#include "winnow/io/safetensors_header.h"

namespace winnow::io {

using TensorMap = std::map<std::string, at::Tensor>;
using StringMap = std::map<std::string, std::string>;

// The dtype of LibTorch for a dtype of a file and back. F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL C64
// F8_E4M3 F8_E5M2 are known; another gives Error(unsupported) that names it.
at::ScalarType dtype_of_safetensors(const std::string& dtype, const std::string& file);
const char* safetensors_dtype(at::ScalarType type);

// One file, mapped. The header is read and checked at construction; a tensor's data when it is asked for.
// Thread safe: all members are const.
class SafetensorsFile {
 public:
  // Throws Error(file) as parse_safetensors_header, and for a pickle file one sentence that says how to convert it.
  explicit SafetensorsFile(const std::filesystem::path& path);
  // The same over bytes, which are copied; `name` is what errors call them.
  explicit SafetensorsFile(std::vector<uint8_t> bytes, std::string name = kMemoryName);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const StringMap& metadata() const { return header_.metadata; }
  [[nodiscard]] const std::map<std::string, SafetensorsEntry>& entries() const { return header_.tensors; }
  [[nodiscard]] bool has(const std::string& tensor) const { return header_.tensors.contains(tensor); }
  [[nodiscard]] std::vector<std::string> names() const;  // sorted

  // The tensor, on the CPU. Where its data are aligned for their dtype it shares the mapping, which then lives as long
  // as the tensor: nothing is read before it is used, writes into it stay private to the process, and tensor() called
  // again shows them. Otherwise it is a copy. Throws Error(file) naming file, tensor and the nearest name if there is
  // no such tensor, if its dtype is unsupported, or if a BOOL holds a byte other than 0 and 1.
  [[nodiscard]] at::Tensor tensor(const std::string& tensor) const;

 private:
  std::shared_ptr<const void> owner_;  // the mapping or the bytes
  uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::string name_;
  SafetensorsHeader header_;
};

// All tensors of one file, in memory of their own (later changes of the file do not matter).
TensorMap load_safetensors(const std::filesystem::path& path);

// Writes tensors (any device, any strides) as one file, atomically: a reader sees the old file or the new one, whatever
// happens. Names are sorted in the header, data are ordered by falling element size so that each is aligned. The same
// input gives the same bytes. Throws Error(argument) for a dtype that the format lacks, a tensor that is not dense, or
// the name "__metadata__"; Error(file) if the file cannot be written.
void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors, const StringMap& metadata = {});

// The same bytes, in memory.
std::vector<uint8_t> to_safetensors(const TensorMap& tensors, const StringMap& metadata = {});

struct ShardOptions {
  uint64_t max_shard_bytes = uint64_t{5} << 30;  // data of one file; a larger tensor gets a file of its own
  std::string stem = "model";                    // model.safetensors or model-00001-of-00003.safetensors
};

// Writes tensors into a folder (made if missing) in the layout of published checkpoints: `model.safetensors`, or, where
// the data exceed max_shard_bytes, shards and `model.safetensors.index.json`, which is renamed into place last. Files
// of an earlier save of the other layout are removed at the end.
void save_checkpoint(const std::filesystem::path& folder, const TensorMap& tensors, const StringMap& metadata = {},
                     const ShardOptions& options = {});

// The tensors of a published model: a .safetensors file, an index file (*.safetensors.index.json), or a folder that
// holds `model.safetensors` or `model.safetensors.index.json`. Files are mapped; tensors are read when asked for.
// Thread safe: all members are const.
class Checkpoint {
 public:
  // Throws Error(file): nothing found, pickle, a shard missing, an index that names a tensor its shard lacks, a shard
  // that holds a tensor which the index does not name, one name in two shards, a shard outside the index's folder.
  explicit Checkpoint(const std::filesystem::path& path);
  // The tensors of one file, which may live in memory.
  explicit Checkpoint(std::shared_ptr<const SafetensorsFile> file);

  [[nodiscard]] const std::string& name() const { return name_; }  // path as given, for messages
  [[nodiscard]] bool has(const std::string& tensor) const { return location_.contains(tensor); }
  [[nodiscard]] std::vector<std::string> names() const;                          // sorted
  [[nodiscard]] const SafetensorsEntry& entry(const std::string& tensor) const;  // throws as tensor()
  [[nodiscard]] const std::string& file_of(const std::string& tensor) const;     // the file that holds it
  [[nodiscard]] at::Tensor tensor(const std::string& tensor) const;              // see SafetensorsFile::tensor
  [[nodiscard]] StringMap metadata() const;                                      // of all files, the first one wins

 private:
  [[nodiscard]] const SafetensorsFile& file(const std::string& tensor) const;

  std::string name_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::map<std::string, std::size_t> location_;  // tensor name -> index into files_
};

}  // namespace winnow::io
