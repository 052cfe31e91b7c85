#include "winnow/io/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "piece_trie.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

// The length of the character that the text begins with, 1 where it begins with none.
std::size_t character_length(std::string_view text) {
  return std::max<std::size_t>(utf8_length(text), 1);
}

}  // namespace

Unigram::Unigram(std::vector<UnigramPiece> pieces, const UnigramOptions& options)
    : pieces_(std::move(pieces)), options_(options) {
  WINNOW_CHECK(options.unk >= -1 && options.unk < size(), "Unigram: unk must be in [-1, {}), got {}", size(),
               options.unk);
  WINNOW_CHECK(pieces_.size() < (std::size_t{1} << 30), "Unigram: {} pieces are too many", pieces_.size());
  double lowest = std::numeric_limits<double>::infinity();
  std::vector<std::pair<std::string, int32_t>> keys;
  for (std::size_t id = 0; id < pieces_.size(); ++id) {
    const auto& piece = pieces_[id];
    WINNOW_CHECK(std::isfinite(piece.score), "Unigram: the score of {} must be finite, got {}",
                 json_quote(printable(piece.text, 60)), piece.score);
    lowest = std::min(lowest, piece.score);
    if (piece.selectable) keys.emplace_back(piece.text, static_cast<int32_t>(id));
  }
  if (!options_.unknown_score) options_.unknown_score = std::isfinite(lowest) ? lowest - 10 : -10;
  trie_ = std::make_shared<PieceTrie>(std::move(keys));
}

// One pass from left to right: the best way to end at each place, given the best ways to end before it.
template <typename Sum>
std::vector<Segment> Unigram::search(std::string_view text) const {
  struct Best {
    Sum sum = 0;
    int64_t id = -1;
    int64_t begin = -1;  // of the last piece; -1: nothing ends here
  };
  std::vector<Best> best(text.size() + 1);
  const auto offer = [&](std::size_t begin, std::size_t end, int64_t id, double score) {
    const auto sum = best[begin].sum + static_cast<Sum>(score);
    auto& target = best[end];
    if (target.begin >= 0 && !(sum > target.sum)) return;
    target = {.sum = sum, .id = id, .begin = static_cast<int64_t>(begin)};
  };
  for (std::size_t begin = 0; begin < text.size();) {
    const auto rest = text.substr(begin);
    const auto character = character_length(rest);
    bool covered = false;
    trie_->prefixes(rest, [&](std::size_t length, int32_t id) {
      offer(begin, begin + length, id, pieces_[static_cast<std::size_t>(id)].score);
      covered = covered || length == character;
    });
    if (!covered) {
      WINNOW_CHECK(options_.unk >= 0, "Unigram: no piece for {} and no unknown piece",
                   json_quote(rest.substr(0, character)));
      offer(begin, begin + character, options_.unk, *options_.unknown_score);
    }
    begin += character;
  }
  std::vector<Segment> segments;
  for (auto end = static_cast<int64_t>(text.size()); end > 0;) {
    const auto& last = best[static_cast<std::size_t>(end)];
    segments.push_back({.id = last.id, .begin = last.begin, .end = end});
    end = last.begin;
  }
  std::reverse(segments.begin(), segments.end());
  return segments;
}

std::vector<Segment> Unigram::encode(std::string_view text) const {
  return options_.float32 ? search<float>(text) : search<double>(text);
}

std::vector<Segment> fuse_unknown(const std::vector<Segment>& segments, int64_t unk) {
  std::vector<Segment> result;
  for (const auto& segment : segments) {
    if (segment.id == unk && !result.empty() && result.back().id == unk) {
      result.back().end = segment.end;
    } else {
      result.push_back(segment);
    }
  }
  return result;
}

}  // namespace winnow::io
