#include "normalizer.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "byte_level.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/io/charsmap.h"

namespace winnow::io {
namespace {

using unicode::Trait;

// A normaliser without state.
class Function final : public Normalizer {
 public:
  explicit Function(std::function<void(AlignedText&)> function) : function_(std::move(function)) {}
  void apply(AlignedText& text) const override { function_(text); }

 private:
  std::function<void(AlignedText&)> function_;
};

using Made = std::unique_ptr<const Normalizer>;
Made made(std::function<void(AlignedText&)> function) {
  return std::make_unique<Function>(std::move(function));
}

void lowercase(AlignedText& text) {
  std::vector<CharChange> changes;
  for (const auto code : unicode::to_codes(text.text)) {
    changes.push_back({unicode::lower(code), 0});
    if (code == 0x130) changes.push_back({0x307, 1});
  }
  text.transform(changes);
}

void strip(AlignedText& text, bool left, bool right) {
  const auto codes = unicode::to_codes(text.text);
  const auto blank = [](uint32_t code) { return unicode::is_space(code); };
  const auto first = std::find_if_not(codes.begin(), codes.end(), blank) - codes.begin();
  const auto last = std::find_if_not(codes.rbegin(), codes.rend(), blank) - codes.rbegin();
  text.cut(left ? static_cast<size_t>(first) : 0, right ? static_cast<size_t>(last) : 0);
}

// What SentencePiece's nmt rules do before anything else.
void nmt(AlignedText& text) {
  text.filter([](uint32_t c) {
    return !((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F);
  });
  text.map([](uint32_t c) {
    const bool blank = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                       c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    return blank ? uint32_t{' '} : c;
  });
}

bool is_cjk(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

struct BertOptions {
  bool clean_text, handle_chinese_chars, strip_accents, lowercase;
};

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(BertOptions options) : options_(options) {}

  void apply(AlignedText& text) const override {
    if (unicode::is_ascii(text.text) && !text.tracked) return ascii(text);
    if (options_.clean_text) clean(text);
    if (options_.handle_chinese_chars) put_blanks_around_cjk(text);
    if (options_.strip_accents) {
      normal_form(text, /*compatibility=*/false, /*composed=*/false);
      text.filter([](uint32_t c) { return !unicode::has(c, Trait::bert_mark); });
    }
    if (options_.lowercase) lowercase(text);
  }

 private:
  static void clean(AlignedText& text) {
    text.filter([](uint32_t c) { return c != 0 && !unicode::has(c, Trait::bert_control); });
    text.map([](uint32_t c) { return unicode::is_space(c) ? uint32_t{' '} : c; });
  }

  static void put_blanks_around_cjk(AlignedText& text) {
    std::vector<CharChange> changes;
    for (const auto code : unicode::to_codes(text.text)) {
      if (is_cjk(code)) {
        changes.insert(changes.end(), {{' ', 0}, {code, 1}, {' ', 1}});
      } else {
        changes.push_back({code, 0});
      }
    }
    text.transform(changes);
  }

  void ascii(AlignedText& text) const {
    std::string fresh;
    fresh.reserve(text.text.size());
    for (const char c : text.text) {
      const auto code = static_cast<unsigned char>(c);
      const bool blank = code == '\t' || code == '\n' || code == '\r';
      if (options_.clean_text && (code < ' ' || code == 0x7F)) {
        if (blank) fresh += ' ';
      } else {
        fresh += options_.lowercase && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
      }
    }
    text.text = std::move(fresh);
  }

  BertOptions options_;
};

Made make_bert(const JsonObject& json) {
  const bool lower = json.get_or("lowercase", true);
  return std::make_unique<BertNormalizer>(BertOptions{.clean_text = json.get_or("clean_text", true),
                                                      .handle_chinese_chars = json.get_or("handle_chinese_chars", true),
                                                      .strip_accents = json.get_or("strip_accents", lower),
                                                      .lowercase = lower});
}

Made make_replace(const JsonObject& json) {
  const auto pattern = read_pattern(json);
  auto content = json.get<std::string>("content");
  if (!pattern.is_regex) {
    return made([text = pattern.text, content](AlignedText& t) { t.replace_text(text, content); });
  }
  return made([regex = Regex(pattern.text), content](AlignedText& t) { t.replace(regex, content); });
}

// A replaced part: its characters stand for those of the part one by one, further ones for its last; where they are
// fewer, the last takes the rest with it.
void add_replacement(std::vector<CharChange>& changes, std::string_view part, std::string_view replacement) {
  const auto fresh = unicode::to_codes(replacement);
  const auto old_count = static_cast<size_t>(unicode::count(part));
  for (size_t i = 0; i < fresh.size(); ++i) changes.push_back({fresh[i], i < old_count ? 0 : 1});
  if (fresh.size() < old_count && !changes.empty())
    changes.back().change -= static_cast<int32_t>(old_count - fresh.size());
}

std::string decode_base64(const std::string& text, const JsonObject& json) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto digit = kDigits.find(c);
    WINNOW_CHECK_KIND(digit != std::string_view::npos, ErrorKind::file, "{}: {} is no base64", json.file(),
                      json.where("precompiled_charsmap"));
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xFF);
    }
  }
  return out;
}

