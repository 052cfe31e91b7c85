#include "sentencepiece_segment.h"

#include <algorithm>
#include <limits>
#include <map>
#include <queue>

#include "sentencepiece_normalizer.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

std::size_t character_length(std::string_view text) {
  return std::max<std::size_t>(utf8_length(text), 1);
}

// User-defined pieces gain by their bytes, so that they are taken whole wherever they stand.
Unigram make_unigram(const SentencePieceModel& model, int64_t unk) {
  constexpr double kScoreOfByte = 0.1;
  float lowest = std::numeric_limits<float>::max();
  std::vector<UnigramPiece> pieces;
  for (const auto& piece : model.pieces) {
    const bool user = piece.type == PieceType::user_defined, normal = piece.type == PieceType::normal;
    if (normal) lowest = std::min(lowest, piece.score);
    pieces.push_back({.text = piece.text,
                      .score = user ? kScoreOfByte * static_cast<double>(piece.text.size() - 1) : double{piece.score},
                      .selectable = user || normal});
  }
  return Unigram(std::move(pieces), {.unk = unk, .float32 = true, .unknown_score = lowest - 10.0F});
}

}  // namespace

// Byte-pair merging of one text: the pair whose joint piece scores highest, leftmost first, until no pair is a piece.
class PieceMerger {
 public:
  PieceMerger(const SentencePieceSegmenter& model, std::string_view text) : model_(model), text_(text) {}

  std::vector<Segment> run() {
    split();
    for (std::size_t i = 1; i < symbols_.size(); ++i) offer(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
    while (!agenda_.empty()) {
      const auto pair = agenda_.top();
      agenda_.pop();
      merge(pair);
    }
    std::vector<Segment> segments;
    for (int32_t i = symbols_.empty() ? -1 : 0; i >= 0; i = at(i).next) add(at(i).begin, at(i).end, segments);
    return segments;
  }

 private:
  struct Symbol {
    std::size_t begin, end;  // equal: merged into its left neighbour
    int32_t previous, next;  // -1: none
    bool whole;              // user-defined: never merged
  };
  struct Pair {
    float score;
    int32_t left, right;
    std::size_t size;  // of both when the pair was seen
    bool operator<(const Pair& other) const { return score != other.score ? score < other.score : left > other.left; }
  };

  Symbol& at(int32_t i) { return symbols_[static_cast<std::size_t>(i)]; }

  void split() {
    for (std::size_t begin = 0; begin < text_.size();) {
      const auto rest = text_.substr(begin);
      const auto whole = model_.user_defined_.longest(rest);
      const auto length = whole > 0 ? whole : character_length(rest);
      const auto index = static_cast<int32_t>(symbols_.size());
      symbols_.push_back({begin, begin + length, index - 1, begin + length < text_.size() ? index + 1 : -1, whole > 0});
      begin += length;
    }
  }

  void offer(int32_t left, int32_t right) {
    if (left < 0 || right < 0 || at(left).whole || at(right).whole) return;
    const auto begin = at(left).begin, end = at(right).end;
    const auto id = model_.pieces_.find(text_.substr(begin, end - begin));
    if (id < 0) return;
    agenda_.push({model_.scores_[static_cast<std::size_t>(id)], left, right, end - begin});
    if (model_.unused_[static_cast<std::size_t>(id)]) parts_[text_.substr(begin, end - begin)] = at(left).end - begin;
  }

  void merge(const Pair& pair) {
    auto &left = at(pair.left), &right = at(pair.right);
    const auto left_size = left.end - left.begin, right_size = right.end - right.begin;
    if (left_size == 0 || right_size == 0 || left_size + right_size != pair.size) return;  // changed since
    left.end = right.end;
    left.next = right.next;
    if (right.next >= 0) at(right.next).previous = pair.left;
    right.begin = right.end;
    offer(left.previous, pair.left);
    offer(pair.left, left.next);
  }

  // An unused piece falls apart again into what it was merged from.
  void add(std::size_t begin, std::size_t end, std::vector<Segment>& out) const {
    std::vector<std::pair<std::size_t, std::size_t>> todo = {{begin, end}};
    while (!todo.empty()) {
      const auto [first, last] = todo.back();
      todo.pop_back();
      const auto piece = text_.substr(first, last - first);
      const auto id = model_.id(piece);
      const auto part = model_.unused_[static_cast<std::size_t>(id)] ? parts_.find(piece) : parts_.end();
      if (part == parts_.end()) {
        out.push_back({.id = id, .begin = static_cast<int64_t>(first), .end = static_cast<int64_t>(last)});
        continue;
      }
      todo.emplace_back(first + part->second, last);
      todo.emplace_back(first, first + part->second);
    }
  }

  const SentencePieceSegmenter& model_;
  std::string_view text_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Pair> agenda_;
  std::map<std::string_view, std::size_t> parts_;  // unused piece -> length of its left part
};

SentencePieceSegmenter::SentencePieceSegmenter(const SentencePieceModel& model) : algorithm_(model.algorithm) {
  std::vector<std::pair<std::string, int32_t>> user, pieces, reserved;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    const bool unused = piece.type == PieceType::unused, own = piece.type == PieceType::user_defined;
    (unused || own || piece.type == PieceType::normal ? pieces : reserved).emplace_back(piece.text, id);
    if (own) user.emplace_back(piece.text, id);
    if (piece.type == PieceType::unknown) unk_ = id;
    scores_.push_back(piece.score);
    unused_.push_back(unused);
  }
  user_defined_ = PieceTrie(std::move(user));
  pieces_ = PieceTrie(std::move(pieces));
  reserved_ = PieceTrie(std::move(reserved));
  if (algorithm_ == SentencePieceAlgorithm::unigram) unigram_ = make_unigram(model, unk_);
}

std::optional<int64_t> SentencePieceSegmenter::find(std::string_view piece) const {
  if (const auto id = reserved_.find(piece); id >= 0) return id;
  if (const auto id = pieces_.find(piece); id >= 0) return id;
  return std::nullopt;
}

int64_t SentencePieceSegmenter::id(std::string_view piece) const {
  const auto id = pieces_.find(piece);
  return id >= 0 ? id : unk_;
}

std::vector<Segment> SentencePieceSegmenter::characters(std::string_view text) const {
  std::vector<Segment> segments;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto rest = text.substr(begin);
    const auto whole = user_defined_.longest(rest);
    const auto length = whole > 0 ? whole : character_length(rest);
    segments.push_back({.id = id(rest.substr(0, length)),
                        .begin = static_cast<int64_t>(begin),
                        .end = static_cast<int64_t>(begin + length)});
    begin += length;
  }
  return segments;
}

// A word begins at each blank mark, also where the model has them at the ends of words, as in the library.
std::vector<Segment> SentencePieceSegmenter::words(std::string_view text) const {
  std::vector<Segment> segments;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find(kBlankMark, begin + 1), text.size());
    segments.push_back({.id = id(text.substr(begin, end - begin)),
                        .begin = static_cast<int64_t>(begin),
                        .end = static_cast<int64_t>(end)});
    begin = end;
  }
  return segments;
}

std::vector<Segment> SentencePieceSegmenter::segment(std::string_view text) const {
  switch (algorithm_) {
    case SentencePieceAlgorithm::unigram: return unigram_->encode(text);
    case SentencePieceAlgorithm::bpe: return PieceMerger(*this, text).run();
    case SentencePieceAlgorithm::word: return words(text);
    case SentencePieceAlgorithm::character: return characters(text);
  }
  return {};
}

}  // namespace winnow::io
