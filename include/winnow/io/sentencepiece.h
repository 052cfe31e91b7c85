// SentencePiece models (.model files): BPE, Unigram, word and character models, read without the SentencePiece
// library, with the results of version 0.2 of it. Source: Kudo and Richardson 2018, arXiv 1808.06226.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/bytes.h"
#include "winnow/io/charsmap.h"
#include "winnow/io/tokenizer.h"
#include "winnow/io/unigram.h"

namespace winnow::io {

// The numbers are those of the files.
enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
enum class SentencePieceAlgorithm { unigram = 1, bpe = 2, word = 3, character = 4 };

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
};

// The content of a .model file, as far as it matters for using it.
struct SentencePieceModel {
  std::vector<SentencePiece> pieces{};  // by id
  SentencePieceAlgorithm algorithm = SentencePieceAlgorithm::unigram;
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>", pad_piece = "<pad>";
  std::string unk_surface = " \xe2\x81\x87 ";  // what an unknown id decodes to
  bool byte_fallback = false;                  // an unknown character becomes the pieces <0x..> of its bytes
  bool whitespace_as_suffix = false;           // blanks end words instead of beginning them
  std::string normalizer = "identity";         // its name, such as "nmt_nfkc"; the table is what counts
  bool add_dummy_prefix = true;                // a blank before the text
  bool remove_extra_whitespaces = true;        // runs of blanks become one; those at the ends go
  bool escape_whitespaces = true;              // a blank is U+2581 in pieces
  std::shared_ptr<const Charsmap> charsmap{}, denormalizer{};  // null: characters stay as they are
};

// Throws Error(file) that names the file and the place for anything that is not a model: cut off, a length past the
// end, a piece that is empty or stands twice, no unknown piece or two, byte fallback without all 256 byte pieces.
SentencePieceModel parse_sentencepiece(Bytes bytes, const std::string& name = kMemoryName);
SentencePieceModel read_sentencepiece(const std::filesystem::path& path);

// Which ids encode() puts around a text if special tokens are asked for (only those that the model has).
struct SentencePieceEnds {
  bool bos = false, eos = false;
};

// A .model as a tokenizer. Special tokens written in a text are ordinary characters, whatever parse_special says.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(SentencePieceModel model, SentencePieceEnds ends = {},
                                  const std::string& name = kMemoryName);
  ~SentencePieceTokenizer() override;

  // The ids of bytes that need not be UTF-8: each byte that is not counts as U+FFFD. No special tokens.
  [[nodiscard]] std::vector<int64_t> encode_bytes(std::string_view bytes) const;
  // The text as the pieces are looked for in it: mapped, blanks as U+2581.
  [[nodiscard]] std::string normalize(std::string_view bytes) const;
  [[nodiscard]] const SentencePieceModel& model() const;

  [[nodiscard]] int64_t vocab_size() const override;
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view token) const override;
  [[nodiscard]] std::string token(int64_t id) const override;
  [[nodiscard]] bool is_special(int64_t id) const override;
  [[nodiscard]] std::unique_ptr<DecodeSteps> decode_steps(bool skip_special) const override;

 protected:
  void encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const override;
  Encoding add_template(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const override;
  [[nodiscard]] int64_t template_size(bool pair) const override;

 private:
  struct State;
  std::shared_ptr<const State> state_;
  SentencePieceEnds ends_;
};

// The tokenizer of a .model file. tokenizer_config.json beside it says which ends are added: add_bos_token and
// add_eos_token, or, where it does not name them, what its tokenizer_class does (Llama and Gemma: bos; T5: eos).
// Without that file: bos if the model has it, else eos if it has that.
std::shared_ptr<const SentencePieceTokenizer> load_sentencepiece(const std::filesystem::path& path);

}  // namespace winnow::io
