#include "json_tokenizer.h"

#include <algorithm>
#include <utility>

#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "word_cache.h"

namespace winnow::io {
namespace {

const Json& value_of(const Json& json, const char* key) {
  static const Json null;
  const auto found = json.find(key);
  return found == json.end() ? null : *found;
}

// The kind of a model; files of old versions do not name it.
std::string model_type(const Json& model) {
  if (model.contains("type")) return model["type"].is_string() ? model["type"].get<std::string>() : "";
  if (model.contains("merges")) return "BPE";
  if (model.contains("vocab") && model["vocab"].is_array()) return "Unigram";
  return model.contains("max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

// Where each byte of the text stands, in code points; one entry more for its end.
std::vector<uint32_t> code_point_places(std::string_view text) {
  std::vector<uint32_t> places(text.size() + 1);
  uint32_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i > 0 && !unicode::is_continuation(text[i])) ++count;
    places[i] = count;
  }
  places[text.size()] = text.empty() ? 0 : count + 1;
  return places;
}

// Blanks at both ends of a token, as offsets are freed of them: U+0120 stands for a blank.
std::pair<int64_t, int64_t> blanks_around(std::string_view token) {
  const auto codes = unicode::to_codes(token);
  const auto solid = [](uint32_t c) { return c != 0x120 && !unicode::is_space(c); };
  return {std::find_if(codes.begin(), codes.end(), solid) - codes.begin(),
          std::find_if(codes.rbegin(), codes.rend(), solid) - codes.rbegin()};
}

}  // namespace

// Takes tokens and puts them into the encoding.
struct JsonTokenizer::Emitter {
  const JsonTokenizer& tokenizer;
  Encoding& out;
  bool offsets;
  std::vector<uint32_t> places{};
  std::vector<ModelToken> scratch{};
  WordCache& cache = WordCache::of_this_thread();

  void add(int64_t id, ByteRange source, std::string_view text) {
    out.ids.push_back(id);
    if (!offsets) return;
    std::pair<int64_t, int64_t> range(places[source.first], places[source.second]);
    for (const bool keep_first : tokenizer.post_processor_->trims()) trim(range, text, keep_first);
    out.offsets.push_back(range);
  }

  void trim(std::pair<int64_t, int64_t>& range, std::string_view text, bool keep_first) const {
    auto [leading, trailing] = blanks_around(text);
    const bool first = out.ids.size() == 1 || range.first == 0;
    if (first && keep_first && leading == 1) leading = 0;  // more than one: not all were put there
    range.first = std::min(range.first + leading, range.second);
    if (trailing > 0 && range.second >= trailing) range.second = std::max(range.second - trailing, range.first);
  }

  void add(int64_t id, const Piece& piece, uint32_t begin, uint32_t end) {
    if (!offsets) {
      out.ids.push_back(id);
      return;
    }
    const auto last = static_cast<uint32_t>(piece.text.size());
    begin = std::min(begin, last - 1);
    end = std::clamp(end, begin + 1, last);
    add(id, {piece.from[begin].first, piece.from[end - 1].second},
        trims() ? tokenizer.model_->token(id) : std::string_view());
  }
  [[nodiscard]] bool trims() const { return !tokenizer.post_processor_->trims().empty(); }

  void operator()(const Piece& piece) {
    if (!WordCache::fits(piece.text)) {
      run_model(piece);
      return;
    }
    const auto* slot = cache.find(tokenizer.cache_owner_, piece.text);
    if (slot == nullptr) {
      run_model(piece);
      cache.keep(tokenizer.cache_owner_, piece.text, scratch.data(), scratch.size());
      return;
    }
    uint32_t begin = 0;
    for (size_t i = 0; i < slot->count; ++i) {
      add(slot->ids[i], piece, begin, slot->ends[i]);
      begin = slot->ends[i];
    }
  }

