// The Unigram model of a tokenizer.json: {"type": "Unigram", "vocab": [[piece, score], ...], "unk_id": 2}.
#include <array>
#include <unordered_map>

#include "tokenizer_model.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/io/unigram.h"

namespace winnow::io {
namespace {

std::vector<UnigramPiece> read_vocab(const JsonObject& model) {
  const auto& vocab = model.raw("vocab");
  WINNOW_CHECK_KIND(vocab.is_array() && !vocab.empty(), ErrorKind::file,
                    "{}: {} must be a list of [piece, score] that is not empty", model.file(), model.where("vocab"));
  std::vector<UnigramPiece> pieces;
  pieces.reserve(vocab.size());
  for (const auto& item : vocab) {
    const bool good = item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_number();
    WINNOW_CHECK_KIND(good, ErrorKind::file, "{}: {}[{}] must be [piece, score], got {}", model.file(),
                      model.where("vocab"), pieces.size(), printable(item.dump(), 80));
    pieces.push_back({.text = item[0].get<std::string>(), .score = item[1].get<double>()});
  }
  return pieces;
}

class UnigramModel final : public TokenModel {
 public:
  UnigramModel(std::vector<UnigramPiece> pieces, int64_t unk, bool byte_fallback)
      : unigram_(std::move(pieces), {.unk = unk}), byte_fallback_(byte_fallback) {
    for (int64_t id = 0; id < unigram_.size(); ++id) ids_.insert_or_assign(unigram_.piece(id), id);
    bytes_.fill(-1);
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
      const auto found = ids_.find(fmt::format("<0x{:02X}>", byte));
      if (found != ids_.end()) bytes_[byte] = found->second;
    }
  }

  void tokenize(std::string_view piece, std::vector<ModelToken>& out) const override {
    for (const auto& segment : fuse_unknown(unigram_.encode(piece), unigram_.unk())) {
      const auto begin = static_cast<uint32_t>(segment.begin), end = static_cast<uint32_t>(segment.end);
      const auto text = piece.substr(begin, end - begin);
      if (segment.id == unigram_.unk() && byte_fallback_ && add_bytes(text, begin, end, out)) continue;
      out.push_back({segment.id, begin, end});
    }
  }
  [[nodiscard]] std::optional<int64_t> token_id(std::string_view token) const override {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] std::string_view token(int64_t id) const override {
    return id >= 0 && id < unigram_.size() ? std::string_view(unigram_.piece(id)) : std::string_view();
  }
  [[nodiscard]] int64_t vocab_size() const override { return unigram_.size(); }
  [[nodiscard]] std::optional<int64_t> unk_id() const override {
    return unigram_.unk() < 0 ? std::nullopt : std::optional(unigram_.unk());
  }

 private:
  // The byte pieces of an unknown text, each standing for the whole of it; false where one is missing.
  bool add_bytes(std::string_view text, uint32_t begin, uint32_t end, std::vector<ModelToken>& out) const {
    const auto id = [&](char c) { return bytes_[static_cast<uint8_t>(c)]; };
    for (const char c : text) {
      if (id(c) < 0) return false;
    }
    for (const char c : text) out.push_back({id(c), begin, end});
    return true;
  }

  Unigram unigram_;
  bool byte_fallback_;
  std::unordered_map<std::string_view, int64_t> ids_;  // of the pieces, which live in unigram_
  std::array<int64_t, 256> bytes_{};
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram_model(const JsonObject& model) {
  auto pieces = read_vocab(model);
  const auto unk = model.get_or<int64_t>("unk_id", -1);
  WINNOW_CHECK_KIND(unk >= -1 && unk < static_cast<int64_t>(pieces.size()), ErrorKind::file,
                    "{}: {} must be an id below {}, got {}", model.file(), model.where("unk_id"), pieces.size(), unk);
  return std::make_unique<UnigramModel>(std::move(pieces), unk, model.get_or("byte_fallback", false));
}

}  // namespace winnow::io
