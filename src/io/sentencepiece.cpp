#include "winnow/io/sentencepiece.h"

#include <array>
#include <charconv>

#include "sentencepiece_normalizer.h"
#include "sentencepiece_segment.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Bytes [begin, end) of the input that a piece stands for.
struct PlacedId {
  int64_t id;
  std::size_t begin, end;
};

}  // namespace

struct SentencePieceTokenizer::State {
  explicit State(SentencePieceModel content) : model(std::move(content)), segmenter(model) {
    for (std::size_t id = 0; id < model.pieces.size(); ++id) {
      const auto& piece = model.pieces[id];
      if (piece.type != PieceType::byte) continue;
      unsigned byte = 0;
      std::from_chars(piece.text.data() + 3, piece.text.data() + 5, byte, 16);
      byte_ids[byte] = static_cast<int64_t>(id);
    }
  }

  [[nodiscard]] const SentencePiece* piece(int64_t id) const {
    return id >= 0 && id < static_cast<int64_t>(model.pieces.size()) ? &model.pieces[static_cast<std::size_t>(id)]
                                                                     : nullptr;
  }

  // The id of a control piece by its text.
  [[nodiscard]] std::optional<int64_t> control(const std::string& text, const char* otherwise) const {
    const auto id = segmenter.find(text.empty() ? otherwise : text);
    if (!id || piece(*id)->type != PieceType::control) return std::nullopt;
    return id;
  }

  // Neighbouring unknown characters are one id; with byte fallback they are their bytes, the last of which stands for
  // the character.
  [[nodiscard]] std::vector<PlacedId> encode(std::string_view bytes, bool with_places) const {
    const auto normal = sentencepiece_normalize(model, segmenter.user_defined(), bytes, with_places);
    const auto place = [&](int64_t at) {
      return with_places && !normal.origin.empty() ? normal.origin[static_cast<std::size_t>(at)] : 0;
    };
    auto segments = segmenter.segment(normal.text);
    if (!model.byte_fallback) segments = fuse_unknown(segments, segmenter.unk());
    std::vector<PlacedId> ids;
    ids.reserve(segments.size());
    for (const auto& segment : segments) {
      const auto begin = place(segment.begin), end = place(segment.end);
      if (!model.byte_fallback || segment.id != segmenter.unk()) {
        ids.push_back({segment.id, begin, end});
        continue;
      }
      for (auto i = segment.begin; i < segment.end; ++i) {
        const auto byte = static_cast<uint8_t>(normal.text[static_cast<std::size_t>(i)]);
        ids.push_back({byte_ids[byte], begin, i + 1 == segment.end ? end : begin});
      }
    }
    return ids;
  }

  SentencePieceModel model;
  SentencePieceSegmenter segmenter;
  std::array<int64_t, 256> byte_ids{};
};

namespace {

// Pieces to text; byte pieces wait until they make a character or cannot.
class Steps final : public DecodeSteps {
 public:
  Steps(const SentencePieceModel& model, std::shared_ptr<const void> owner, bool skip_unknown)
      : model_(model), owner_(std::move(owner)), skip_unknown_(skip_unknown) {}

  void push(int64_t id, std::string& bytes) override {
    if (id < 0 || id >= static_cast<int64_t>(model_.pieces.size())) return;
    const auto& piece = model_.pieces[static_cast<std::size_t>(id)];
    std::string text;
    if (piece.type == PieceType::byte) {
      unsigned byte = 0;
      std::from_chars(piece.text.data() + 3, piece.text.data() + 5, byte, 16);
      waiting_ += static_cast<char>(byte);
      take_characters(/*all=*/false, text);
    } else {
      take_characters(/*all=*/true, text);
      if (blank_dropped_ || any_ || !text.empty()) at_begin_ = false;
      text += surface(piece);
    }
    give(text, bytes);
  }

  void finish(std::string& bytes) override {
    std::string text;
    take_characters(/*all=*/true, text);
    give(text, bytes);
    if (model_.denormalizer) bytes += sentencepiece_denormalize(*model_.denormalizer, held_);
    held_.clear();
  }

 private:
  // The text of a piece; a blank mark at the very beginning is the dummy prefix.
  std::string surface(const SentencePiece& piece) {
    blank_dropped_ = false;
    if (piece.type == PieceType::control) return {};
    if (piece.type == PieceType::unknown) return skip_unknown_ ? std::string() : model_.unk_surface;
    std::string_view text = piece.text;
    if (at_begin_ && (model_.add_dummy_prefix || model_.remove_extra_whitespaces) && text.starts_with(kBlankMark)) {
      text.remove_prefix(kBlankMark.size());
      blank_dropped_ = !model_.remove_extra_whitespaces;  // else all blanks at the beginning go
    }
    std::string result;
    for (std::size_t at = 0; at < text.size();) {
      const auto mark = std::min(text.find(kBlankMark, at), text.size());
      result += text.substr(at, mark - at);
      if (mark < text.size()) result += ' ';
      at = mark + kBlankMark.size();
    }
    return result;
  }

  // Whole characters of the waiting bytes; a byte that begins none is U+FFFD. `all`: nothing may complete them.
  void take_characters(bool all, std::string& text) {
    while (!waiting_.empty()) {
      const auto length = utf8_length(waiting_);
      if (length == 0 && !all && unicode::incomplete_tail(waiting_) == waiting_.size()) return;
      text += length > 0 ? std::string_view(waiting_).substr(0, length) : kReplacement;
      waiting_.erase(0, std::max<std::size_t>(length, 1));
    }
  }

  void give(const std::string& text, std::string& bytes) {
    any_ = any_ || !text.empty();
    (model_.denormalizer ? held_ : bytes) += text;  // its rules may span pieces
  }

