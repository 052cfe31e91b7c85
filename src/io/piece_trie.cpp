#include "piece_trie.h"

#include <algorithm>

namespace winnow::io {

PieceTrie::PieceTrie(std::vector<Key> keys) {
  std::erase_if(keys, [](const Key& key) { return key.first.empty(); });
  if (keys.empty()) return;
  std::stable_sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.first < b.first; });
  nodes_.resize(512);
  nodes_[0].parent = 0;  // taken; no child of the root stands there, since bases are >= 1
  std::vector<Range> todo = {{.node = 0, .begin = 0, .end = keys.size(), .depth = 0}};
  while (!todo.empty()) {
    const auto range = todo.back();
    todo.pop_back();
    add_children(range, keys, todo);
  }
  nodes_.shrink_to_fit();
}

// A base >= 1 at which the places of all bytes are free.
int32_t PieceTrie::free_base(const std::vector<uint8_t>& bytes) {
  while (first_free_ < nodes_.size() && nodes_[first_free_].parent >= 0) ++first_free_;
  // Places far behind the first free one are tried after a while: a crowded beginning is not searched again and again.
  std::size_t misses = 0;
  for (auto place = std::max<std::size_t>(first_free_, bytes.front() + std::size_t{1});; ++place) {
    const auto base = place - bytes.front();
    if (base + 256 > nodes_.size()) nodes_.resize(2 * nodes_.size());
    const bool fits = std::all_of(bytes.begin(), bytes.end(), [&](uint8_t b) { return nodes_[base + b].parent < 0; });
    if (fits) {
      if (misses > 1000) first_free_ = std::max(first_free_, place);
      return static_cast<int32_t>(base);
    }
    ++misses;
  }
}

// The keys of a range share their first `depth` bytes, which lead to its node.
void PieceTrie::add_children(const Range& range, const std::vector<Key>& keys, std::vector<Range>& todo) {
  std::vector<uint8_t> bytes;
  std::vector<std::size_t> starts;
  auto& value = nodes_[static_cast<std::size_t>(range.node)].value;
  for (auto i = range.begin; i < range.end; ++i) {
    if (keys[i].first.size() == range.depth) {
      value = keys[i].second;
      continue;
    }
    const auto byte = static_cast<uint8_t>(keys[i].first[range.depth]);
    if (bytes.empty() || bytes.back() != byte) {
      bytes.push_back(byte);
      starts.push_back(i);
    }
  }
  starts.push_back(range.end);
  const auto base = bytes.empty() ? 1 : free_base(bytes);
  nodes_[static_cast<std::size_t>(range.node)].base = base;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto child = base + bytes[i];
    nodes_[static_cast<std::size_t>(child)].parent = range.node;
    todo.push_back({.node = child, .begin = starts[i], .end = starts[i + 1], .depth = range.depth + 1});
  }
}

}  // namespace winnow::io
