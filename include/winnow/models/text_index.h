// Search by meaning: the vectors of a list of texts, kept in a file, and the nearest of them to a query.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "winnow/models/sentence_encoder.h"

namespace winnow::models {

struct TextHit {
  int64_t text = 0;    // its number
  double score = 0.0;  // cosine with the query
};

// vectors [N, D] floating, rows of length 1, as a SentenceEncoder that normalises gives them.
struct TextIndex {
  at::Tensor vectors;

  // The min(k, N) texts of the largest cosine with query [D], best first; equal ones: lower number first. Throws
  // winnow::Error for a query of another width, or k < 1.
  [[nodiscard]] std::vector<TextHit> search(const at::Tensor& query, int64_t k) const;
};

struct IndexOptions {
  std::filesystem::path file = {};  // safetensors file of the vectors; empty: none is read or written
  EmbedOptions embed = {};
  int64_t chunk = 1024;                             // texts between two calls of progress
  std::function<void(int64_t done)> progress = {};  // told how many texts are done, first 0; may throw
};

// The vectors of texts by an encoder that normalises. They are read from options.file if that holds those of exactly
// these texts (by checksum) and of this encoder (its first text is encoded again and compared); else they are computed
// and written there. Throws Error(file) for a file that is not an index.
TextIndex index_texts(const SentenceEncoder& encoder, std::span<const std::string> texts,
                      const IndexOptions& options = {});

}  // namespace winnow::models
