// Training of byte-level BPE tokenizers. Source: Sennrich et al. 2016, arXiv 1508.07909; on bytes: Radford et al. 2019.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::io {

struct BpeTrainerOptions {
  int64_t vocab_size = 8192;  // special tokens and the 256 bytes included; fewer if no pair is left
  int64_t min_frequency = 2;  // a pair seen less often is not merged
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  // ids 0.. in this order
  bool add_prefix_space = false;                                // a blank before each text
  std::size_t max_token_length = 0;                             // tokens stay shorter than so many bytes; 0: any length
};

// Counts pre-tokens of texts, then learns merges from the counts. Pre-tokens are those of GPT-2's pattern.
class BpeTrainer {
 public:
  // Throws Error(argument) if vocab_size has no room for the special tokens and 256 bytes, or a special token has fewer
  // than two characters or stands twice.
  explicit BpeTrainer(BpeTrainerOptions options = {});

  // Counts the pre-tokens of one text, which must be UTF-8 (Error(argument)). May be called any number of times.
  void add_text(std::string_view text);
  // The same for each line of a file, its line end included, as the reader of Hugging Face's tokenizers cuts it.
  void add_file(const std::filesystem::path& path);

  // Learns: the most frequent pair of neighbouring tokens is merged everywhere, again and again; of equally frequent
  // pairs the one with the lower left id, then the lower right id. The result depends on the counts alone. The rule of
  // ties is that of Hugging Face's trainer, so that the same texts give the same merges. Returns the content of a
  // tokenizer.json. progress(merges done, merges wanted) is called now and then.
  [[nodiscard]] Json train(const std::function<void(int64_t, int64_t)>& progress = {}) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  void count(std::string_view piece);

  BpeTrainerOptions options_;
  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> counts_;  // pre-token (bytes) -> how often
};

}  // namespace winnow::io
