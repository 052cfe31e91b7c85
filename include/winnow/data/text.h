// Text for language models: documents, their tokens, packed rows, and the corruption of masked language models.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "winnow/attention/mask.h"
#include "winnow/core/options.h"
#include "winnow/io/tokenizer.h"

namespace winnow::data {

enum class DocumentCut {
  none,        // the whole text is one document
  lines,       // each line that is not blank (KJV: a verse)
  paragraphs,  // parts between blank lines (GCIDE: an entry)
};
EnumNames<DocumentCut> enum_names(DocumentCut);

// The documents of a text, in order; blank ones are left out, blanks around each are kept but for line ends. Views of
// `text`.
std::vector<std::string_view> cut_documents(std::string_view text, DocumentCut cut);

// Documents as one line of tokens.
struct TokenDocuments {
  at::Tensor ids;               // int32 [T]
  std::vector<int64_t> starts;  // of each document, ascending, the first 0; empty where T is 0
  [[nodiscard]] int64_t tokens() const { return ids.defined() ? ids.size(0) : 0; }
  [[nodiscard]] int64_t documents() const { return static_cast<int64_t>(starts.size()); }
};

// Tokens of every document, without the tokenizer's template; behind each stands `end` where it is given (the
// tokenizer's eos, usually). Throws winnow::Error if `end` is no id of the tokenizer.
TokenDocuments encode_documents(const std::vector<std::string_view>& documents, const io::Tokenizer& tokenizer,
                                std::optional<int64_t> end = {});
// Bytes as ids 0 .. 255.
TokenDocuments encode_bytes(const std::vector<std::string_view>& documents, std::optional<int64_t> end = {});

// The last `share` of the tokens, in [0, 1], cut between documents where there are several, else between tokens.
std::pair<TokenDocuments, TokenDocuments> hold_out(const TokenDocuments& text, double share);

// Rows of a language model. All int64 [B, L].
struct TextBatch {
  at::Tensor ids;
  at::Tensor targets;    // the next token of the same document, also beyond the row's end; -100 where there is none
  at::Tensor positions;  // from 0 at each document's start, or at the row's where it began before
  at::Tensor documents;  // number of the document within its row, from 0
  int64_t epoch = 0;
  int64_t step = 0;  // number of the batch within its epoch

  // Whether some row holds more than one document.
  bool several_documents = false;
  // A token sees those of its own document; undefined (everybody) unless several_documents. Causality comes beside.
  [[nodiscard]] AttentionMask document_mask() const;
};

struct TextLoaderOptions {
  int64_t batch_size = 8;  // rows of this process in a batch
  int64_t context = 256;   // L >= 1, tokens of a row
  bool shuffle = true;     // a new order, and new places of the cuts, each epoch
  bool separate = true;    // documents do not see each other and positions restart; false: one endless text
  uint64_t seed = 0;
  int64_t rank = 0;  // shares of processes as in data::LoaderOptions
  int64_t world_size = 1;
  static Fields<TextLoaderOptions> fields();
};

// Packs documents into rows of `context` tokens without padding: the line of tokens is cut every `context` tokens,
// beginning at an offset that the epoch draws, and what does not fill a row is left out of this epoch. A BatchSource
// of train::Trainer. Batch t depends on (seed, t) alone: a loader that takes over a state goes on to the bit, also with
// another division into processes. Throws winnow::Error if the text does not fill one batch of all processes.
class TextLoader {
 public:
  TextLoader(TokenDocuments text, TextLoaderOptions options);

  TextBatch next();
  [[nodiscard]] int64_t batches_per_epoch() const { return steps_; }
  [[nodiscard]] nlohmann::json state() const;
  // Throws winnow::Error that names what differs, if the state is of another text, seed, context or global batch.
  void load_state(const nlohmann::json& state);
  [[nodiscard]] const TextLoaderOptions& options() const { return options_; }

 private:
  void begin_epoch(int64_t epoch);
  void fill_row(int64_t begin, int64_t row, TextBatch& batch) const;

  TokenDocuments text_;
  TextLoaderOptions options_;
  int64_t rows_ = 0;   // of an epoch
  int64_t steps_ = 0;  // of an epoch
  int64_t ticket_ = 0;
  int64_t epoch_ = -1;  // that order_ and offset_ belong to
  int64_t offset_ = 0;
  std::vector<int64_t> order_;
};

struct MaskingOptions {
  double share = 0.15;    // of the tokens are to be predicted
  double replaced = 0.8;  // of those: share that becomes the mask token
  double random = 0.1;    // of those: share that becomes any token of the vocabulary; the rest stays
  static Fields<MaskingOptions> fields();
};

struct MaskedTokens {
  at::Tensor ids;     // int64, shape of the input
  at::Tensor labels;  // the input where it is to be predicted, else -100
};

// The corruption of BERT: each token that `special` (bool, shape of ids, or undefined: none) does not protect is chosen
// on its own. Draws from `generator` (CPU). Source: Devlin et al. 2018, arXiv 1810.04805, section 3.1.
MaskedTokens mask_tokens(const at::Tensor& ids, const at::Tensor& special, int64_t mask_id, int64_t vocab_size,
                         at::Generator generator, const MaskingOptions& options = {});

}  // namespace winnow::data
