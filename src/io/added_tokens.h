// The "added_tokens" of a tokenizer.json: tokens that are found in the text before the model sees it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "normalizer.h"
#include "token_tables.h"
#include "tokenizer_model.h"
#include "winnow/io/json.h"

namespace winnow::io {

struct AddedToken {
  int64_t id = 0;
  std::string content{};
  std::string spelling{};               // as it is decoded: what is looked for
  bool special = false;                 // left out when special tokens are skipped
  bool normalized = false;              // looked for in the normalised text, as what its content normalises to
  bool single_word = false;             // only where no word character stands beside it
  bool lstrip = false, rstrip = false;  // takes the blanks on that side with it
};

// Finds which token of a set begins earliest, and of those at one place the longest.
class TokenFinder {
 public:
  void add(std::string_view content, size_t token);
  struct Found {
    size_t begin, end, token;
  };
  [[nodiscard]] std::optional<Found> find(std::string_view text, size_t from) const;
  [[nodiscard]] bool empty() const { return nodes_.empty(); }

 private:
  struct Node {
    int64_t token = -1;
    std::vector<std::pair<char, uint32_t>> next{};
  };
  [[nodiscard]] std::optional<Found> find_at(std::string_view text, size_t at) const;
  std::vector<Node> nodes_;
  bool begins_[256] = {};
};

class AddedTokens {
 public:
  // The tokens of the list "added_tokens". One whose content the model's vocabulary has gets the vocabulary's id.
  AddedTokens(const Json& json, const std::string& file, const TokenModel& model, const Normalizer* normalizer);

  // A stretch of text, or an added token in it.
  struct Part {
    size_t begin, end;
    const AddedToken* token = nullptr;
  };
  // Cuts the text at the tokens that are (not) looked for in normalised text. Without `parse_special` special ones are
  // text.
  [[nodiscard]] std::vector<Part> cut(std::string_view text, bool normalized, bool parse_special) const;

  [[nodiscard]] const AddedToken* find(int64_t id) const;
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view content) const;
  [[nodiscard]] int64_t largest_id() const { return largest_id_; }  // -1: none
  [[nodiscard]] bool empty(bool normalized) const { return normalized ? normalized_.empty() : raw_.empty(); }

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<int64_t, size_t> by_id_;
  StringTable by_content_;
  TokenFinder raw_, normalized_;
  int64_t largest_id_ = -1;
};

}  // namespace winnow::io