  void run_model(const Piece& piece) {
    scratch.clear();
    tokenizer.model_->tokenize(piece.text, scratch);
    for (const auto& token : scratch) add(token.id, piece, token.begin, token.end);
  }
};

JsonTokenizer::JsonTokenizer(const Json& json, const std::string& name) : cache_owner_(WordCache::new_owner()) {
  WINNOW_CHECK_KIND(json.is_object(), ErrorKind::file, "{}: a tokenizer must be a JSON object", name);
  const auto& version = value_of(json, "version");
  WINNOW_CHECK_KIND(version.is_null() || version == "1.0", ErrorKind::unsupported,
                    "{}: version {} of the format is not supported, only \"1.0\"", name, version.dump());
  read_model(json, name);
  normalizer_ = make_normalizer(value_of(json, "normalizer"), name, "normalizer");
  added_ = std::make_unique<AddedTokens>(value_of(json, "added_tokens"), name, *model_, normalizer_.get());
  post_processor_ = std::make_unique<PostProcessor>(value_of(json, "post_processor"), name);
  decoder_ = make_decoder(value_of(json, "decoder"), name);
  Json rest = {{"truncation", value_of(json, "truncation")}, {"padding", value_of(json, "padding")}};
  read_options(JsonObject(std::move(rest), name));
  special_ids_.unk = model_->unk_id();
}

void JsonTokenizer::set_special_ids(const SpecialIds& ids) {
  special_ids_ = ids;
  if (!special_ids_.unk) special_ids_.unk = model_->unk_id();
}

void JsonTokenizer::read_model(const Json& json, const std::string& name) {
  const auto& value = value_of(json, "model");
  WINNOW_CHECK_KIND(value.is_object(), ErrorKind::file, "{}: model {}", name,
                    value.is_null() ? "is missing" : "must be an object");
  const JsonObject model(value, name, "model");
  const auto type = model_type(value);
  const auto& cut = value_of(json, "pre_tokenizer");
  bool raw_bytes = false;
  if (type == "BPE") {
    raw_bytes = ends_in_byte_level(cut) && bpe_takes_bytes(model);
    model_ = make_bpe_model(model, raw_bytes);
  } else if (type == "WordPiece") {
    model_ = make_word_piece_model(model);
  } else if (type == "WordLevel") {
    model_ = make_word_level_model(model);
  } else if (type == "Unigram") {
    model_ = make_unigram_model(model);
  } else {
    fail(ErrorKind::unsupported, "{}: a model of type {} is not supported (BPE, WordPiece, WordLevel and Unigram are)",
         name, json_quote(type));
  }
  pre_tokenizer_ = make_pre_tokenizer(cut, name, "pre_tokenizer", raw_bytes);
}

void JsonTokenizer::read_options(const JsonObject& json) {
  const auto on_left = [](const JsonObject& object) {
    return object.get_or<std::string>("direction", "Right") == "Left";
  };
  if (json.has("truncation")) {
    const auto object = json.object("truncation");
    const auto strategy = object.get_or<std::string>("strategy", "LongestFirst");
    WINNOW_CHECK_KIND(strategy == "LongestFirst" || strategy == "OnlyFirst" || strategy == "OnlySecond",
                      ErrorKind::file, "{}: {} must be LongestFirst, OnlyFirst or OnlySecond, got {}", object.file(),
                      object.where("strategy"), json_quote(strategy));
    using Strategy = Truncation::Strategy;
    truncation_ = Truncation{.max_length = object.get<int64_t>("max_length"),
                             .strategy = strategy == "LongestFirst" ? Strategy::longest_first
                                         : strategy == "OnlyFirst"  ? Strategy::only_first
                                                                    : Strategy::only_second,
                             .from_left = on_left(object)};
  }
  if (json.has("padding")) {
    const auto object = json.object("padding");
    padding_ = Padding{.multiple_of = object.get_or<int64_t>("pad_to_multiple_of", 1),
                       .on_left = on_left(object),
                       .id = object.get_or<int64_t>("pad_id", 0),
                       .type_id = object.get_or<int64_t>("pad_type_id", 0)};
    if (object.has("strategy") && object.raw("strategy").is_object())
      padding_->length = object.object("strategy").get<int64_t>("Fixed");
    if (padding_->multiple_of == 0) padding_->multiple_of = 1;
  }
}

void JsonTokenizer::encode_stretch(std::string_view text, size_t begin, size_t end, const EncodeOptions& options,
                                   Emitter& emit) const {
  const auto stretch = text.substr(begin, end - begin);
  const auto cut = [&](const Piece& piece) {
    if (pre_tokenizer_ != nullptr) {
      pre_tokenizer_->split(piece, emit);
    } else if (!piece.text.empty()) {
      emit(piece);
    }
  };
  if (normalizer_ == nullptr && !options.offsets && added_->empty(/*normalized=*/true))
    return cut({.text = stretch, .from = nullptr, .at_start = begin == 0});
  AlignedText normal(stretch, static_cast<uint32_t>(begin), options.offsets);
  if (normalizer_ != nullptr) normalizer_->apply(normal);
  const Piece whole{normal.text, options.offsets ? normal.from.data() : nullptr, normal.at_start};
  for (const auto& part : added_->cut(normal.text, /*normalized=*/true, options.parse_special)) {
    const auto piece = whole.part(part.begin, part.end);
    if (part.token == nullptr) {
      cut(piece);
    } else if (options.offsets) {
      emit.add(part.token->id, {piece.from[0].first, piece.from[piece.text.size() - 1].second}, piece.text);
    } else {
      emit.out.ids.push_back(part.token->id);
    }
  }
}

void JsonTokenizer::encode_text(std::string_view text, const EncodeOptions& options, Encoding& out) const {
  Emitter emit{.tokenizer = *this, .out = out, .offsets = options.offsets};
  if (options.offsets) emit.places = code_point_places(text);
  out.ids.reserve(text.size() / 3 + 4);
  for (const auto& part : added_->cut(text, /*normalized=*/false, options.parse_special)) {
    if (part.token == nullptr) {
      encode_stretch(text, part.begin, part.end, options, emit);
      continue;
    }
    const ByteRange source(static_cast<uint32_t>(part.begin), static_cast<uint32_t>(part.end));
    emit.add(part.token->id, source, text.substr(part.begin, part.end - part.begin));
  }
}

Encoding JsonTokenizer::add_template(Encoding first, std::optional<Encoding> second,
                                     const EncodeOptions& options) const {
  return post_processor_->apply(std::move(first), std::move(second), options.add_special_tokens, options.offsets);
}

int64_t JsonTokenizer::template_size(bool pair) const {
  return post_processor_->size(pair);
}

int64_t JsonTokenizer::vocab_size() const {
  return std::max(model_->vocab_size(), added_->largest_id() + 1);
}

std::optional<int64_t> JsonTokenizer::token_id(std::string_view token) const {
  const auto added = added_->token_id(token);
  return added ? added : model_->token_id(token);
}

bool JsonTokenizer::find_token(int64_t id, std::string_view& text) const {
  if (const auto* added = added_->find(id)) {
    text = added->spelling;
    return true;
  }
  text = model_->token(id);
  return !text.empty();
}

std::string JsonTokenizer::token(int64_t id) const {
  std::string_view text;
  find_token(id, text);
  return std::string(text);
}

bool JsonTokenizer::is_special(int64_t id) const {
  const auto* added = added_->find(id);
  return added != nullptr && added->special;
}

namespace {

class JsonDecodeSteps final : public DecodeSteps {
 public:
  JsonDecodeSteps(const JsonTokenizer& tokenizer, DecodeStages stages, bool skip_special)
      : tokenizer_(tokenizer), stages_(std::move(stages)), skip_special_(skip_special) {}

