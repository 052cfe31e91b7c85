#include "aligned_text.h"

#include <algorithm>

#include "unicode.h"

namespace winnow::io {

AlignedText::AlignedText(std::string_view original, uint32_t origin, bool track)
    : text(original), tracked(track), at_start(origin == 0) {
  if (!tracked) return;
  from.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto length = unicode::length_of(text[at]);
    const auto begin = origin + static_cast<uint32_t>(at);
    from.insert(from.end(), length, ByteRange{begin, begin + length});
    at += length;
  }
}

void AlignedText::transform(const std::vector<CharChange>& changes, size_t removed) {
  std::string fresh;
  std::vector<ByteRange> places;
  size_t at = 0;  // in the old text
  const auto skip = [&] {
    if (at < text.size()) at += unicode::length_of(text[at]);
  };
  fresh.reserve(text.size());
  for (size_t i = 0; i < removed; ++i) skip();
  if (removed > 0) at_start = false;
  for (const auto& [code, change] : changes) {
    const auto before = fresh.size();
    unicode::append(fresh, code);
    if (!tracked) continue;
    const auto place = change > 0 ? (at == 0 ? ByteRange{0, 0} : from[at - 1]) : from[std::min(at, from.size() - 1)];
    places.insert(places.end(), fresh.size() - before, place);
    for (int32_t i = change; i <= 0; ++i) skip();
  }
  text = std::move(fresh);
  from = std::move(places);
}

void AlignedText::filter(const std::function<bool(uint32_t)>& keep) {
  std::vector<CharChange> changes;
  size_t removed_first = 0;
  for (const auto code : unicode::to_codes(text)) {
    if (keep(code)) {
      changes.push_back({code, 0});
    } else if (changes.empty()) {
      ++removed_first;
    } else {
      --changes.back().change;
    }
  }
  transform(changes, removed_first);
}

void AlignedText::map(const std::function<uint32_t(uint32_t)>& function) {
  std::vector<CharChange> changes;
  for (const auto code : unicode::to_codes(text)) changes.push_back({function(code), 0});
  transform(changes);
}

void AlignedText::prepend(std::string_view prefix) {
  if (text.empty()) return;
  if (tracked) from.insert(from.begin(), prefix.size(), from.front());
  text.insert(0, prefix);
}

void AlignedText::replace(const Regex& pattern, std::string_view content) {
  std::vector<Regex::Match> matches;
  for (size_t at = 0; at <= text.size();) {
    const auto match = pattern.find(text, at);
    if (!match) break;
    matches.push_back(*match);
    at = match->end > match->begin  ? match->end
         : match->end < text.size() ? match->end + unicode::length_of(text[match->end])
                                    : text.size() + 1;
  }
  replace_matches(matches, content);
}

void AlignedText::replace_text(std::string_view pattern, std::string_view content) {
  if (pattern.empty()) return;
  std::vector<Regex::Match> matches;
  for (auto at = text.find(pattern); at != std::string::npos; at = text.find(pattern, at + pattern.size()))
    matches.push_back({at, at + pattern.size()});
  replace_matches(matches, content);
}

void AlignedText::replace_matches(const std::vector<Regex::Match>& matches, std::string_view content) {
  if (matches.empty()) return;
  std::string fresh;
  std::vector<ByteRange> places;
  size_t done = 0;
  const auto keep_up_to = [&](size_t end) {
    fresh.append(text, done, end - done);
    if (tracked)
      places.insert(places.end(), from.begin() + static_cast<int64_t>(done), from.begin() + static_cast<int64_t>(end));
  };
  for (const auto& [begin, end] : matches) {
    keep_up_to(begin);
    fresh.append(content);
    if (tracked) places.insert(places.end(), content.size(), end == 0 ? ByteRange{0, 0} : from[end - 1]);
    done = end;
  }
  keep_up_to(text.size());
  if (matches.front().begin == 0 && content.empty()) at_start = false;
  text = std::move(fresh);
  from = std::move(places);
}

void AlignedText::cut(size_t left, size_t right) {
  size_t begin = 0, end = text.size();
  for (size_t i = 0; i < left && begin < end; ++i) begin += unicode::length_of(text[begin]);
  for (size_t i = 0; i < right && end > begin; ++i) end = unicode::previous(text, end);
  if (begin > 0) at_start = false;
  text = text.substr(begin, end - begin);
  if (tracked)
    from = std::vector<ByteRange>(from.begin() + static_cast<int64_t>(begin), from.begin() + static_cast<int64_t>(end));
}

}  // namespace winnow::io
