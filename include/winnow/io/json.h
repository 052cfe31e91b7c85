// JSON files such as config.json: strict reading, typed access with errors that name file and key, atomic writing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/bytes.h"

namespace winnow::io {

using Json = nlohmann::json;

struct JsonLimits {
  int64_t max_depth = 64;            // arrays and objects inside each other
  int64_t max_values = 20'000'000;   // numbers, strings, arrays, ... together
  uint64_t max_bytes = 100'000'000;  // of the text
};

// The value of a JSON text. Throws Error(file) that names `name`, line and column for anything that is not JSON in
// UTF-8, a key given twice in one object, or a limit passed.
Json parse_json(std::string_view text, const std::string& name = kMemoryName, const JsonLimits& limits = {});
Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

// Writes the value with two spaces of indentation and a newline at the end, atomically; a number that is not finite is
// written as null. Throws Error(argument) for text that is not UTF-8, Error(file) if the file cannot be written.
void write_json(const std::filesystem::path& path, const Json& value);

// Typed access to one JSON object. Errors are Error(file) and read
//   "config.json: vision_config.hidden_size must be an integer, got \"large\"" or
//   "config.json: hidden_size is missing (nearest: hidden_sizes)".
// A key whose value is null counts as absent. Keys that are never asked for do not matter.
class JsonObject {
 public:
  // `file` names the source in messages, `path` the place inside it ("" = top). Throws if value is not an object.
  JsonObject(Json value, std::string file, std::string path = "");
  static JsonObject read(const std::filesystem::path& file);

  [[nodiscard]] bool has(const std::string& key) const;

  // T: bool, int64_t, double (an integer is taken too), std::string, std::vector<int64_t>, std::vector<double>,
  // std::vector<std::string>. An integer written as 12.0 is an integer.
  template <typename T>
  [[nodiscard]] T get(const std::string& key) const;
  template <typename T>
  [[nodiscard]] T get_or(const std::string& key, T fallback) const {
    return has(key) ? get<T>(key) : fallback;
  }

  [[nodiscard]] JsonObject object(const std::string& key) const;  // a nested object
  [[nodiscard]] const Json& value() const { return value_; }
  [[nodiscard]] const Json& raw(const std::string& key) const;  // any type; throws if absent
  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] std::string where(const std::string& key) const;  // "path.key", for a caller's own message

 private:
  Json value_;
  std::string file_;
  std::string path_;
};

}  // namespace winnow::io
