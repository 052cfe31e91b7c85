#include "winnow/io/tokenizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "post_processor.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

using Strategy = Truncation::Strategy;

template <typename List>
void keep_part(List& list, size_t begin, size_t end) {
  if (list.empty()) return;
  list = List(list.begin() + static_cast<int64_t>(begin), list.begin() + static_cast<int64_t>(end));
}

void truncate(Encoding& encoding, int64_t length, bool from_left) {
  const auto size = static_cast<int64_t>(encoding.ids.size());
  if (length >= size) return;
  const auto begin = static_cast<size_t>(from_left ? size - length : 0), end = begin + static_cast<size_t>(length);
  keep_part(encoding.ids, begin, end);
  keep_part(encoding.offsets, begin, end);
  keep_part(encoding.type_ids, begin, end);
  keep_part(encoding.special, begin, end);
  keep_part(encoding.attention_mask, begin, end);
}

int64_t size_of(const Encoding& encoding) {
  return static_cast<int64_t>(encoding.ids.size());
}

// The longer text is cut down to the other's length first, then both alike.
std::pair<int64_t, int64_t> longest_first(int64_t first, int64_t second, int64_t most) {
  auto small = std::min(first, second), large = std::max(first, second);
  large = small > most ? small : std::max(small, most - small);
  if (small + large > most) {
    small = most / 2;
    large = small + most % 2;
  }
  return first > second ? std::pair(large, small) : std::pair(small, large);
}

void truncate(Encoding& first, Encoding* second, const Truncation& truncation, int64_t added) {
  WINNOW_CHECK(truncation.max_length >= added,
               "encode: truncation.max_length must be at least {}, the number of special tokens, got {}", added,
               truncation.max_length);
  const auto most = truncation.max_length - added;
  const auto total = size_of(first) + (second == nullptr ? 0 : size_of(*second));
  if (total <= most) return;
  if (most == 0) {
    truncate(first, 0, truncation.from_left);
    if (second != nullptr) truncate(*second, 0, truncation.from_left);
    return;
  }
  if (truncation.strategy == Strategy::longest_first) {
    if (second == nullptr) return truncate(first, most, truncation.from_left);
    const auto [a, b] = longest_first(size_of(first), size_of(*second), most);
    truncate(first, a, truncation.from_left);
    truncate(*second, b, truncation.from_left);
    return;
  }
  const bool only_first = truncation.strategy == Strategy::only_first;
  WINNOW_CHECK(only_first || second != nullptr, "encode: truncation of the second text only, but there is one text");
  auto& target = only_first ? first : *second;
  WINNOW_CHECK(size_of(target) > total - most, "encode: the text to be truncated has {} tokens, and {} must go",
               size_of(target), total - most);
  truncate(target, size_of(target) - (total - most), truncation.from_left);
}

void fill_lists(Encoding& encoding, int64_t type_id) {
  encoding.type_ids.assign(encoding.ids.size(), type_id);
  encoding.special.assign(encoding.ids.size(), false);
  encoding.attention_mask.assign(encoding.ids.size(), 1);
}

void pad(Encoding& encoding, int64_t length, const Padding& padding, bool offsets) {
  const auto missing = length - size_of(encoding);
  if (missing <= 0) return;
  const auto add = [&](auto& list, auto value) {
    list.insert(padding.on_left ? list.begin() : list.end(), static_cast<size_t>(missing), value);
  };
  add(encoding.ids, padding.id);
  if (offsets) add(encoding.offsets, std::pair<int64_t, int64_t>(0, 0));
  add(encoding.type_ids, padding.type_id);
  add(encoding.special, true);
  add(encoding.attention_mask, int64_t{0});
}

