// Writes small GGUF files for tests, right or wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace winnow::testing {

class GgufBytes {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;

  GgufBytes& u32(std::string_view key, uint32_t value) { return scalar(key, 4, value); }
  GgufBytes& f32(std::string_view key, float value) { return scalar(key, 6, value); }
  GgufBytes& boolean(std::string_view key, bool value) { return scalar(key, 7, static_cast<uint8_t>(value)); }
  GgufBytes& string(std::string_view key, std::string_view value) {
    head(key, 8);
    put(metadata_, value);
    return *this;
  }
  GgufBytes& strings(std::string_view key, const std::vector<std::string>& values) {
    array_head(key, 8, values.size());
    for (const auto& value : values) put(metadata_, value);
    return *this;
  }
  template <typename T>
  GgufBytes& numbers(std::string_view key, uint32_t type, const std::vector<T>& values) {
    array_head(key, type, values.size());
    for (const auto& value : values) append(metadata_, value);
    return *this;
  }
  template <typename T>
  GgufBytes& scalar(std::string_view key, uint32_t type, T value) {
    head(key, type);
    append(metadata_, value);
    return *this;
  }
  // A key with these bytes as its value.
  GgufBytes& raw(std::string_view key, uint32_t type, std::string_view bytes) {
    head(key, type);
    metadata_ += bytes;
    return *this;
  }

  // `shape`: fastest dimension first, as in files. The data are put behind those of the tensors before.
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type, std::string_view data) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return place(name, shape, type, data_.size(), data);
  }
  GgufBytes& place(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset,
                   std::string_view data) {
    ++tensors_;
    put(infos_, name);
    append(infos_, static_cast<uint32_t>(shape.size()));
    for (const auto size : shape) append(infos_, size);
    append(infos_, type);
    append(infos_, offset);
    data_ += data;
    return *this;
  }
  template <typename T>
  GgufBytes& tensor_of(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                       const std::vector<T>& values) {
    return tensor(name, shape, type, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
  }

  [[nodiscard]] std::vector<uint8_t> bytes() const {
    std::string all = "GGUF";
    append(all, version);
    append(all, tensors_);
    append(all, keys_);
    all += metadata_ + infos_;
    all.resize((all.size() + alignment - 1) / alignment * alignment);
    all += data_;
    return {all.begin(), all.end()};
  }

 private:
  template <typename T>
  static void append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  static void put(std::string& out, std::string_view text) {
    append(out, uint64_t{text.size()});
    out += text;
  }
  void head(std::string_view key, uint32_t type) {
    ++keys_;
    put(metadata_, key);
    append(metadata_, type);
  }
  void array_head(std::string_view key, uint32_t type, uint64_t count) {
    head(key, 9);
    append(metadata_, type);
    append(metadata_, count);
  }

  std::string metadata_, infos_, data_;
  uint64_t tensors_ = 0, keys_ = 0;
};

}  // namespace winnow::testing
