#include "pre_tokenizer.h"

#include <array>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "byte_level.h"
#include "normalizer.h"
#include "piece_split.h"
#include "split_pattern.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

using unicode::Trait;
using Made = std::unique_ptr<const PreTokenizer>;

// A piece with text of its own, made from another.
struct OwnPiece {
  std::string text{};
  std::vector<ByteRange> from{};
  void append(std::string_view bytes, const ByteRange* place) {
    text.append(bytes);
    if (place != nullptr) from.insert(from.end(), bytes.size(), *place);
  }
  [[nodiscard]] Piece view(const Piece& origin) const {
    return {text, origin.from == nullptr ? nullptr : from.data(), origin.at_start};
  }
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(const JsonObject& json, bool raw_bytes)
      : prefix_space_(json.get_or("add_prefix_space", true)),
        use_regex_(json.get_or("use_regex", true)),
        raw_bytes_(raw_bytes) {}

  void split(const Piece& piece, PieceSink sink) const override {
    if (!prefix_space_ || piece.text.starts_with(' ')) return cut(piece, sink);
    OwnPiece own;
    own.append(" ", piece.from);
    own.text.append(piece.text);
    if (piece.from != nullptr) own.from.insert(own.from.end(), piece.from, piece.from + piece.text.size());
    cut(own.view(piece), sink);
  }

 private:
  void cut(const Piece& piece, const PieceSink& sink) const {
    if (!use_regex_) return hand_on(piece, sink);
    for (size_t at = 0; at < piece.text.size();) {
      const auto end = gpt2_.find(piece.text, at)->end;  // it matches anywhere
      hand_on(piece.part(at, end), sink);
      at = end;
    }
  }
  void hand_on(const Piece& piece, const PieceSink& sink) const {
    if (raw_bytes_) return sink(piece);
    OwnPiece own;
    for (size_t i = 0; i < piece.text.size(); ++i) {
      std::string character;
      unicode::append(character, byte_level_code(static_cast<unsigned char>(piece.text[i])));
      own.append(character, piece.from == nullptr ? nullptr : piece.from + i);
    }
    sink(own.view(piece));
  }

  SplitPattern gpt2_{kGpt2Pattern};
  bool prefix_space_, use_regex_, raw_bytes_;
};

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(const JsonObject& json) : mark_(json.get_or<std::string>("replacement", "\xE2\x96\x81")) {
    WINNOW_CHECK_KIND(unicode::count(mark_) == 1, ErrorKind::file, "{}: {} must be one character", json.file(),
                      json.where("replacement"));
    const auto scheme =
        json.get_or<std::string>("prepend_scheme", json.get_or("add_prefix_space", true) ? "always" : "never");
    WINNOW_CHECK_KIND(scheme == "always" || scheme == "never" || scheme == "first", ErrorKind::file,
                      "{}: {} must be always, first or never, got {}", json.file(), json.where("prepend_scheme"),
                      json_quote(scheme));
    always_ = scheme == "always";
    first_ = scheme == "first";
    split_ = json.get_or("split", true);
  }

  void split(const Piece& piece, PieceSink sink) const override {
    OwnPiece own;
    own.text.reserve(piece.text.size() * 3 / 2);
    const bool starts = piece.text.starts_with(' ') || piece.text.starts_with(mark_);
    if (!starts && (always_ || (first_ && piece.at_start))) own.append(mark_, piece.from);
    size_t done = 0;
    const auto keep_up_to = [&](size_t end) {
      own.text.append(piece.text, done, end - done);
      if (piece.from != nullptr) own.from.insert(own.from.end(), piece.from + done, piece.from + end);
    };
    for (auto at = piece.text.find(' '); at != std::string_view::npos; at = piece.text.find(' ', done)) {
      keep_up_to(at);
      own.append(mark_, piece.from == nullptr ? nullptr : piece.from + at);
      done = at + 1;
    }
    keep_up_to(piece.text.size());
    const auto whole = own.view(piece);
    if (!split_) return sink(whole);
    // A mark begins a piece, and every mark begins its own.
    const auto next_mark = [&](size_t from) { return std::min(whole.text.find(mark_, from), whole.text.size()); };
    for (size_t at = 0; at < whole.text.size();) {
      const auto end = next_mark(at + (at == 0 && !whole.text.starts_with(mark_) ? 0 : mark_.size()));
      sink(whole.part(at, end));
      at = end;
    }
  }

 private:
  std::string mark_;
  bool always_ = true, first_ = false, split_ = true;
};

