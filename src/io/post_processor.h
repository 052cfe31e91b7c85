// The "post_processor" of a tokenizer.json: special tokens around the text, and offsets without blanks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "winnow/io/json.h"
#include "winnow/io/tokenizer.h"

namespace winnow::io {

class PostProcessor {
 public:
  // Null gives one that changes nothing. Throws Error(file) naming the key; Error(unsupported) naming the type.
  PostProcessor(const Json& json, const std::string& file);

  [[nodiscard]] Encoding apply(Encoding first, std::optional<Encoding> second, bool add_special, bool offsets) const;
  [[nodiscard]] int64_t size(bool pair) const;  // tokens that it adds

  // For each time that offsets are freed of blanks: whether a blank that the pre-tokenizer put in front is left alone.
  [[nodiscard]] const std::vector<bool>& trims() const { return trims_; }

 private:
  struct Item {
    int sequence = -1;  // 0: the first text, 1: the second, -1: special tokens
    int64_t type_id = 0;
    std::vector<int64_t> ids{};
  };
  void read(const Json& json, const std::string& file, const std::string& path);
  void read_template(const JsonObject& json);
  std::vector<Item> read_items(const JsonObject& json, const std::string& key) const;
  Item read_item(const Json& value, const JsonObject& json, const std::string& where) const;
  void read_marks(const JsonObject& json, bool roberta);

  bool has_template_ = false, one_type_ = false;
  std::vector<Item> single_{}, pair_{};
  std::vector<bool> trims_{};
};

// Appends all lists of `other`.
void append_encoding(Encoding& encoding, const Encoding& other);
// Appends tokens that stand for no text.
void append_special(Encoding& encoding, const std::vector<int64_t>& ids, int64_t type_id, bool offsets);

}  // namespace winnow::io
