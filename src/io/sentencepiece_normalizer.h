// Text as SentencePiece looks for pieces in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "piece_trie.h"
#include "winnow/io/sentencepiece.h"

namespace winnow::io {

inline constexpr std::string_view kBlankMark = "\xe2\x96\x81";  // U+2581, a blank in pieces

struct SentencePieceText {
  std::string text;
  // By byte of text, and one more for its end: the byte of the input that it came from. Empty unless asked for.
  std::vector<std::size_t> origin{};
};

// `bytes` need not be UTF-8; `whole` are the texts that are taken over as they stand (user-defined pieces).
SentencePieceText sentencepiece_normalize(const SentencePieceModel& model, const PieceTrie& whole,
                                          std::string_view bytes, bool with_origin);

// Only the characters mapped, blanks as they are.
std::string sentencepiece_denormalize(const Charsmap& map, std::string_view bytes);

}  // namespace winnow::io
