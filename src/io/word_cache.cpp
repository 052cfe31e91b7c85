#include "word_cache.h"

#include <atomic>

namespace winnow::io {

WordCache& WordCache::of_this_thread() {
  thread_local WordCache cache;
  return cache;
}

uint32_t WordCache::new_owner() {
  static std::atomic<uint32_t> owners{0};
  return ++owners;
}

void WordCache::keep(uint32_t owner, std::string_view piece, const ModelToken* tokens, size_t count) {
  if (count > Slot::kTokens || !fits(piece)) return;
  for (size_t i = 0; i < count; ++i) {
    const auto begin = i == 0 ? 0 : tokens[i - 1].end;
    if (tokens[i].id > int64_t{UINT32_MAX} || tokens[i].begin != begin || tokens[i].end > Slot::kKey) return;
  }
  auto* pair = &slots_[pair_of(piece)];
  pair[1] = pair[0];
  auto& slot = pair[0];
  slot.owner = owner;
  slot.length = static_cast<uint8_t>(piece.size());
  slot.count = static_cast<uint8_t>(count);
  std::memcpy(slot.key.data(), piece.data(), piece.size());
  for (size_t i = 0; i < count; ++i) {
    slot.ids[i] = static_cast<uint32_t>(tokens[i].id);
    slot.ends[i] = static_cast<uint8_t>(tokens[i].end);
  }
}

}  // namespace winnow::io
