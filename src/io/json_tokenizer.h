// A tokenizer.json as a Tokenizer: added tokens, normaliser, pre-tokenizer, model, post-processor, decoder.
#pragma once

#include <memory>
#include <string>

#include "added_tokens.h"
#include "decoder.h"
#include "normalizer.h"
#include "post_processor.h"
#include "pre_tokenizer.h"
#include "tokenizer_model.h"
#include "winnow/io/tokenizer.h"

namespace winnow::io {

class JsonTokenizer final : public Tokenizer {
 public:
  JsonTokenizer(const Json& json, const std::string& name);
  void set_special_ids(const SpecialIds& ids);  // where unk is not named, it stays the model's

  [[nodiscard]] int64_t vocab_size() const override;
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view token) const override;
  [[nodiscard]] std::string token(int64_t id) const override;
  [[nodiscard]] bool is_special(int64_t id) const override;
  [[nodiscard]] std::unique_ptr<DecodeSteps> decode_steps(bool skip_special) const override;

  // The token of an id as a view; false where there is none.
  bool find_token(int64_t id, std::string_view& text) const;

 protected:
  void encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const override;
  Encoding add_template(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const override;
  [[nodiscard]] int64_t template_size(bool pair) const override;

 private:
  struct Emitter;
  void encode_stretch(std::string_view text, size_t begin, size_t end, const EncodeOptions& options,
                      Emitter& emit) const;
  void read_model(const Json& json, const std::string& name);
  void read_options(const JsonObject& json);

  std::unique_ptr<const TokenModel> model_;
  std::unique_ptr<const Normalizer> normalizer_;
  std::unique_ptr<const PreTokenizer> pre_tokenizer_;
  std::unique_ptr<const AddedTokens> added_;
  std::unique_ptr<const PostProcessor> post_processor_;
  DecodeStagesMaker decoder_;
  uint32_t cache_owner_;
};

// As parse_tokenizer_json, whose errors it has; still to be told its special ids.
std::shared_ptr<JsonTokenizer> make_json_tokenizer(const Json& json, const std::string& name);

}  // namespace winnow::io
