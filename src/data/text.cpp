#include "winnow/data/text.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/tensor/check.h"

namespace winnow::data {

EnumNames<DocumentCut> enum_names(DocumentCut) {
  return {{"none", DocumentCut::none}, {"lines", DocumentCut::lines}, {"paragraphs", DocumentCut::paragraphs}};
}

Fields<MaskingOptions> MaskingOptions::fields() {
  return Fields<MaskingOptions>("Masking")
      .add("share", &MaskingOptions::share, "of the tokens that are to be predicted", in_range(0, 1))
      .add("replaced", &MaskingOptions::replaced, "of those: share that becomes the mask token", in_range(0, 1))
      .add("random", &MaskingOptions::random, "of those: share that becomes any token", in_range(0, 1));
}

namespace {

// The line that begins at `from`, without its end; `from` moves behind it.
std::string_view take_line(std::string_view text, size_t& from) {
  const auto end = std::min(text.find('\n', from), text.size());
  auto line = text.substr(from, end - from);
  from = end + 1;
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

TokenDocuments gather(const std::vector<std::vector<int32_t>>& parts) {
  int64_t total = 0;
  TokenDocuments result;
  for (const auto& part : parts) {
    if (part.empty()) continue;
    result.starts.push_back(total);
    total += static_cast<int64_t>(part.size());
  }
  result.ids = at::empty({total}, at::kInt);
  auto* to = result.ids.data_ptr<int32_t>();
  for (const auto& part : parts) to = std::copy(part.begin(), part.end(), to);
  return result;
}

}  // namespace

std::vector<std::string_view> cut_documents(std::string_view text, DocumentCut cut) {
  std::vector<std::string_view> result;
  if (cut == DocumentCut::none) {
    if (!trim(text).empty()) result.push_back(text);
    return result;
  }
  size_t begin = std::string_view::npos, end = 0;  // of the paragraph that is open
  const auto close = [&] {
    if (begin != std::string_view::npos) result.push_back(text.substr(begin, end - begin));
    begin = std::string_view::npos;
  };
  for (size_t from = 0; from < text.size();) {
    const auto at = from;
    const auto line = take_line(text, from);
    if (trim(line).empty()) {
      close();
      continue;
    }
    if (begin == std::string_view::npos) begin = at;
    end = at + line.size();
    if (cut == DocumentCut::lines) close();
  }
  close();
  return result;
}

TokenDocuments encode_documents(const std::vector<std::string_view>& documents, const io::Tokenizer& tokenizer,
                                std::optional<int64_t> end) {
  WINNOW_CHECK(!end || (*end >= 0 && *end < tokenizer.vocab_size()),
               "encode_documents: end must be an id of the tokenizer, got {}", end.value_or(0));
  const std::vector<std::string> texts(documents.begin(), documents.end());
  const auto encodings = tokenizer.encode_batch(texts, {.add_special_tokens = false});
  std::vector<std::vector<int32_t>> parts;
  for (const auto& encoding : encodings) {
    auto& part = parts.emplace_back();
    for (const auto id : encoding.ids) part.push_back(static_cast<int32_t>(id));
    if (end) part.push_back(static_cast<int32_t>(*end));
  }
  return gather(parts);
}

TokenDocuments encode_bytes(const std::vector<std::string_view>& documents, std::optional<int64_t> end) {
  WINNOW_CHECK(!end || *end >= 0, "encode_bytes: end must be >= 0, got {}", end.value_or(0));
  std::vector<std::vector<int32_t>> parts;
  for (const auto document : documents) {
    auto& part = parts.emplace_back();
    for (const char c : document) part.push_back(static_cast<unsigned char>(c));
    if (end) part.push_back(static_cast<int32_t>(*end));
  }
  return gather(parts);
}

std::pair<TokenDocuments, TokenDocuments> hold_out(const TokenDocuments& text, double share) {
  WINNOW_CHECK(share >= 0 && share <= 1, "hold_out: share must be in [0, 1], got {}", share);
  const auto T = text.tokens();
  auto cut = T - static_cast<int64_t>(std::llround(share * static_cast<double>(T)));
  if (text.documents() > 1 && cut > 0 && cut < T) {
    cut = *std::prev(std::upper_bound(text.starts.begin(), text.starts.end(), cut));
    if (cut == 0) cut = text.starts[1];
  }
  TokenDocuments first{.ids = text.ids.slice(0, 0, cut), .starts = {}},
      second{.ids = text.ids.slice(0, cut), .starts = {}};
  for (const auto start : text.starts) {
    if (start < cut) {
      first.starts.push_back(start);
    } else {
      second.starts.push_back(start - cut);
    }
  }
  if (cut < T && (second.starts.empty() || second.starts[0] != 0)) second.starts.insert(second.starts.begin(), 0);
  return {std::move(first), std::move(second)};
}

MaskedTokens mask_tokens(const at::Tensor& ids, const at::Tensor& special, int64_t mask_id, int64_t vocab_size,
                         at::Generator generator, const MaskingOptions& options) {
  check(options);
  check_dtype("mask_tokens: ids", ids, at::kLong);
  WINNOW_CHECK(mask_id >= 0 && mask_id < vocab_size, "mask_tokens: mask_id must be in [0, vocab_size = {}), got {}",
               vocab_size, mask_id);
  WINNOW_CHECK(options.replaced + options.random <= 1, "mask_tokens: replaced + random must be at most 1, got {}",
               options.replaced + options.random);
  auto chosen = at::rand(ids.sizes(), generator) < options.share;
  const auto fate = at::rand(ids.sizes(), generator);
  const auto any = at::randint(0, vocab_size, ids.sizes(), generator, at::kLong);
  if (special.defined()) {
    check_dtype("mask_tokens: special", special, at::kBool);
    check_shape("mask_tokens: special", special, ids.sizes());
    chosen = chosen & special.logical_not();
  }
  auto corrupted = ids.masked_fill(chosen & (fate < options.replaced), mask_id);
  const auto becomes_any = chosen & (fate >= options.replaced) & (fate < options.replaced + options.random);
  corrupted = at::where(becomes_any, any, corrupted);
  return {.ids = corrupted, .labels = at::where(chosen, ids, at::full_like(ids, -100))};
}

}  // namespace winnow::data