  void push(int64_t id, std::string& bytes) override {
    std::string_view token;
    if ((skip_special_ && tokenizer_.is_special(id)) || !tokenizer_.find_token(id, token)) return;
    bytes_ = &bytes;
    run(0, token);
  }
  void finish(std::string& bytes) override {
    bytes_ = &bytes;
    for (size_t i = 0; i < stages_.size(); ++i)
      stages_[i]->finish([this, i](std::string_view token) { run(i + 1, token); });
  }

 private:
  void run(size_t stage, std::string_view token) {
    if (stage == stages_.size()) {
      bytes_->append(token);
    } else {
      stages_[stage]->push(token, [this, stage](std::string_view made) { run(stage + 1, made); });
    }
  }

  const JsonTokenizer& tokenizer_;
  DecodeStages stages_;
  bool skip_special_;
  std::string* bytes_ = nullptr;
};

}  // namespace

std::unique_ptr<DecodeSteps> JsonTokenizer::decode_steps(bool skip_special) const {
  return std::make_unique<JsonDecodeSteps>(*this, decoder_(), skip_special);
}

std::shared_ptr<JsonTokenizer> make_json_tokenizer(const Json& json, const std::string& name) {
  try {
    return std::make_shared<JsonTokenizer>(json, name);
  } catch (const Error& error) {
    const std::string message = error.what();
    if (message.starts_with(name + ":")) throw;
    fail(error.kind() == ErrorKind::argument ? ErrorKind::file : error.kind(), "{}: {}", name, message);
  }
}

std::shared_ptr<const Tokenizer> parse_tokenizer_json(const Json& json, const std::string& name,
                                                      const SpecialIds& special_ids) {
  auto tokenizer = make_json_tokenizer(json, name);
  tokenizer->set_special_ids(special_ids);
  return tokenizer;
}

}  // namespace winnow::io
