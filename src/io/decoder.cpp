#include "decoder.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "aligned_text.h"
#include "byte_level.h"
#include "normalizer.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

using StageMaker = std::function<std::unique_ptr<DecodeStage>()>;

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  auto at = from.empty() ? std::string::npos : text.find(from);
  if (at == std::string::npos) return text;
  std::string out;
  size_t done = 0;
  for (; at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  return out.append(text, done);
}

// The blanks that English spelling does without.
std::string clean_up(std::string text) {
  constexpr auto kRules = std::to_array<std::pair<const char*, const char*>>({{" .", "."},
                                                                              {" ?", "?"},
                                                                              {" !", "!"},
                                                                              {" ,", ","},
                                                                              {" ' ", "'"},
                                                                              {" n't", "n't"},
                                                                              {" 'm", "'m"},
                                                                              {" do not", " don't"},
                                                                              {" 's", "'s"},
                                                                              {" 've", "'ve"},
                                                                              {" 're", "'re"}});
  const auto may_match = [&](size_t blank) {
    return blank + 1 < text.size() && std::string_view(".?!,'nd").find(text[blank + 1]) != std::string_view::npos;
  };
  auto blank = text.find(' ');
  while (blank != std::string::npos && !may_match(blank)) blank = text.find(' ', blank + 1);
  if (blank == std::string::npos) return text;
  for (const auto& [from, to] : kRules) text = replaced(std::move(text), from, to);
  return text;
}

// Each token by itself.
class Each final : public DecodeStage {
 public:
  using Call = std::function<std::string(std::string_view token, bool first)>;
  explicit Each(Call call) : call_(std::move(call)) {}
  void push(std::string_view token, const Next& next) override {
    next(call_(token, first_));
    first_ = false;
  }

 private:
  Call call_;
  bool first_ = true;
};
StageMaker each(Each::Call call) {
  return [call = std::move(call)] { return std::make_unique<Each>(call); };
}

// Tokens in the byte-level alphabet to bytes, which need not be whole characters.
class ByteLevelStage final : public DecodeStage {
 public:
  void push(std::string_view token, const Next& next) override {
    const auto bytes = byte_level_bytes(token);
    next(bytes ? std::string_view(*bytes) : token);
  }
};

// <0x41>: runs of such tokens are one text where they are UTF-8, else a U+FFFD for each.
class ByteFallbackStage final : public DecodeStage {
 public:
  void push(std::string_view token, const Next& next) override {
    if (const auto byte = byte_of(token)) {
      bytes_ += *byte;
      return;
    }
    flush(next);
    next(token);
  }
  void finish(const Next& next) override { flush(next); }

 private:
  static std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    int value = 0;
    for (const char c : token.substr(3, 2)) {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                               : -1;
      if (digit < 0) return std::nullopt;
      value = value * 16 + digit;
    }
    return static_cast<char>(value);
  }
  void flush(const Next& next) {
    if (bytes_.empty()) return;
    const auto bytes = std::exchange(bytes_, {});
    if (unicode::find_invalid(bytes) == std::string::npos) return next(bytes);
    for (size_t i = 0; i < bytes.size(); ++i) next("\xEF\xBF\xBD");
  }
  std::string bytes_;
};

// All tokens as one, at the end.
class FuseStage final : public DecodeStage {
 public:
  explicit FuseStage(bool repair) : repair_(repair) {}
  void push(std::string_view token, const Next&) override { text_ += token; }
  void finish(const Next& next) override { next(repair_ ? unicode::repair(text_) : text_); }

 private:
  std::string text_;
  bool repair_;  // the tokens are bytes
};

// A token that knows whether it is the last: end-of-word marks become blanks but for the last one.
class WordEndStage final : public DecodeStage {
 public:
  explicit WordEndStage(std::string suffix) : suffix_(std::move(suffix)) {}
  void push(std::string_view token, const Next& next) override {
    if (held_) next(replaced(*held_, suffix_, " "));
    held_ = std::string(token);
  }
  void finish(const Next& next) override {
    if (held_) next(replaced(*held_, suffix_, ""));
  }

