// The part of a tokenizer.json that turns one pre-token into ids. Each kind of model is one of these.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::io {

// One token of a pre-token: its bytes are [begin, end) of it.
struct ModelToken {
  int64_t id;
  uint32_t begin, end;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the tokens of one pre-token (valid UTF-8, not empty, below 4 GiB). Thread safe.
  virtual void tokenize(std::string_view piece, std::vector<ModelToken>& out) const = 0;
  [[nodiscard]] virtual std::optional<int64_t> token_id(std::string_view token) const = 0;
  [[nodiscard]] virtual std::string_view token(int64_t id) const = 0;  // "" where there is none
  [[nodiscard]] virtual int64_t vocab_size() const = 0;                // the largest id + 1
  [[nodiscard]] virtual std::optional<int64_t> unk_id() const { return std::nullopt; }
};

// Each takes the object "model" of a tokenizer.json and throws Error(file) or Error(unsupported) naming the key.
// With `raw_bytes` the pieces are bytes, not their characters in the byte-level alphabet; bpe_takes_bytes tells whether
// the model can do that.
std::unique_ptr<TokenModel> make_bpe_model(const JsonObject& model, bool raw_bytes);
bool bpe_takes_bytes(const JsonObject& model);
std::unique_ptr<TokenModel> make_word_piece_model(const JsonObject& model);
std::unique_ptr<TokenModel> make_word_level_model(const JsonObject& model);
std::unique_ptr<TokenModel> make_unigram_model(const JsonObject& model);  // unigram_json.cpp

}  // namespace winnow::io