Made make_precompiled(const JsonObject& json) {
  const auto blob = decode_base64(json.get<std::string>("precompiled_charsmap"), json);
  const auto map = std::make_shared<const Charsmap>(as_bytes(blob), json.file());
  return made([map](AlignedText& text) {
    std::vector<CharChange> changes;
    const auto source = text.text;
    for (const auto& [begin, end, replacement] : apply_precompiled(*map, source))
      add_replacement(changes, std::string_view(source).substr(begin, end - begin), replacement);
    text.transform(changes);
  });
}

Made make_sequence(const JsonObject& json) {
  std::vector<std::shared_ptr<const Normalizer>> all;
  const auto& list = json.raw("normalizers");
  WINNOW_CHECK_KIND(list.is_array(), ErrorKind::file, "{}: {} must be a list", json.file(), json.where("normalizers"));
  for (size_t i = 0; i < list.size(); ++i) {
    auto one = make_normalizer(list[i], json.file(), fmt::format("{}[{}]", json.where("normalizers"), i));
    if (one) all.push_back(std::move(one));
  }
  return made([all](AlignedText& text) {
    for (const auto& one : all) one->apply(text);
  });
}

Made make_byte_level() {
  return made([](AlignedText& text) {
    std::vector<CharChange> changes;
    for (size_t at = 0; at < text.text.size();) {
      const auto length = unicode::length_of(text.text[at]);
      for (uint32_t i = 0; i < length; ++i)
        changes.push_back({byte_level_code(static_cast<unsigned char>(text.text[at + i])), i == 0 ? 0 : 1});
      at += length;
    }
    text.transform(changes);
  });
}

using Maker = std::function<Made(const JsonObject&)>;
const std::map<std::string, Maker>& makers() {
  const auto form = [](bool compatibility, bool composed) -> Maker {
    return [=](const JsonObject&) { return made([=](AlignedText& t) { normal_form(t, compatibility, composed); }); };
  };
  const auto plain = [](void (*function)(AlignedText&)) -> Maker {
    return [function](const JsonObject&) { return made(function); };
  };
  static const std::map<std::string, Maker> all = {
      {"BertNormalizer", make_bert},
      {"ByteLevel", [](const JsonObject&) { return make_byte_level(); }},
      {"Lowercase", plain(lowercase)},
      {"NFC", form(false, true)},
      {"NFD", form(false, false)},
      {"NFKC", form(true, true)},
      {"NFKD", form(true, false)},
      {"Nmt", plain(nmt)},
      {"Precompiled", make_precompiled},
      {"Prepend",
       [](const JsonObject& json) {
         return made([prefix = json.get<std::string>("prepend")](AlignedText& t) { t.prepend(prefix); });
       }},
      {"Replace", make_replace},
      {"Sequence", make_sequence},
      {"Strip",
       [](const JsonObject& json) {
         const bool left = json.get_or("strip_left", true), right = json.get_or("strip_right", true);
         return made([=](AlignedText& t) { strip(t, left, right); });
       }},
      {"StripAccents",
       plain([](AlignedText& t) { t.filter([](uint32_t c) { return !unicode::has(c, Trait::accent); }); })},
  };
  return all;
}

}  // namespace

TextPattern read_pattern(const JsonObject& component) {
  const auto& pattern = component.raw("pattern");
  if (pattern.is_string()) return {pattern.get<std::string>(), false};
  const auto object = component.object("pattern");
  if (object.has("Regex")) return {object.get<std::string>("Regex"), true};
  return {object.get<std::string>("String"), false};
}

std::unique_ptr<const Normalizer> make_normalizer(const Json& json, const std::string& file, const std::string& path) {
  if (json.is_null()) return nullptr;
  const JsonObject object(json, file, path);
  const auto type = object.get<std::string>("type");
  const auto found = makers().find(type);
  WINNOW_CHECK_KIND(found != makers().end(), ErrorKind::unsupported, "{}: {}: a normalizer of type {} is not supported",
                    file, path, json_quote(type));
  return found->second(object);
}

}  // namespace winnow::io
