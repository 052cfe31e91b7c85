// The "normalizer" of a tokenizer.json: what is done to the text before it is cut.
#pragma once

#include <memory>

#include "aligned_text.h"
#include "winnow/io/json.h"

namespace winnow::io {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(AlignedText& text) const = 0;
};

// Null for the JSON value null. Throws Error(file) naming the key; Error(unsupported) naming the type.
std::unique_ptr<const Normalizer> make_normalizer(const Json& json, const std::string& file, const std::string& path);

// "pattern" of Split and Replace: {"String": ..} or {"Regex": ..}.
struct TextPattern {
  std::string text;
  bool is_regex = false;
};
TextPattern read_pattern(const JsonObject& component);

// NFC, NFD, NFKC or NFKD of the whole text.
void normal_form(AlignedText& text, bool compatibility, bool composed);

}  // namespace winnow::io