  const SentencePieceModel& model_;
  std::shared_ptr<const void> owner_;
  bool skip_unknown_;
  std::string waiting_, held_;
  bool any_ = false, at_begin_ = true, blank_dropped_ = false;
};

// add_bos_token and add_eos_token of the tokenizer_config.json, or what its class does.
SentencePieceEnds read_ends(const std::filesystem::path& config, const SpecialIds& ids) {
  if (!std::filesystem::exists(config)) return {.bos = ids.bos.has_value(), .eos = !ids.bos && ids.eos};
  const auto json = JsonObject::read(config);
  const auto name = json.get_or<std::string>("tokenizer_class", "");
  const bool t5 = name.starts_with("T5") || name.starts_with("MT5");
  const bool other = !name.empty() && !t5 && !name.starts_with("Llama") && !name.starts_with("Gemma");
  return {.bos = json.get_or("add_bos_token", !t5 && !other), .eos = json.get_or("add_eos_token", t5)};
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(SentencePieceModel model, SentencePieceEnds ends,
                                               const std::string& name)
    : ends_(ends) {
  WINNOW_CHECK_KIND(!model.pieces.empty(), ErrorKind::file, "{}: a SentencePiece model without pieces", name);
  state_ = std::make_shared<State>(std::move(model));
  const auto& m = state_->model;
  special_ids_ = {.bos = state_->control(m.bos_piece, "<s>"),
                  .eos = state_->control(m.eos_piece, "</s>"),
                  .unk = state_->segmenter.unk(),
                  .pad = state_->control(m.pad_piece, "<pad>")};
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<int64_t> SentencePieceTokenizer::encode_bytes(std::string_view bytes) const {
  std::vector<int64_t> ids;
  for (const auto& placed : state_->encode(bytes, /*with_places=*/false)) ids.push_back(placed.id);
  return ids;
}

std::string SentencePieceTokenizer::normalize(std::string_view bytes) const {
  return sentencepiece_normalize(state_->model, state_->segmenter.user_defined(), bytes, /*with_origin=*/false).text;
}

const SentencePieceModel& SentencePieceTokenizer::model() const {
  return state_->model;
}

int64_t SentencePieceTokenizer::vocab_size() const {
  return static_cast<int64_t>(state_->model.pieces.size());
}

std::optional<int64_t> SentencePieceTokenizer::token_id(std::string_view token) const {
  return state_->segmenter.find(token);
}

std::string SentencePieceTokenizer::token(int64_t id) const {
  const auto* const piece = state_->piece(id);
  return piece == nullptr ? std::string() : piece->text;
}

bool SentencePieceTokenizer::is_special(int64_t id) const {
  const auto* const piece = state_->piece(id);
  return piece != nullptr && (piece->type == PieceType::control || piece->type == PieceType::unknown);
}

std::unique_ptr<DecodeSteps> SentencePieceTokenizer::decode_steps(bool skip_special) const {
  return std::make_unique<Steps>(state_->model, state_, skip_special);
}

void SentencePieceTokenizer::encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const {
  const auto placed = state_->encode(text, options.offsets);
  out.ids.reserve(placed.size());
  for (const auto& item : placed) out.ids.push_back(item.id);
  if (!options.offsets) return;
  std::vector<int64_t> characters(text.size() + 1);  // code points before each byte
  for (std::size_t i = 0; i < text.size(); ++i) {
    characters[i + 1] = characters[i] + (i + 1 < text.size() && unicode::is_continuation(text[i + 1]) ? 0 : 1);
  }
  for (const auto& item : placed) out.offsets.emplace_back(characters[item.begin], characters[item.end]);
}

Encoding SentencePieceTokenizer::add_template(Encoding first, std::optional<Encoding> second,
                                              const EncodeOptions& options) const {
  const bool wanted = options.add_special_tokens;
  const bool bos = wanted && ends_.bos && special_ids_.bos, eos = wanted && ends_.eos && special_ids_.eos;
  Encoding result;
  const auto add_special = [&](int64_t id, int64_t type) {
    result.ids.push_back(id);
    if (options.offsets) result.offsets.emplace_back(0, 0);
    result.type_ids.push_back(type);
    result.special.push_back(true);
    result.attention_mask.push_back(1);
  };
  const auto add_text = [&](const Encoding& part, int64_t type) {
    if (bos) add_special(*special_ids_.bos, type);
    result.ids.insert(result.ids.end(), part.ids.begin(), part.ids.end());
    result.offsets.insert(result.offsets.end(), part.offsets.begin(), part.offsets.end());
    result.type_ids.insert(result.type_ids.end(), part.ids.size(), type);
    result.special.insert(result.special.end(), part.ids.size(), false);
    result.attention_mask.insert(result.attention_mask.end(), part.ids.size(), 1);
    if (eos) add_special(*special_ids_.eos, type);
  };
  add_text(first, 0);
  if (second) add_text(*second, 1);
  return result;
}

int64_t SentencePieceTokenizer::template_size(bool pair) const {
  return (int64_t{ends_.bos && special_ids_.bos} + int64_t{ends_.eos && special_ids_.eos}) * (pair ? 2 : 1);
}

std::shared_ptr<const SentencePieceTokenizer> load_sentencepiece(const std::filesystem::path& path) {
  auto model = read_sentencepiece(path);
  const SentencePieceTokenizer probe(model, {}, path.string());
  const auto ends = read_ends(path.parent_path() / "tokenizer_config.json", probe.special_ids());
  return std::make_shared<SentencePieceTokenizer>(std::move(model), ends, path.string());
}

}  // namespace winnow::io
