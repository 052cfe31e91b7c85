// The "pre_tokenizer" of a tokenizer.json: how normalised text is cut into the pieces that the model sees. Pieces are
// handed on one by one, so that no list of them is ever made.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "aligned_text.h"
#include "winnow/io/json.h"

namespace winnow::io {

struct Piece {
  std::string_view text;
  const ByteRange* from = nullptr;  // for each byte of text, bytes of the original; null where untracked
  bool at_start = false;            // begins where the original begins

  [[nodiscard]] Piece part(size_t begin, size_t end) const {
    return {text.substr(begin, end - begin), from == nullptr ? nullptr : from + begin, at_start && begin == 0};
  }
};

// Whoever takes the pieces: a reference to a callable that outlives the call.
class PieceSink {
 public:
  template <typename Function>
    requires(!std::is_same_v<std::remove_cvref_t<Function>, PieceSink>)
  PieceSink(Function&& function)  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(&function))), call_([](void* object, const Piece& piece) {
          (*static_cast<std::remove_reference_t<Function>*>(object))(piece);
        }) {}
  void operator()(const Piece& piece) const {
    if (!piece.text.empty()) call_(object_, piece);
  }

 private:
  void* object_;
  void (*call_)(void*, const Piece&);
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void split(const Piece& piece, PieceSink sink) const = 0;
};

// Null for the JSON value null. With `raw_bytes`, a ByteLevel at the end leaves the pieces' bytes as they are, for a
// model that takes bytes. Throws Error(file) naming the key; Error(unsupported) naming the type or the pattern.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Json& json, const std::string& file,
                                                       const std::string& path, bool raw_bytes);
// Whether the last step is ByteLevel.
bool ends_in_byte_level(const Json& json);

}  // namespace winnow::io
