#include "sentencepiece_normalizer.h"

#include <optional>

#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// What the beginning of the input becomes, and how many bytes of it that takes.
struct Step {
  std::string_view text;
  std::size_t consumed;
};

Step first_step(const Charsmap* map, const PieceTrie* whole, std::string_view input) {
  if (whole != nullptr) {
    if (const auto length = whole->longest(input); length > 0) return {input.substr(0, length), length};
  }
  if (map != nullptr) {
    if (const auto rule = map->longest(input)) return {rule->replacement, rule->length};
  }
  const auto length = utf8_length(input);
  if (length == 0) return {kReplacement, 1};
  return {input.substr(0, length), length};
}

class Normalizer {
 public:
  Normalizer(const SentencePieceModel& model, const PieceTrie& whole, bool with_origin)
      : model_(model), whole_(whole.empty() ? nullptr : &whole), with_origin_(with_origin) {}

  SentencePieceText run(std::string_view input) {
    if (input.empty()) return std::move(out_);
    out_.text.reserve(input.size() + input.size() / 2 + 3);
    if (model_.remove_extra_whitespaces) skip_blanks(input);
    if (input.empty()) return std::move(out_);
    if (model_.add_dummy_prefix && !model_.whitespace_as_suffix) add_blank();
    add_characters(input);
    if (model_.remove_extra_whitespaces) drop_trailing_blanks();
    if (model_.add_dummy_prefix && model_.whitespace_as_suffix) add_blank();
    if (with_origin_) out_.origin.push_back(consumed_);
    return std::move(out_);
  }

 private:
  Step step(std::string_view input) const { return first_step(model_.charsmap.get(), whole_, input); }
  [[nodiscard]] std::string_view blank() const { return model_.escape_whitespaces ? kBlankMark : " "; }

  void add(std::string_view text) {
    out_.text += text;
    if (with_origin_) out_.origin.insert(out_.origin.end(), text.size(), consumed_);
  }
  void add_blank() { add(blank()); }

  void skip_blanks(std::string_view& input) {
    while (!input.empty()) {
      const auto next = step(input);
      if (next.text != " ") return;
      input.remove_prefix(next.consumed);
      consumed_ += next.consumed;
    }
  }

  void add_characters(std::string_view input) {
    bool after_blank = model_.remove_extra_whitespaces;
    while (!input.empty()) {
      auto [text, consumed] = step(input);
      while (after_blank && text.starts_with(' ')) text.remove_prefix(1);
      if (!text.empty()) {
        after_blank = text.ends_with(' ');
        add_escaped(text);
      }
      consumed_ += consumed;
      input.remove_prefix(consumed);
      after_blank = after_blank && model_.remove_extra_whitespaces;
    }
  }

  void add_escaped(std::string_view text) {
    if (!model_.escape_whitespaces || text.find(' ') == std::string_view::npos) return add(text);
    for (std::size_t i = 0; i < text.size(); ++i) add(text[i] == ' ' ? kBlankMark : text.substr(i, 1));
  }

  void drop_trailing_blanks() {
    while (out_.text.ends_with(blank())) {
      out_.text.resize(out_.text.size() - blank().size());
      if (!with_origin_) continue;
      consumed_ = out_.origin[out_.text.size()];
      out_.origin.resize(out_.text.size());
    }
  }

  const SentencePieceModel& model_;
  const PieceTrie* whole_;
  bool with_origin_;
  SentencePieceText out_;
  std::size_t consumed_ = 0;
};

}  // namespace

SentencePieceText sentencepiece_normalize(const SentencePieceModel& model, const PieceTrie& whole,
                                          std::string_view bytes, bool with_origin) {
  return Normalizer(model, whole, with_origin).run(bytes);
}

std::string sentencepiece_denormalize(const Charsmap& map, std::string_view bytes) {
  std::string result;
  while (!bytes.empty()) {
    const auto next = first_step(&map, nullptr, bytes);
    result += next.text;
    bytes.remove_prefix(next.consumed);
  }
  return result;
}

}  // namespace winnow::io