void pad_all(std::span<Encoding> encodings, const EncodeOptions& options) {
  if (!options.padding) return;
  const auto& padding = *options.padding;
  WINNOW_CHECK(padding.multiple_of >= 1, "encode: padding.multiple_of must be at least 1, got {}", padding.multiple_of);
  WINNOW_CHECK(padding.length.value_or(0) >= 0, "encode: padding.length must be at least 0, got {}", *padding.length);
  int64_t length = padding.length.value_or(0);
  for (const auto& encoding : encodings) {
    if (!padding.length) length = std::max(length, size_of(encoding));
  }
  length = (length + padding.multiple_of - 1) / padding.multiple_of * padding.multiple_of;
  for (auto& encoding : encodings) pad(encoding, length, padding, options.offsets);
}

}  // namespace

Encoding Tokenizer::encode_one(std::string_view text, const EncodeOptions& options, const char* name) const {
  constexpr size_t kLongest = std::numeric_limits<uint32_t>::max() / 8;
  WINNOW_CHECK(text.size() <= kLongest, "encode: {} must have at most {} bytes, got {}", name, kLongest, text.size());
  const auto bad = unicode::find_invalid(text);
  std::string repaired;
  if (bad != std::string_view::npos) {
    WINNOW_CHECK(options.replace_invalid, "encode: {} must be UTF-8, got byte 0x{:02x} at {}", name,
                 static_cast<unsigned char>(text[bad]), bad);
    repaired = unicode::repair(text);
    text = repaired;
  }
  Encoding encoding;
  encode_text(text, options, encoding);
  fill_lists(encoding, 0);
  return encoding;
}

Encoding Tokenizer::finish(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const {
  if (options.truncation) {
    const auto added = options.add_special_tokens ? template_size(second.has_value()) : 0;
    truncate(first, second ? &*second : nullptr, *options.truncation, added);
  }
  if (second) std::fill(second->type_ids.begin(), second->type_ids.end(), 1);
  return add_template(std::move(first), std::move(second), options);
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  auto encoding = finish(encode_one(text, options, "text"), std::nullopt, options);
  pad_all({&encoding, 1}, options);
  return encoding;
}

Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options) const {
  auto a = encode_one(first, options, "first text");
  auto encoding = finish(std::move(a), encode_one(second, options, "second text"), options);
  pad_all({&encoding, 1}, options);
  return encoding;
}

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string> texts, const EncodeOptions& options) const {
  std::vector<Encoding> encodings(texts.size());
  auto one_options = options;
  one_options.padding.reset();
  at::parallel_for(0, static_cast<int64_t>(texts.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      encodings[i] = encode(texts[i], one_options);
  });
  pad_all(encodings, options);
  return encodings;
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special) const {
  std::string bytes;
  const auto steps = decode_steps(skip_special);
  for (const auto id : ids) {
    WINNOW_CHECK(id >= 0, "decode: ids must be at least 0, got {}", id);
    steps->push(id, bytes);
  }
  steps->finish(bytes);
  return unicode::find_invalid(bytes) == std::string::npos ? bytes : unicode::repair(bytes);
}

Encoding Tokenizer::add_template(Encoding first, std::optional<Encoding> second, const EncodeOptions&) const {
  if (second) append_encoding(first, *second);
  return first;
}

int64_t Tokenizer::template_size(bool) const {
  return 0;
}

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {
  WINNOW_CHECK(tokenizer_ != nullptr, "StreamDecoder: tokenizer must not be null");
}

std::string StreamDecoder::push(int64_t id) {
  WINNOW_CHECK(id >= 0, "StreamDecoder::push: id must be at least 0, got {}", id);
  if (steps_ == nullptr) steps_ = tokenizer_->decode_steps(skip_special_);
  steps_->push(id, pending_);
  const auto tail = unicode::incomplete_tail(pending_);
  auto text = unicode::repair(std::string_view(pending_).substr(0, pending_.size() - tail));
  pending_.erase(0, pending_.size() - tail);
  return text;
}

std::string StreamDecoder::finish() {
  if (steps_ != nullptr) steps_->finish(pending_);
  steps_.reset();
  return unicode::repair(std::exchange(pending_, {}));
}

}  // namespace winnow::io
