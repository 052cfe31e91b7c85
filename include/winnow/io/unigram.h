// Unigram segmentation: the pieces of a text whose scores add to the most. Source: Kudo 2018, arXiv 1804.10959.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace winnow::io {

class PieceTrie;

struct UnigramPiece {
  std::string text;
  double score = 0;        // log probability
  bool selectable = true;  // false: never taken from text (unknown, control, byte and unused pieces)
};

// Where a piece stands in the text, in bytes [begin, end). id = unk for a character that no piece covers.
struct Segment {
  int64_t id = 0;
  int64_t begin = 0, end = 0;
};

struct UnigramOptions {
  int64_t unk = 0;  // id of what no piece covers; -1: there is none, and such a character is an error
  // Scores are added in float32, as the SentencePiece library does; else in float64, as tokenizer.json is read.
  bool float32 = false;
  // The score of a character that no piece covers; none: the lowest score of a piece less 10.
  std::optional<double> unknown_score{};
};

// Thread safe: all members are const.
class Unigram {
 public:
  // Ids are positions in `pieces`; a text that stands twice: the last id wins. Throws Error(argument) if unk is no id
  // or a score is not finite.
  explicit Unigram(std::vector<UnigramPiece> pieces, const UnigramOptions& options = {});

  // The best segmentation of the text, left to right; of equal sums the one that a search from the left meets first
  // (the earlier start of the last piece). Neighbouring unknown characters are one Segment each: see fuse_unknown.
  // Text must be UTF-8. Throws Error(argument) for an unknown character where unk is -1.
  [[nodiscard]] std::vector<Segment> encode(std::string_view text) const;

  [[nodiscard]] int64_t unk() const { return options_.unk; }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  [[nodiscard]] const std::string& piece(int64_t id) const { return pieces_.at(static_cast<std::size_t>(id)).text; }

 private:
  template <typename Sum>
  [[nodiscard]] std::vector<Segment> search(std::string_view text) const;

  std::vector<UnigramPiece> pieces_;
  UnigramOptions options_;
  std::shared_ptr<const PieceTrie> trie_;
};

// Neighbouring segments with the id `unk` become one.
std::vector<Segment> fuse_unknown(const std::vector<Segment>& segments, int64_t unk);

}  // namespace winnow::io
