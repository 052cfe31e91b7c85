#include "winnow/models/text_index.h"

#include <torch/types.h>

#include <algorithm>
#include <optional>

#include "winnow/core/error.h"
#include "winnow/core/sha256.h"
#include "winnow/io/safetensors.h"
#include "winnow/tensor/check.h"

namespace winnow::models {
namespace {

constexpr const char* kFormat = "winnow text index 1";

std::string checksum(std::span<const std::string> texts) {
  Sha256 sum;
  for (const auto& text : texts) {
    sum.update(std::to_string(text.size()) + ":");
    sum.update(text);
  }
  return sum.hex();
}

// What the file holds, if it belongs to these texts and this encoder.
std::optional<at::Tensor> read_index(const SentenceEncoder& encoder, std::span<const std::string> texts,
                                     const IndexOptions& options) {
  if (!std::filesystem::exists(options.file)) return {};
  const io::SafetensorsFile file(options.file);
  const auto format = file.metadata().find("format");
  WINNOW_CHECK_KIND(format != file.metadata().end() && format->second == kFormat && file.has("vectors"),
                    ErrorKind::file, "{}: must be a text index written by index_texts", options.file.string());
  const auto sum = file.metadata().find("texts");
  if (sum == file.metadata().end() || sum->second != checksum(texts)) return {};
  const auto vectors = file.tensor("vectors");
  if (vectors.dim() != 2 || vectors.size(0) != static_cast<int64_t>(texts.size()) || vectors.size(1) != encoder.dim()) {
    return {};
  }
  const auto first = encoder.encode(texts.first(1), options.embed)[0].to(at::kCPU, at::kFloat);
  if (!at::allclose(first, vectors[0], 0.0, 1e-4)) return {};
  return vectors;
}

}  // namespace

std::vector<TextHit> TextIndex::search(const at::Tensor& query, int64_t k) const {
  check_shape("TextIndex: query", query, {vectors.size(1)});
  WINNOW_CHECK(k >= 1, "TextIndex: k must be >= 1, got {}", k);
  const auto scores = at::mv(vectors, query.to(vectors.options())).to(at::kCPU, at::kDouble);
  const auto [values, order] = scores.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  std::vector<TextHit> hits;
  for (int64_t i = 0; i < std::min(k, scores.size(0)); ++i) {
    hits.push_back({.text = order[i].item<int64_t>(), .score = values[i].item<double>()});
  }
  return hits;
}

TextIndex index_texts(const SentenceEncoder& encoder, std::span<const std::string> texts, const IndexOptions& options) {
  WINNOW_CHECK(encoder.options().normalize, "index_texts: encoder must normalise its vectors");
  WINNOW_CHECK(!texts.empty(), "index_texts: there must be at least one text");
  WINNOW_CHECK(options.chunk >= 1, "index_texts: chunk must be >= 1, got {}", options.chunk);
  if (!options.file.empty()) {
    if (auto vectors = read_index(encoder, texts, options)) return {.vectors = *std::move(vectors)};
  }
  if (options.progress) options.progress(0);
  std::vector<at::Tensor> parts;
  for (size_t begin = 0; begin < texts.size(); begin += static_cast<size_t>(options.chunk)) {
    const auto part = texts.subspan(begin, std::min(static_cast<size_t>(options.chunk), texts.size() - begin));
    parts.push_back(encoder.encode(part, options.embed).to(at::kCPU, at::kFloat));
    if (options.progress) options.progress(static_cast<int64_t>(begin + part.size()));
  }
  TextIndex index{.vectors = at::cat(parts)};
  if (!options.file.empty()) {
    if (options.file.has_parent_path()) std::filesystem::create_directories(options.file.parent_path());
    io::save_safetensors(options.file, {{"vectors", index.vectors}}, {{"format", kFormat}, {"texts", checksum(texts)}});
  }
  return index;
}

}  // namespace winnow::models
