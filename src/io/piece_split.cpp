#include "piece_split.h"

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {

SplitBehavior read_split_behavior(const JsonObject& json, SplitBehavior fallback) {
  const auto name = json.get_or<std::string>("behavior", "");
  if (name.empty()) return fallback;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  fail(ErrorKind::file, "{}: {} must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous, got {}",
       json.file(), json.where("behavior"), json_quote(name));
}

namespace {

// Which neighbours become one piece. A delimiter joins what stands before it (or, read backwards, behind it) unless a
// delimiter stands there too; contiguous ones of a kind are one.
std::vector<Stretch> joined(const std::vector<Stretch>& stretches, SplitBehavior behavior) {
  std::vector<Stretch> result;
  bool before = false;
  for (const auto& s : stretches) {
    const bool join = behavior == SplitBehavior::contiguous ? s.delimiter == before : s.delimiter && !before;
    if (join && !result.empty()) {
      result.back().begin = std::min(result.back().begin, s.begin);
      result.back().end = std::max(result.back().end, s.end);
    } else {
      result.push_back(s);
    }
    before = s.delimiter;
  }
  return result;
}

}  // namespace

void emit_stretches(const Piece& piece, const std::vector<Stretch>& stretches, SplitBehavior behavior,
                    const PieceSink& sink) {
  auto pieces = stretches;
  const bool backwards = behavior == SplitBehavior::merged_with_next;
  if (backwards) std::reverse(pieces.begin(), pieces.end());
  pieces = joined(pieces, behavior);
  if (backwards) std::reverse(pieces.begin(), pieces.end());
  for (const auto& s : pieces) sink(piece.part(s.begin, s.end));
}

}  // namespace winnow::io
