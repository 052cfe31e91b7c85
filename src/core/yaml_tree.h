// A YAML document as a tree of our own, read under strict limits. The only user of yaml-cpp is yaml_tree.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace winnow::detail {

inline constexpr int64_t kMaxYamlBytes = int64_t{1} << 20;
inline constexpr int kMaxYamlDepth = 32;
inline constexpr int64_t kMaxYamlNodes = 100'000;

// Where a piece of YAML came from. On the command line every error about it is a UsageError.
struct YamlSource {
  std::string name;  // the file, or "--set train.lr=1"
  bool command_line = false;
};

struct YamlNode {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string text;               // of a scalar
  bool quoted = false;            // a scalar in quotes or a block: text, never a number
  std::vector<YamlNode> items;    // of a list; the values of a map
  std::vector<std::string> keys;  // of a map, beside items; unique
  std::shared_ptr<const YamlSource> source;
  int64_t line = 0;  // from 1; 0: not from a file

  // What Config::read has seen of it.
  bool read = false;
  std::vector<std::string> known;  // of a map: the keys that were asked for

  [[nodiscard]] YamlNode* find(std::string_view key);
};

// Parses one document. Empty text gives a null node.
YamlNode parse_yaml(std::string_view text, std::shared_ptr<const YamlSource> source);

// Throws UsageError or Error (config) by the source: "mae.yaml:3: MESSAGE".
[[noreturn]] void fail_at(const YamlSource& source, int64_t line, const std::string& message);
[[noreturn]] inline void fail_at(const YamlNode& node, const std::string& message) {
  fail_at(*node.source, node.line, message);
}

// "null", "a list of 3", "a mapping", or the scalar as "text", for "got ...".
std::string describe(const YamlNode& node);

}  // namespace winnow::detail
