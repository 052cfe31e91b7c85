// The text of one generated sequence as it grows, and where a stop string ends it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/tokenizer.h"
#include "winnow/nn/logit_rules.h"

namespace winnow::models {

// Finds which of some strings is complete first in a text that comes in pieces. Text is passed on as soon as no stop
// string can begin in it any more, so that a stop string is never passed on, not even a part of one.
class StopMatcher {
 public:
  // Throws Error (argument) for an empty string.
  explicit StopMatcher(std::vector<std::string> stops);

  // The text that may be shown now. After a match: "".
  std::string push(std::string_view text);
  // The rest, when the text is over and no stop string was found in it.
  std::string finish();
  // A stop string was found; what push() returned ends right before it.
  [[nodiscard]] bool matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // may be the beginning of a stop string
  bool matched_ = false;
};

// Token by token to text. Joined, what push() and finish() return is the text that the new tokens add to that of the
// prompt (a tokenizer that writes a space before a word writes it here too), cut before a stop string.
class TextStream {
 public:
  TextStream(std::shared_ptr<const io::Tokenizer> tokenizer, std::vector<std::string> stops, TokenSpan prompt = {},
             bool skip_special = true);

  std::string push(int64_t token);
  std::string finish();
  [[nodiscard]] bool stopped() const { return matcher_.matched(); }
  [[nodiscard]] const std::string& text() const { return text_; }  // all that was returned

 private:
  io::StreamDecoder decoder_;
  StopMatcher matcher_;
  std::string text_;
};

}  // namespace winnow::models