 private:
  std::string suffix_;
  std::optional<std::string> held_;
};

struct StripOptions {
  std::string content;
  size_t start, stop;
};

std::string stripped(std::string_view token, const StripOptions& strip) {
  for (size_t i = 0; i < strip.start && token.starts_with(strip.content); ++i)
    token.remove_prefix(strip.content.size());
  for (size_t i = 0; i < strip.stop && token.ends_with(strip.content); ++i) token.remove_suffix(strip.content.size());
  return std::string(token);
}

// Strip of the whole text as it comes: what stands at its end may have to go.
class StripTextStage final : public DecodeStage {
 public:
  explicit StripTextStage(StripOptions strip) : strip_(std::move(strip)), left_(strip_.start) {}
  void push(std::string_view token, const Next& next) override {
    text_ += token;
    while (left_ > 0 && text_.starts_with(strip_.content)) {
      text_.erase(0, strip_.content.size());
      --left_;
    }
    if (!text_.empty() && !strip_.content.starts_with(text_)) left_ = 0;
    if (left_ > 0) return;
    std::string_view ready = text_;
    for (size_t i = 0; i < strip_.stop && ready.ends_with(strip_.content); ++i)
      ready.remove_suffix(strip_.content.size());
    if (ready.empty()) return;
    next(std::string(ready));
    text_.erase(0, ready.size());
  }
  void finish(const Next& next) override { next(stripped(text_, {strip_.content, 0, strip_.stop})); }

 private:
  StripOptions strip_;
  size_t left_;
  std::string text_;
};

// Connectionist temporal classification: repeated tokens are one, the padding token is nothing.
struct CtcOptions {
  std::string pad, delimiter;
  bool cleanup;
};
class CtcStage final : public DecodeStage {
 public:
  explicit CtcStage(CtcOptions options) : options_(std::move(options)) {}
  void push(std::string_view token, const Next& next) override {
    if (before_ == token) return;
    before_ = std::string(token);
    auto text = replaced(std::string(token), options_.pad, "");
    if (options_.cleanup) text = replaced(clean_up(std::move(text)), options_.delimiter, " ");
    if (!text.empty()) next(text);
  }

 private:
  CtcOptions options_;
  std::optional<std::string> before_;
};

StageMaker make_word_piece(const JsonObject& json) {
  const auto prefix = json.get_or<std::string>("prefix", "##");
  const bool cleanup = json.get_or("cleanup", true);
  return each([=](std::string_view token, bool first) {
    std::string text(token);
    if (!first) text = !prefix.empty() && token.starts_with(prefix) ? text.substr(prefix.size()) : " " + text;
    return cleanup ? clean_up(std::move(text)) : text;
  });
}

StageMaker make_metaspace(const JsonObject& json) {
  const auto mark = json.get_or<std::string>("replacement", "\xE2\x96\x81");
  const auto scheme =
      json.get_or<std::string>("prepend_scheme", json.get_or("add_prefix_space", true) ? "always" : "never");
  return each([=](std::string_view token, bool first) {
    return replaced(std::string(token), mark, first && scheme != "never" ? "" : " ");
  });
}

StageMaker make_replace(const JsonObject& json) {
  const auto pattern = read_pattern(json);
  const auto content = json.get<std::string>("content");
  const auto regex = pattern.is_regex ? std::make_shared<const Regex>(pattern.text) : nullptr;
  return each([=](std::string_view token, bool) {
    if (regex == nullptr) return replaced(std::string(token), pattern.text, content);
    AlignedText text(token, 0, /*track=*/false);
    text.replace(*regex, content);
    return text.text;
  });
}

