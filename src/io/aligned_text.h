// Text that is being normalised, with the place in the original that each of its bytes stands for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "regex.h"

namespace winnow::io {

using ByteRange = std::pair<uint32_t, uint32_t>;

// A character of the new text, and how the number of characters changes there: 0, it replaces one; 1, it is inserted
// and stands for what the character before the present place stood for; -n, it replaces one and the n behind it vanish.
struct CharChange {
  uint32_t code;
  int32_t change;
};

struct AlignedText {
  std::string text{};
  std::vector<ByteRange> from{};  // for each byte of text, bytes of the original; empty unless tracked
  bool tracked = false;
  bool at_start = true;  // the text begins where the original begins

  // A stretch of the original that begins at byte `origin`.
  AlignedText(std::string_view original, uint32_t origin, bool track);

  // Replaces the whole text; the first `removed` characters vanish.
  void transform(const std::vector<CharChange>& changes, size_t removed = 0);
  // Keeps the characters that `keep` accepts.
  void filter(const std::function<bool(uint32_t)>& keep);
  // Each character by itself; the same number of characters.
  void map(const std::function<uint32_t(uint32_t)>& function);
  // In front; nothing happens to an empty text.
  void prepend(std::string_view prefix);
  // Each match becomes the content, which stands for the last character matched.
  void replace(const Regex& pattern, std::string_view content);
  void replace_text(std::string_view pattern, std::string_view content);
  // The first `left` and the last `right` characters vanish.
  void cut(size_t left, size_t right);

 private:
  void replace_matches(const std::vector<Regex::Match>& matches, std::string_view content);
};

}  // namespace winnow::io
