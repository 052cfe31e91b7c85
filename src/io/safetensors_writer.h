// The bytes of a safetensors file, made piece by piece so that a large model is never copied whole.
#pragma once

#include <functional>
#include <utility>

#include "winnow/io/safetensors.h"

namespace winnow::io {

class SafetensorsWriter {
 public:
  // Checks everything and lays the file out; errors as save_safetensors.
  SafetensorsWriter(const TensorMap& tensors, const StringMap& metadata);

  // Hands the file's bytes to the sink in order, one tensor at a time.
  void write(const std::function<void(const void*, std::size_t)>& sink) const;

  [[nodiscard]] uint64_t size() const { return prefix_.size() + data_size_; }
  [[nodiscard]] uint64_t data_size() const { return data_size_; }

 private:
  std::vector<std::pair<std::string, at::Tensor>> order_;
  std::string prefix_;  // length and header
  uint64_t data_size_ = 0;
};

}  // namespace winnow::io
