// Small functions on text, for messages and tables.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

// The fewest insertions, deletions, replacements and swaps of neighbours that turn a into b, by bytes (optimal string
// alignment). Time a.size() * b.size().
int64_t edit_distance(std::string_view a, std::string_view b);

// The candidate that the word was probably meant to be: the least edit distance, ignoring case, if at most a third of
// the word's length (at least 1; the earlier candidate on a tie), or one that begins with the word or with which the
// word begins; else none.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

// "; did you mean NAME?" or "": to be put behind a message.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

// "1.5 GiB", "312 B".
std::string human_bytes(int64_t bytes);
// "85.8 M", "7.0 B" (10^9), "312": parameters and operations.
std::string human_count(double count);
// "0.8 s", "46 s", "3 min 05 s", "2 h 07 min", "3 d 04 h". Negative or NaN: "?".
std::string human_duration(double seconds);

// One printable line: control characters and bytes that are not UTF-8 become \n, \t or \x1b; longer than `limit` bytes:
// cut (never inside a character) and ended by "...".
std::string printable(std::string_view text, size_t limit = 200);

// The length in bytes of the valid UTF-8 character that the text begins with; 0 if there is none. The empty text: 0.
size_t utf8_length(std::string_view text);

// In double quotes, with JSON's escapes; bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

std::string_view trim(std::string_view text);
// Parts between separators; "a,,b" has three, "" has one.
std::vector<std::string> split(std::string_view text, char separator);

// "a, b, c" of anything fmt can print.
template <typename Range>
std::string join(const Range& items, std::string_view separator = ", ") {
  return fmt::format("{}", fmt::join(items, separator));
}

}  // namespace winnow
