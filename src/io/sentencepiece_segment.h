// Normalised text to pieces, by each of the four algorithms.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "piece_trie.h"
#include "winnow/io/sentencepiece.h"

namespace winnow::io {

// Thread safe: all members are const.
class SentencePieceSegmenter {
 public:
  explicit SentencePieceSegmenter(const SentencePieceModel& model);

  // Segments cover the text; an unknown character is a segment of its own with the unknown id.
  [[nodiscard]] std::vector<Segment> segment(std::string_view text) const;

  [[nodiscard]] std::optional<int64_t> find(std::string_view piece) const;  // of any type
  [[nodiscard]] const PieceTrie& user_defined() const { return user_defined_; }
  [[nodiscard]] int64_t unk() const { return unk_; }

 private:
  [[nodiscard]] int64_t id(std::string_view piece) const;  // of one that text can become, else unknown
  [[nodiscard]] std::vector<Segment> characters(std::string_view text) const;
  [[nodiscard]] std::vector<Segment> words(std::string_view text) const;

  SentencePieceAlgorithm algorithm_;
  PieceTrie user_defined_;
  PieceTrie pieces_;    // normal, user-defined and unused ones: those that text can become
  PieceTrie reserved_;  // the others
  std::vector<float> scores_;
  std::vector<bool> unused_;
  std::optional<Unigram> unigram_;
  int64_t unk_ = 0;

  friend class PieceMerger;
};

}  // namespace winnow::io
