// The "vocab" of a tokenizer.json's model: tokens and ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "token_tables.h"
#include "winnow/io/json.h"

namespace winnow::io {

class Vocabulary {
 public:
  // {"token": id, ..}. Throws Error(file) for an id that is not an integer in [0, 4 * size + 10^6] or stands twice.
  Vocabulary(const Json& json, const std::string& file, const std::string& path);

  [[nodiscard]] std::optional<int64_t> find(std::string_view token) const {
    const auto id = table_.find(token);
    return id ? std::optional<int64_t>(*id) : std::nullopt;
  }
  [[nodiscard]] std::string_view token(int64_t id) const {
    return id >= 0 && id < size() ? std::string_view(tokens_[static_cast<size_t>(id)]) : std::string_view();
  }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(tokens_.size()); }  // the largest id + 1
  [[nodiscard]] const std::vector<std::string>& tokens() const { return tokens_; }
  [[nodiscard]] size_t longest() const { return longest_; }  // bytes

 private:
  StringTable table_;
  std::vector<std::string> tokens_;
  size_t longest_ = 0;
};

}  // namespace winnow::io
