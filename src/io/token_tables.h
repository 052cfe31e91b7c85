// Hash tables of a tokenizer's vocabulary: built once, looked up without allocation.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace winnow::io {

inline uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD6E8FEB86659FD93u);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_bytes(std::string_view text) {
  uint64_t hash = text.size();
  const char* at = text.data();
  auto left = text.size();
  for (; left >= 8; left -= 8, at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    hash = mix(hash, word);
  }
  uint64_t word = 0;
  if (left >= 4) {
    uint32_t low = 0, high = 0;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + left - 4, 4);
    word = static_cast<uint64_t>(high) << 32 | low;
  } else if (left > 0) {
    const auto byte = [&](size_t i) { return static_cast<uint64_t>(static_cast<unsigned char>(at[i])); };
    word = byte(0) | byte(left / 2) << 8 | byte(left - 1) << 16;
  }
  return mix(hash, word);
}

// From text to a number.
class StringTable {
 public:
  void reserve(size_t count);
  // False, and nothing changes, if the key is there already.
  bool insert(std::string_view key, uint32_t value);
  [[nodiscard]] std::optional<uint32_t> find(std::string_view key) const;
  [[nodiscard]] size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint32_t begin, length, value, hash;
  };
  void grow(size_t slots);
  [[nodiscard]] std::string_view key(const Entry& entry) const { return {pool_.data() + entry.begin, entry.length}; }
  std::string pool_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // index of an entry + 1, or 0
};

// From a pair of ids to what they merge into.
class PairTable {
 public:
  struct Merge {
    uint32_t rank, id;
  };
  explicit PairTable(size_t count = 0);
  // The later of two merges of one pair counts.
  void insert(uint32_t first, uint32_t second, Merge merge);
  [[nodiscard]] const Merge* find(uint32_t first, uint32_t second) const {
    const auto key = static_cast<uint64_t>(first) << 32 | second;
    for (auto slot = mix(key, 0) & mask_;; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return &slots_[slot].merge;
      if (slots_[slot].key == kEmpty) return nullptr;
    }
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge{};
  };
  std::vector<Slot> slots_;
  uint64_t mask_ = 0;
};

}  // namespace winnow::io
