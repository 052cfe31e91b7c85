// What a model made of the short pieces that a thread met: text is mostly words that were seen before.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "token_tables.h"
#include "tokenizer_model.h"

namespace winnow::io {

// One table a thread, shared by all tokenizers: a piece has two slots, and
// the latest two stay. 1 MiB.
class WordCache {
 public:
  static WordCache& of_this_thread();
  // A number that no other tokenizer has or had.
  static uint32_t new_owner();

  struct Slot {
    static constexpr size_t kKey = 22, kTokens = 7;
    uint32_t owner = 0;
    uint8_t length = 0, count = 0;
    std::array<char, kKey> key{};
    std::array<uint32_t, kTokens> ids{};
    std::array<uint8_t, kTokens> ends{};  // where each token ends in the piece; it begins where the one before ends
  };
  static_assert(sizeof(Slot) == 64);

  static bool fits(std::string_view piece) { return piece.size() <= Slot::kKey; }
  // The slot that holds the piece, or null.
  [[nodiscard]] const Slot* find(uint32_t owner, std::string_view piece) const {
    const auto* pair = &slots_[pair_of(piece)];
    return holds(pair[0], owner, piece) ? pair : holds(pair[1], owner, piece) ? pair + 1 : nullptr;
  }
  // Keeps the tokens of a piece where they fit.
  void keep(uint32_t owner, std::string_view piece, const ModelToken* tokens, size_t count);

 private:
  static constexpr size_t kSlots = 1 << 14;
  static size_t pair_of(std::string_view piece) { return 2 * (hash_bytes(piece) % (kSlots / 2)); }
  static bool holds(const Slot& slot, uint32_t owner, std::string_view piece) {
    return slot.owner == owner && slot.length == piece.size() &&
           std::memcmp(slot.key.data(), piece.data(), piece.size()) == 0;
  }
  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
};

}  // namespace winnow::io
