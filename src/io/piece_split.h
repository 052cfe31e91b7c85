// Cutting at delimiters, with the five behaviours of a tokenizer.json.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pre_tokenizer.h"
#include "unicode.h"
#include "winnow/io/json.h"

namespace winnow::io {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
SplitBehavior read_split_behavior(const JsonObject& json, SplitBehavior fallback);

// A stretch of text; whether it is a delimiter.
struct Stretch {
  size_t begin, end;
  bool delimiter;
};
// Hands on what the behaviour makes of stretches that cover the text.
void emit_stretches(const Piece& piece, const std::vector<Stretch>& stretches, SplitBehavior behavior,
                    const PieceSink& sink);

// find(text, from) gives the next match. `invert`: what lies between the matches are the delimiters.
template <typename Find>
void split_at(const Piece& piece, const Find& find, SplitBehavior behavior, bool invert, const PieceSink& sink) {
  const auto text = piece.text;
  std::vector<Stretch> stretches;
  const bool direct = behavior == SplitBehavior::removed || behavior == SplitBehavior::isolated;
  const auto put = [&](size_t begin, size_t end, bool matched) {
    const bool delimiter = matched != invert;
    if (!direct) {
      stretches.push_back({begin, end, delimiter});
    } else if (!delimiter || behavior == SplitBehavior::isolated) {
      sink(piece.part(begin, end));
    }
  };
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const auto match = find(text, at);
    if (!match) break;
    if (match->begin > done) put(done, match->begin, false);
    if (match->end > match->begin) put(match->begin, match->end, true);
    done = match->end;
    at = match->end > match->begin  ? match->end
         : match->end < text.size() ? match->end + unicode::length_of(text[match->end])
                                    : text.size();
  }
  if (done < text.size()) put(done, text.size(), false);
  if (!direct) emit_stretches(piece, stretches, behavior, sink);
}

// The delimiters are the single characters that `is_delimiter` accepts.
template <typename Predicate>
void split_at_characters(const Piece& piece, const Predicate& is_delimiter, SplitBehavior behavior,
                         const PieceSink& sink) {
  const auto find = [&](std::string_view text, size_t from) -> std::optional<Regex::Match> {
    for (auto at = from; at < text.size();) {
      const auto c = unicode::decode(text, at);
      if (is_delimiter(c.code)) return Regex::Match{at, at + c.length};
      at += c.length;
    }
    return std::nullopt;
  };
  split_at(piece, find, behavior, /*invert=*/false, sink);
}

}  // namespace winnow::io
