// WordPiece (longest match first, Wu et al. 2016, arXiv 1609.08144) and whole words as tokens.
#include <algorithm>
#include <utility>

#include "tokenizer_model.h"
#include "unicode.h"
#include "vocabulary.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

// What both kinds share: a vocabulary, and a token for what is not in it.
class WordModel : public TokenModel {
 public:
  explicit WordModel(const JsonObject& json, const std::string& unk_default)
      : vocabulary_(json.raw("vocab"), json.file(), json.where("vocab")),
        file_(json.file()),
        unk_token_(json.get_or("unk_token", unk_default)),
        unk_id_(vocabulary_.find(unk_token_)) {}

  [[nodiscard]] std::optional<int64_t> token_id(std::string_view token) const override {
    return vocabulary_.find(token);
  }
  [[nodiscard]] std::string_view token(int64_t id) const override { return vocabulary_.token(id); }
  [[nodiscard]] int64_t vocab_size() const override { return vocabulary_.size(); }
  [[nodiscard]] std::optional<int64_t> unk_id() const override { return unk_id_; }

 protected:
  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }
  void add_unknown(std::string_view piece, std::vector<ModelToken>& out) const {
    WINNOW_CHECK_KIND(unk_id_.has_value(), ErrorKind::file,
                      "{}: the text has a word that the vocabulary lacks, and the vocabulary has no unk_token {}",
                      file_, json_quote(unk_token_));
    out.push_back({*unk_id_, 0, static_cast<uint32_t>(piece.size())});
  }

 private:
  Vocabulary vocabulary_;
  std::string file_, unk_token_;
  std::optional<int64_t> unk_id_;
};

class WordPieceModel final : public WordModel {
 public:
  explicit WordPieceModel(const JsonObject& json)
      : WordModel(json, "[UNK]"),
        prefix_(json.get_or<std::string>("continuing_subword_prefix", "##")),
        max_characters_(json.get_or<int64_t>("max_input_chars_per_word", 100)) {
    const auto& tokens = vocabulary().tokens();
    continuing_.reserve(tokens.size());
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (tokens[id].starts_with(prefix_) && vocabulary().find(tokens[id]) == static_cast<int64_t>(id))
        continuing_.insert(std::string_view(tokens[id]).substr(prefix_.size()), static_cast<uint32_t>(id));
    }
  }

  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override {
    if (static_cast<int64_t>(piece.size()) > max_characters_ && unicode::count(piece) > max_characters_)
      return add_unknown(piece, out);
    const auto before = out.size();
    for (size_t begin = 0; begin < piece.size();) {
      const auto token = longest(piece, begin);
      if (!token) {
        out.resize(before);
        return add_unknown(piece, out);
      }
      out.push_back(*token);
      begin = token->end;
    }
  }

 private:
  [[nodiscard]] std::optional<ModelToken> longest(std::string_view piece, size_t begin) const {
    auto end = std::min(piece.size(), begin + vocabulary().longest());
    while (end < piece.size() && unicode::is_continuation(piece[end])) --end;
    for (; end > begin; end = unicode::previous(piece, end)) {
      const auto part = piece.substr(begin, end - begin);
      const auto id = begin == 0 ? vocabulary().find(part) : continued(part);
      if (id) return ModelToken{*id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
    }
    return std::nullopt;
  }
  [[nodiscard]] std::optional<int64_t> continued(std::string_view part) const {
    const auto id = continuing_.find(part);
    return id ? std::optional<int64_t>(*id) : std::nullopt;
  }

  std::string prefix_;
  int64_t max_characters_;
  StringTable continuing_;  // what follows the prefix
};

class WordLevelModel final : public WordModel {
 public:
  explicit WordLevelModel(const JsonObject& json) : WordModel(json, "<unk>") {}
  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override {
    const auto id = vocabulary().find(piece);
    if (!id) return add_unknown(piece, out);
    out.push_back({*id, 0, static_cast<uint32_t>(piece.size())});
  }
};

}  // namespace

std::unique_ptr<TokenModel> make_word_piece_model(const JsonObject& model) {
  return std::make_unique<WordPieceModel>(model);
}
std::unique_ptr<TokenModel> make_word_level_model(const JsonObject& model) {
  return std::make_unique<WordLevelModel>(model);
}

}  // namespace winnow::io
