// Precompiled character maps: the normalisation tables inside SentencePiece models and "Precompiled" normalisers of
// tokenizer.json. A map is a double-array trie over UTF-8 with the replacement of each entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/bytes.h"

namespace winnow::io {

// A rule of the map that a text begins with.
struct CharsmapRule {
  std::size_t length = 0;        // bytes of text that it replaces
  std::string_view replacement;  // lives as long as the map
};

// Thread safe: all members are const. No content of a map makes a lookup leave its tables.
class Charsmap {
 public:
  // Throws Error(file) naming `name` if the sizes inside do not fit.
  explicit Charsmap(Bytes blob, const std::string& name = kMemoryName);

  // The longest rule that text begins with (the SentencePiece library's choice), the shortest (the choice of
  // tokenizer.json's readers), or none.
  [[nodiscard]] std::optional<CharsmapRule> longest(std::string_view text) const;
  [[nodiscard]] std::optional<CharsmapRule> shortest(std::string_view text) const;

 private:
  template <typename Visit>
  void visit_prefixes(std::string_view text, Visit visit) const;
  [[nodiscard]] CharsmapRule rule(std::size_t length, uint32_t value) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // each ended by a zero
};

// What is put into the place of bytes [begin, end) of a text.
struct CharsmapPiece {
  std::size_t begin = 0, end = 0;
  std::string replacement;
};

// The whole text as a "Precompiled" normaliser of tokenizer.json does it: by extended grapheme clusters; one shorter
// than 6 bytes is replaced by the shortest rule that it begins with, else each of its characters is. Pieces cover the
// text; text must be UTF-8.
std::vector<CharsmapPiece> apply_precompiled(const Charsmap& map, std::string_view text);

}  // namespace winnow::io