// A pre-tokenizer without state but what the function holds.
class Function final : public PreTokenizer {
 public:
  using Call = std::function<void(const Piece&, const PieceSink&)>;
  explicit Function(Call call) : call_(std::move(call)) {}
  void split(const Piece& piece, PieceSink sink) const override { call_(piece, sink); }

 private:
  Call call_;
};
Made made(Function::Call call) {
  return std::make_unique<Function>(std::move(call));
}

enum class Class : uint8_t { space, mark, text };

// Runs of text, single marks; blanks are dropped.
template <typename Classify>
void split_words(const Piece& piece, const Classify& classify, bool marks_alone, const PieceSink& sink) {
  size_t begin = 0;
  auto kind = Class::space;
  for (size_t at = 0; at < piece.text.size();) {
    const auto c = unicode::decode(piece.text, at);
    const auto now = classify(c.code);
    if (now != kind || (now == Class::mark && marks_alone)) {
      if (kind != Class::space) sink(piece.part(begin, at));
      begin = at;
      kind = now;
    }
    at += c.length;
  }
  if (kind != Class::space) sink(piece.part(begin, piece.text.size()));
}

void split_bert(const Piece& piece, const PieceSink& sink) {
  static const std::array<Class, 128> kAscii = [] {
    std::array<Class, 128> table{};
    for (uint32_t c = 0; c < 128; ++c)
      table[c] = unicode::is_space(c)                       ? Class::space
                 : unicode::has(c, Trait::bert_punctuation) ? Class::mark
                                                            : Class::text;
    return table;
  }();
  const auto classify = [](uint32_t c) {
    if (c < 128) return kAscii[c];
    return unicode::is_space(c) ? Class::space : unicode::has(c, Trait::bert_punctuation) ? Class::mark : Class::text;
  };
  split_words(piece, classify, /*marks_alone=*/true, sink);
}

// \w+|[^\w\s]+
void split_whitespace(const Piece& piece, const PieceSink& sink) {
  const auto classify = [](uint32_t c) {
    return unicode::is_space(c) ? Class::space : unicode::is_plain_word(c) ? Class::text : Class::mark;
  };
  split_words(piece, classify, /*marks_alone=*/false, sink);
}

void split_at_blanks(const Piece& piece, const PieceSink& sink) {
  split_words(piece, [](uint32_t c) { return unicode::is_space(c) ? Class::space : Class::text; }, false, sink);
}

Made make_split(const JsonObject& json) {
  const auto pattern = read_pattern(json);
  const auto behavior = read_split_behavior(json, SplitBehavior::isolated);
  const bool invert = json.get_or("invert", false);
  WINNOW_CHECK_KIND(!pattern.text.empty(), ErrorKind::file, "{}: {} must not be empty", json.file(),
                    json.where("pattern"));
  const SplitPattern matcher(pattern.is_regex ? pattern.text : regex_quote(pattern.text));
  return made([=](const Piece& piece, const PieceSink& sink) {
    split_at(
        piece, [&](std::string_view text, size_t from) { return matcher.find(text, from); }, behavior, invert, sink);
  });
}

Made make_digits(const JsonObject& json) {
  const auto behavior = json.get_or("individual_digits", false) ? SplitBehavior::isolated : SplitBehavior::contiguous;
  return made([=](const Piece& piece, const PieceSink& sink) {
    const auto digit = [](uint32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : unicode::has(c, Trait::numeric); };
    split_at_characters(piece, digit, behavior, sink);
  });
}

Made make_punctuation(const JsonObject& json) {
  const auto behavior = read_split_behavior(json, SplitBehavior::isolated);
  return made([=](const Piece& piece, const PieceSink& sink) {
    split_at_characters(piece, [](uint32_t c) { return unicode::has(c, Trait::bert_punctuation); }, behavior, sink);
  });
}

