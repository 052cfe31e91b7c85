#include "token_tables.h"

#include <bit>

namespace winnow::io {

void StringTable::grow(size_t slots) {
  slots_.assign(std::bit_ceil(slots), 0);
  const auto mask = slots_.size() - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    auto slot = entries_[i].hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<uint32_t>(i + 1);
  }
}

void StringTable::reserve(size_t count) {
  entries_.reserve(count);
  if (slots_.size() < 2 * count) grow(2 * count + 16);
}

bool StringTable::insert(std::string_view key, uint32_t value) {
  if (find(key)) return false;
  if (slots_.size() < 2 * (entries_.size() + 1)) grow(4 * (entries_.size() + 8));
  const auto hash = static_cast<uint32_t>(hash_bytes(key));
  entries_.push_back({static_cast<uint32_t>(pool_.size()), static_cast<uint32_t>(key.size()), value, hash});
  pool_.append(key);
  const auto mask = slots_.size() - 1;
  auto slot = hash & mask;
  while (slots_[slot] != 0) slot = (slot + 1) & mask;
  slots_[slot] = static_cast<uint32_t>(entries_.size());
  return true;
}

std::optional<uint32_t> StringTable::find(std::string_view text) const {
  if (slots_.empty()) return std::nullopt;
  const auto hash = static_cast<uint32_t>(hash_bytes(text));
  const auto mask = slots_.size() - 1;
  for (auto slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const auto& entry = entries_[slots_[slot] - 1];
    if (entry.hash == hash && key(entry) == text) return entry.value;
  }
  return std::nullopt;
}

PairTable::PairTable(size_t count) : slots_(std::bit_ceil(2 * count + 16)), mask_(slots_.size() - 1) {}

void PairTable::insert(uint32_t first, uint32_t second, Merge merge) {
  const auto key = static_cast<uint64_t>(first) << 32 | second;
  auto slot = mix(key, 0) & mask_;
  while (slots_[slot].key != key && slots_[slot].key != kEmpty) slot = (slot + 1) & mask_;
  slots_[slot] = {key, merge};
}

}  // namespace winnow::io
