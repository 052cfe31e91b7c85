// The "decoder" of a tokenizer.json: tokens to text, one by one. A decoder is a chain of stages; each takes tokens and
// hands on tokens, holding back only what later tokens may still change.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::io {

class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  using Next = std::function<void(std::string_view)>;
  virtual void push(std::string_view token, const Next& next) = 0;
  virtual void finish(const Next&) {}  // the last token has come
};

// Makes the stages of one decoding afresh each time.
using DecodeStages = std::vector<std::unique_ptr<DecodeStage>>;
using DecodeStagesMaker = std::function<DecodeStages()>;

// Null gives tokens joined by blanks. Throws Error(file) naming the key; Error(unsupported) naming the type.
DecodeStagesMaker make_decoder(const Json& json, const std::string& file);

}  // namespace winnow::io
