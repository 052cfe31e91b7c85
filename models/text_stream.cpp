#include "winnow/models/text_stream.h"

#include <algorithm>

#include "winnow/core/error.h"

namespace winnow::models {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const auto& stop : stops_) WINNOW_CHECK(!stop.empty(), "stop_strings must not hold an empty string");
}

std::string StopMatcher::push(std::string_view text) {
  if (matched_) return "";
  held_ += text;
  // Of several stop strings the one counts that is complete first, then the longer one: so the pieces do not matter.
  size_t first = std::string::npos, end = std::string::npos;
  for (const auto& stop : stops_) {
    const auto begin = held_.find(stop);
    if (begin == std::string::npos || begin + stop.size() > end) continue;
    first = begin + stop.size() < end ? begin : std::min(first, begin);
    end = begin + stop.size();
  }
  matched_ = first != std::string::npos;
  // Otherwise the longest end that a stop string begins with is held back.
  size_t pass = matched_ ? first : held_.size();
  for (const auto& stop : stops_) {
    const auto most = std::min(stop.size() - 1, held_.size());
    for (auto length = matched_ ? 0 : most; length > 0; --length) {
      if (!held_.ends_with(std::string_view(stop).substr(0, length))) continue;
      pass = std::min(pass, held_.size() - length);
      break;
    }
  }
  auto shown = held_.substr(0, pass);
  held_.erase(0, matched_ ? held_.size() : pass);
  return shown;
}

std::string StopMatcher::finish() {
  return matched_ ? std::string() : std::exchange(held_, std::string());
}

TextStream::TextStream(std::shared_ptr<const io::Tokenizer> tokenizer, std::vector<std::string> stops, TokenSpan prompt,
                       bool skip_special)
    : decoder_(std::move(tokenizer), skip_special), matcher_(std::move(stops)) {
  for (const auto token : prompt) decoder_.push(token);
}

std::string TextStream::push(int64_t token) {
  auto shown = matcher_.push(decoder_.push(token));
  text_ += shown;
  return shown;
}

std::string TextStream::finish() {
  auto shown = matcher_.push(decoder_.finish());
  shown += matcher_.finish();
  text_ += shown;
  return shown;
}

}  // namespace winnow::models
