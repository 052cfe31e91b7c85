// Byte-pair ranks in the form of the tiktoken package: a file of lines "base64-of-the-bytes rank", and a pattern and
// special tokens in a config.json beside it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/tokenizer.h"

namespace winnow::io {

struct TiktokenFiles {
  std::map<std::string, int64_t> ranks{};           // bytes -> rank, which is also the id
  std::string pattern{};                            // "pat_str": a pre-token is a match of it
  std::map<std::string, int64_t> special_tokens{};  // text -> id; gaps between ids are allowed
};

// Text of a .tiktoken file -> ranks. Throws Error(file) naming `name` and the line: no base64, no rank, a rank or a
// token twice.
std::map<std::string, int64_t> parse_tiktoken_ranks(std::string_view text, const std::string& name = kMemoryName);

class TiktokenTokenizer final : public Tokenizer {
 public:
  // Throws Error(file) naming `name`: one of the 256 single bytes has no rank, an id twice; a pattern that is not valid
  // or that winnow cannot do.
  explicit TiktokenTokenizer(TiktokenFiles files, const std::string& name = kMemoryName);
  ~TiktokenTokenizer() override;

  // The ids of bytes as one pre-token: the pattern is not applied, special tokens are not looked for.
  [[nodiscard]] std::vector<int64_t> encode_bytes(std::string_view bytes) const;
  // The bytes of ids, joined.
  [[nodiscard]] std::string decode_bytes(std::span<const int64_t> ids) const;

  [[nodiscard]] int64_t vocab_size() const override;
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view token) const override;
  [[nodiscard]] std::string token(int64_t id) const override;  // its bytes
  [[nodiscard]] bool is_special(int64_t id) const override;
  [[nodiscard]] std::unique_ptr<DecodeSteps> decode_steps(bool skip_special) const override;

 protected:
  void encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const override;

 private:
  void add_offsets(std::string_view text, Encoding& out) const;

  struct State;
  std::shared_ptr<const State> state_;
};

// `path` is the file of ranks (config.json lies beside it) or a folder with one *.tiktoken and config.json, which holds
// {"pat_str": "...", "special_tokens": {"<|endoftext|>": 100257}}.
std::shared_ptr<const TiktokenTokenizer> load_tiktoken(const std::filesystem::path& path);

}  // namespace winnow::io
