// What the programs that train language models share: a network by its sizes, a text file as tokens, a tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/data/text.h"
#include "winnow/io/json.h"
#include "winnow/io/tokenizer.h"
#include "winnow/models/causal_lm.h"
#include "winnow/tensor/cross_entropy.h"
#include "winnow/train/language_model.h"

namespace winnow::examples {

enum class Family { gpt2, llama };
EnumNames<Family> enum_names(Family);

// The section `model:`.
struct LanguageModelOptions {
  Family family = Family::gpt2;
  int64_t dim = 256;
  int64_t depth = 6;
  int64_t heads = 8;
  int64_t kv_heads = 0;
  int64_t hidden = 0;
  int64_t context = 512;
  double dropout = 0.0;
  bool tied = true;
  uint64_t seed = 1;
  static Fields<LanguageModelOptions> fields();
};
models::CausalLM make_language_model(const LanguageModelOptions& options, int64_t vocab_size);

// The section `tokenizer:`.
struct TokenizerOptions {
  std::string path = "";     // a folder or file with a tokenizer; empty: one is trained on the text
  int64_t vocab_size = 256;  // of the one that is trained; 256: bytes, without any merge or end token
  static Fields<TokenizerOptions> fields();
};
struct TrainedTokenizer {
  std::shared_ptr<const io::Tokenizer> tokenizer;
  io::Json json = {};  // tokenizer.json of a trained one; null where it was read
};
TrainedTokenizer open_tokenizer(const TokenizerOptions& options, std::string_view text);
// tokenizer.json and tokenizer_config.json beside the weights; a tokenizer that was read is copied, file by file.
void save_tokenizer(const TrainedTokenizer& trained, const TokenizerOptions& options, int64_t context,
                    const std::filesystem::path& folder);

// The section `data:`.
struct LanguageDataOptions {
  std::string file = "data/austen/austen.txt";  // ./dev data austen fetches it
  data::DocumentCut cut = data::DocumentCut::none;
  bool separate = true;    // documents are kept apart in a row
  double held_out = 0.05;  // share of the text, its end
  int64_t batch_size = 8;  // rows of a step and process
  int64_t context = 0;     // tokens of a row; 0: the model's context
  uint64_t seed = 0;       // of the order
  std::string device = "cpu";
  static Fields<LanguageDataOptions> fields();
};

// The section `optimizer:`.
struct LanguageOptimizerOptions {
  double weight_decay = 0.1;
  double beta2 = 0.95;
  double label_smoothing = 0.0;
  double z_loss = 0.0;
  static Fields<LanguageOptimizerOptions> fields();
  [[nodiscard]] TokenLossOptions loss() const { return {.label_smoothing = label_smoothing, .z_loss = z_loss}; }
};

// Mean loss of a batch of rows under a decoder-only network, its logits never held.
at::Tensor batch_loss(models::CausalLM& model, const data::TextBatch& batch, const TokenLossOptions& options,
                      at::Device device);

// The first `limit` tokens (0: all) as int64 on the device, and how many bytes they are.
struct JudgedText {
  at::Tensor ids;
  int64_t bytes;
};
JudgedText judged_text(const data::TokenDocuments& text, const io::Tokenizer& tokenizer, int64_t limit,
                       at::Device device);

}  // namespace winnow::examples