Made make_delimiter(const JsonObject& json) {
  const auto delimiter = json.get<std::string>("delimiter");
  WINNOW_CHECK_KIND(unicode::count(delimiter) == 1, ErrorKind::file, "{}: {} must be one character", json.file(),
                    json.where("delimiter"));
  const auto code = unicode::decode(delimiter, 0).code;
  return made([=](const Piece& piece, const PieceSink& sink) {
    split_at_characters(piece, [=](uint32_t c) { return c == code; }, SplitBehavior::removed, sink);
  });
}

Made make_fixed_length(const JsonObject& json) {
  const auto length = json.get_or<int64_t>("length", 5);
  WINNOW_CHECK_KIND(length >= 1, ErrorKind::file, "{}: {} must be at least 1, got {}", json.file(),
                    json.where("length"), length);
  return made([=](const Piece& piece, const PieceSink& sink) {
    for (size_t begin = 0, end = 0; begin < piece.text.size(); begin = end) {
      for (int64_t i = 0; i < length && end < piece.text.size(); ++i) end += unicode::length_of(piece.text[end]);
      sink(piece.part(begin, end));
    }
  });
}

class Sequence final : public PreTokenizer {
 public:
  Sequence(const JsonObject& json, bool raw_bytes) {
    const auto& list = json.raw("pretokenizers");
    WINNOW_CHECK_KIND(list.is_array(), ErrorKind::file, "{}: {} must be a list", json.file(),
                      json.where("pretokenizers"));
    for (size_t i = 0; i < list.size(); ++i) {
      const auto path = fmt::format("{}[{}]", json.where("pretokenizers"), i);
      auto one = make_pre_tokenizer(list[i], json.file(), path, raw_bytes && i + 1 == list.size());
      if (one) all_.push_back(std::move(one));
    }
  }
  void split(const Piece& piece, PieceSink sink) const override { run(0, piece, sink); }

 private:
  void run(size_t step, const Piece& piece, const PieceSink& sink) const {
    if (step == all_.size()) return sink(piece);
    if (step + 1 == all_.size()) return all_[step]->split(piece, sink);
    all_[step]->split(piece, [&](const Piece& part) { run(step + 1, part, sink); });
  }
  std::vector<Made> all_;
};

using Maker = std::function<Made(const JsonObject&, bool raw_bytes)>;
const std::map<std::string, Maker>& makers() {
  const auto plain = [](void (*function)(const Piece&, const PieceSink&)) -> Maker {
    return [function](const JsonObject&, bool) { return made(function); };
  };
  const auto read = [](Made (*make)(const JsonObject&)) -> Maker {
    return [make](const JsonObject& json, bool) { return make(json); };
  };
  static const std::map<std::string, Maker> all = {
      {"BertPreTokenizer", plain(split_bert)},
      {"ByteLevel", [](const JsonObject& json, bool raw) -> Made { return std::make_unique<ByteLevel>(json, raw); }},
      {"CharDelimiterSplit", read(make_delimiter)},
      {"Digits", read(make_digits)},
      {"FixedLength", read(make_fixed_length)},
      {"Metaspace", [](const JsonObject& json, bool) -> Made { return std::make_unique<Metaspace>(json); }},
      {"Punctuation", read(make_punctuation)},
      {"Sequence", [](const JsonObject& json, bool raw) -> Made { return std::make_unique<Sequence>(json, raw); }},
      {"Split", read(make_split)},
      {"Whitespace", plain(split_whitespace)},
      {"WhitespaceSplit", plain(split_at_blanks)},
  };
  return all;
}

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const Json& json, const std::string& file,
                                                       const std::string& path, bool raw_bytes) {
  if (json.is_null()) return nullptr;
  const JsonObject object(json, file, path);
  const auto type = object.get<std::string>("type");
  const auto found = makers().find(type);
  WINNOW_CHECK_KIND(found != makers().end(), ErrorKind::unsupported,
                    "{}: {}: a pre-tokenizer of type {} is not supported", file, path, json_quote(type));
  return found->second(object, raw_bytes);
}

bool ends_in_byte_level(const Json& json) {
  if (!json.is_object() || !json.contains("type")) return false;
  if (json["type"] == "ByteLevel") return true;
  if (json["type"] != "Sequence" || !json.contains("pretokenizers") || !json["pretokenizers"].is_array()) return false;
  return !json["pretokenizers"].empty() && ends_in_byte_level(json["pretokenizers"].back());
}

}  // namespace winnow::io
