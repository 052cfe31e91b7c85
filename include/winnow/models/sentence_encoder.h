// Vectors of sentences: a text encoder, a pooling over its tokens and a normalisation, in the folders of
// sentence-transformers. Source: Reimers and Gurevych 2019, arXiv 1908.10084.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/io/tokenizer.h"
#include "winnow/models/bert.h"

namespace winnow::models {

// How the states of a text's tokens (special ones included, padding never) become one vector.
enum class SentencePooling {
  cls,            // the first token's
  mean,           // their mean
  mean_sqrt_len,  // their sum over the square root of their number
  max,            // the largest of each channel
  last,           // the last token's
};
EnumNames<SentencePooling> enum_names(SentencePooling);

// states [B, L, D], keep [B, L] (nonzero = a token of the text, at least one in a row) -> [B, D].
at::Tensor pool_tokens(const at::Tensor& states, const at::Tensor& keep, SentencePooling pooling);

struct SentenceEncoderOptions {
  SentencePooling pooling = SentencePooling::mean;
  bool normalize = true;
  int64_t max_tokens = 0;  // special ones included; 0 or more than the network's positions: those
  std::map<std::string, std::string> prompts = {};  // name -> text put in front of every text
  std::string default_prompt = {};                  // name of the one used unless another is asked for; empty: none
};

struct EmbedOptions {
  int64_t batch_size = 32;  // texts run together, those of like length
  bool truncate = true;     // texts longer than max_tokens lose their end; false: they are an error
  std::string prompt = {};  // name of a prompt; empty: the default one
};

// A text encoder with its tokenizer. Constant once made: several threads may call encode at once.
class SentenceEncoder {
 public:
  // Throws Error(file) if the tokenizer has ids that the network has no rows for, Error(argument) for options that do
  // not fit.
  SentenceEncoder(Bert model, std::shared_ptr<const io::Tokenizer> tokenizer, SentenceEncoderOptions options = {});

  // Reads modules.json with the configurations that it names, sentence_bert_config.json, the prompts of
  // config_sentence_transformers.json, the tokenizer and the weights. A folder without modules.json is a plain encoder:
  // mean pooling, normalised. Throws Error(unsupported) by name for another kind of module or pooling, Error(file) for
  // what is missing or does not fit.
  static SentenceEncoder load(const std::filesystem::path& folder, const LoadOptions& options = {});

  // One row per text, in their order: [N, D], of length 1 if the encoder normalises. Runs without gradient. Throws
  // winnow::Error for an empty text (no token but special ones) and, unless truncated, one that is too long; both by
  // number.
  [[nodiscard]] at::Tensor encode(std::span<const std::string> texts, const EmbedOptions& options = {}) const;
  [[nodiscard]] at::Tensor encode(const std::string& text, const EmbedOptions& options = {}) const;  // [D]

  [[nodiscard]] int64_t dim() const { return model_->config.hidden_size; }
  [[nodiscard]] const SentenceEncoderOptions& options() const { return options_; }  // with max_tokens filled in
  [[nodiscard]] const io::Tokenizer& tokenizer() const { return *tokenizer_; }
  [[nodiscard]] const Bert& model() const { return model_; }

 private:
  [[nodiscard]] std::vector<std::vector<int64_t>> tokenize(std::span<const std::string> texts,
                                                           const EmbedOptions& options) const;
  [[nodiscard]] at::Tensor run(std::span<const std::vector<int64_t>* const> batch) const;

  Bert model_;
  std::shared_ptr<const io::Tokenizer> tokenizer_;
  SentenceEncoderOptions options_;
};

}  // namespace winnow::models
