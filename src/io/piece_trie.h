// All pieces that a text begins with, by a double-array trie: one table lookup for each byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace winnow::io {

// Thread safe: all members are const.
class PieceTrie {
 public:
  PieceTrie() = default;
  // Values are >= 0; of equal keys the last one counts. Empty keys are left out.
  explicit PieceTrie(std::vector<std::pair<std::string, int32_t>> keys);

  // visit(length, value) for each key that text begins with, shortest first.
  template <typename Visit>
  void prefixes(std::string_view text, Visit visit) const {
    if (nodes_.empty()) return;
    int32_t node = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<uint8_t>(text[i]));
      if (node < 0) return;
      if (const auto value = nodes_[static_cast<std::size_t>(node)].value; value >= 0) visit(i + 1, value);
    }
  }

  // The length of the longest key that text begins with, 0 if none.
  [[nodiscard]] std::size_t longest(std::string_view text) const {
    std::size_t found = 0;
    prefixes(text, [&](std::size_t length, int32_t) { found = length; });
    return found;
  }

  // The value of a key, -1 if it is none.
  [[nodiscard]] int32_t find(std::string_view key) const {
    int32_t found = -1;
    prefixes(key, [&](std::size_t length, int32_t value) { found = length == key.size() ? value : -1; });
    return found;
  }

  [[nodiscard]] bool empty() const { return nodes_.empty(); }

 private:
  // The children of a node stand at base + byte, where their parent is the node.
  struct Node {
    int32_t base = 0, parent = -1, value = -1;
  };
  using Key = std::pair<std::string, int32_t>;

  [[nodiscard]] int32_t child(int32_t node, uint8_t byte) const {
    const auto place = nodes_[static_cast<std::size_t>(node)].base + byte;
    return nodes_[static_cast<std::size_t>(place)].parent == node ? place : -1;
  }
  [[nodiscard]] int32_t free_base(const std::vector<uint8_t>& bytes);
  struct Range {
    int32_t node;
    std::size_t begin, end, depth;
  };
  void add_children(const Range& range, const std::vector<Key>& keys, std::vector<Range>& todo);

  std::vector<Node> nodes_;
  std::size_t first_free_ = 1;
};

}  // namespace winnow::io
