// Tokenizers of published models: text to ids and back, with the files' own rules and no other library. Thread safe:
// a loaded tokenizer is constant. The formats are described in docs/guide/tokenizers.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::io {

// One encoded text. All lists are as long as ids, except that offsets are empty unless they were asked for.
struct Encoding {
  std::vector<int64_t> ids{};
  // [begin, end) in code points of the text given (of the second text where type and template say so); (0, 0) for
  // tokens that the text does not contain: those of the template and padding.
  std::vector<std::pair<int64_t, int64_t>> offsets{};
  std::vector<int64_t> type_ids{};        // 0 or 1: the segment, as the template says
  std::vector<bool> special{};            // true for tokens that the template added and for padding
  std::vector<int64_t> attention_mask{};  // 0 for padding, else 1
};

// What is cut where a text (with its special tokens) is longer than max_length.
struct Truncation {
  enum class Strategy { longest_first, only_first, only_second };
  int64_t max_length = 512;  // of the result, special tokens included
  Strategy strategy = Strategy::longest_first;
  bool from_left = false;  // drop the beginning instead of the end
};

// How encodings are filled up to a common length.
struct Padding {
  std::optional<int64_t> length{};  // none: that of the longest of the batch
  int64_t multiple_of = 1;          // the length is rounded up to a multiple
  bool on_left = false;
  int64_t id = 0;
  int64_t type_id = 0;
};

struct EncodeOptions {
  bool add_special_tokens = true;  // those of the file's template, such as [CLS] .. [SEP] or <s>
  bool parse_special = true;  // false: a special token written in the text is ordinary text (not true to the text's id)
  bool offsets = false;       // fill Encoding::offsets; takes more time: about twice for BPE, more for WordPiece
  bool replace_invalid = false;            // bytes that are not UTF-8: U+FFFD each maximal part, else Error(argument)
  std::optional<Truncation> truncation{};  // Tokenizer::file_truncation() gives what the file asks for
  std::optional<Padding> padding{};        // Tokenizer::file_padding() likewise
};

// The ids with a meaning that a model's files name; absent where they name none.
struct SpecialIds {
  std::optional<int64_t> bos{}, eos{}, unk{}, pad{}, cls{}, sep{}, mask{};
};

// Turns ids into text in steps: the bytes of all push() calls and of finish(), joined, are the text of decode() before
// invalid UTF-8 is replaced. Bytes come as early as the rules allow. Made by Tokenizer::decode_steps, used through
// StreamDecoder.
class DecodeSteps {
 public:
  virtual ~DecodeSteps() = default;
  virtual void push(int64_t id, std::string& bytes) = 0;  // appends
  virtual void finish(std::string& bytes) = 0;            // appends what was held back; then the object is done
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Throws Error(argument) for a text that is not UTF-8 (unless replaced), Error(unsupported) for an option that the
  // file's format has no meaning for.
  [[nodiscard]] Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  [[nodiscard]] Encoding encode_pair(std::string_view first, std::string_view second,
                                     const EncodeOptions& options = {}) const;
  // The same as encode of each, padded together, on all threads of LibTorch's pool.
  [[nodiscard]] std::vector<Encoding> encode_batch(std::span<const std::string> texts,
                                                   const EncodeOptions& options = {}) const;

  // Bytes that are no UTF-8 become U+FFFD (each maximal part). Throws Error(argument) for a negative id; an id without
  // a token (a gap in the vocabulary, or one that only the model's padded embedding has) gives no text.
  [[nodiscard]] std::string decode(std::span<const int64_t> ids, bool skip_special = false) const;

  [[nodiscard]] virtual int64_t vocab_size() const = 0;  // the largest id + 1, added tokens included
  [[nodiscard]] virtual std::optional<int64_t> token_id(std::string_view token) const = 0;
  [[nodiscard]] virtual std::string token(int64_t id) const = 0;  // as the file spells it; "" where there is none
  [[nodiscard]] virtual bool is_special(int64_t id) const = 0;    // left out by decode(ids, true)
  [[nodiscard]] virtual std::unique_ptr<DecodeSteps> decode_steps(bool skip_special) const = 0;

  [[nodiscard]] const SpecialIds& special_ids() const { return special_ids_; }
  [[nodiscard]] const std::optional<Truncation>& file_truncation() const { return truncation_; }
  [[nodiscard]] const std::optional<Padding>& file_padding() const { return padding_; }

 protected:
  // One text, valid UTF-8, without template tokens: fills ids and, where asked, offsets. The base class fills the rest.
  virtual void encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const = 0;
  // Puts the template's tokens around one or two encodings (type_ids, special and attention_mask are filled already).
  // The default joins them as they are.
  virtual Encoding add_template(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const;
  // How many tokens add_template adds.
  [[nodiscard]] virtual int64_t template_size(bool pair) const;

  SpecialIds special_ids_{};
  std::optional<Truncation> truncation_{};
  std::optional<Padding> padding_{};

 private:
  [[nodiscard]] Encoding finish(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const;
  [[nodiscard]] Encoding encode_one(std::string_view text, const EncodeOptions& options, const char* name) const;
};

// From a folder (tokenizer.json, else tokenizer.model or spiece.model, else vocab.json + merges.txt, else vocab.txt,
// else a .tiktoken file with its config.json), or from one such file, or a .gguf file. tokenizer_config.json,
// special_tokens_map.json and config.json beside it tell the special ids. Throws Error(file) that names what is missing
// or wrong; Error(unsupported) that names a component which winnow does not do.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& path);

// From the content of a tokenizer.json; `name` is what errors call it.
std::shared_ptr<const Tokenizer> parse_tokenizer_json(const Json& json, const std::string& name = kMemoryName,
                                                      const SpecialIds& special_ids = {});

// Text of one sequence of ids as they come, never with half a character: what push() and finish() returned, joined, is
// tokenizer->decode(ids, skip_special). A character is given out as soon as its last byte and all that may still change
// it has come.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = true);
  std::string push(int64_t id);
  std::string finish();  // the rest; the decoder then begins a new sequence

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<DecodeSteps> steps_;
  std::string pending_;  // the beginning of a character
  bool skip_special_;
};

}  // namespace winnow::io