StripOptions read_strip(const JsonObject& json) {
  StripOptions strip{.content = json.get<std::string>("content"), .start = 0, .stop = 0};
  const auto count = [&](const char* key) {
    const auto value = json.get_or<int64_t>(key, 0);
    WINNOW_CHECK_KIND(value >= 0, ErrorKind::file, "{}: {} must be at least 0, got {}", json.file(), json.where(key),
                      value);
    return static_cast<size_t>(value);
  };
  WINNOW_CHECK_KIND(unicode::count(strip.content) == 1, ErrorKind::file, "{}: {} must be one character", json.file(),
                    json.where("content"));
  strip.start = count("start");
  strip.stop = count("stop");
  return strip;
}

StageMaker make_ctc(const JsonObject& json) {
  const CtcOptions options{.pad = json.get_or<std::string>("pad_token", "<pad>"),
                           .delimiter = json.get_or<std::string>("word_delimiter_token", "|"),
                           .cleanup = json.get_or("cleanup", true)};
  return [options] { return std::make_unique<CtcStage>(options); };
}

// Reads the decoders of a file as one list, sequences in sequences written out.
class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file) {}

  void read(const Json& json, const std::string& path) {
    const JsonObject object(json, file_, path);
    const auto type = object.get<std::string>("type");
    if (type == "Sequence") {
      const auto& list = object.raw("decoders");
      WINNOW_CHECK_KIND(list.is_array(), ErrorKind::file, "{}: {} must be a list", file_, object.where("decoders"));
      for (size_t i = 0; i < list.size(); ++i) read(list[i], fmt::format("{}[{}]", object.where("decoders"), i));
      return;
    }
    objects_.push_back({type, object});
  }

  [[nodiscard]] std::vector<StageMaker> stages() const {
    std::vector<StageMaker> stages;
    for (size_t i = 0; i < objects_.size(); ++i) {
      const auto& [type, json] = objects_[i];
      const bool last = i + 1 == objects_.size();
      if (type == "Fuse") {
        if (last) continue;  // joining is what happens anyway
        if (objects_[i + 1].first == "Strip" && i + 2 == objects_.size()) {
          const auto strip = read_strip(objects_[i + 1].second);
          stages.push_back([strip] { return std::make_unique<StripTextStage>(strip); });
          return stages;
        }
      }
      stages.push_back(one(type, json));
      if (type == "ByteLevel" && !last) stages.push_back([] { return std::make_unique<FuseStage>(true); });
    }
    return stages;
  }

 private:
  [[nodiscard]] StageMaker one(const std::string& type, const JsonObject& json) const {
    if (type == "ByteLevel") return [] { return std::make_unique<ByteLevelStage>(); };
    if (type == "ByteFallback") return [] { return std::make_unique<ByteFallbackStage>(); };
    if (type == "Fuse") return [] { return std::make_unique<FuseStage>(false); };
    if (type == "WordPiece") return make_word_piece(json);
    if (type == "Metaspace") return make_metaspace(json);
    if (type == "Replace") return make_replace(json);
    if (type == "CTC") return make_ctc(json);
    if (type == "Strip") {
      return each([strip = read_strip(json)](std::string_view token, bool) { return stripped(token, strip); });
    }
    if (type == "BPEDecoder") {
      const auto suffix = json.get_or<std::string>("suffix", "</w>");
      return [suffix] { return std::make_unique<WordEndStage>(suffix); };
    }
    fail(ErrorKind::unsupported, "{}: {}: a decoder of type {} is not supported", json.file(), json.where("type"),
         json_quote(type));
  }

  std::string file_;
  std::vector<std::pair<std::string, JsonObject>> objects_;
};

}  // namespace

DecodeStagesMaker make_decoder(const Json& json, const std::string& file) {
  std::vector<StageMaker> stages;
  if (json.is_null()) {
    stages.push_back(each([](std::string_view token, bool first) { return (first ? "" : " ") + std::string(token); }));
  } else {
    Reader reader(file);
    reader.read(json, "decoder");
    stages = reader.stages();
  }
  return [stages] {
    DecodeStages made;
    for (const auto& stage : stages) made.push_back(stage());
    return made;
  };
}

}  // namespace winnow::io
