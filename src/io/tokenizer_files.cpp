#include "tokenizer_files.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/bytes.h"

namespace winnow::io {

namespace fs = std::filesystem;

JsonObject read_json_beside(const fs::path& folder, const std::string& file) {
  const auto path = folder / file;
  return fs::is_regular_file(path) ? JsonObject::read(path) : JsonObject(Json::object(), path.string());
}

namespace {

// A token as files write it: text, or an object with its content.
std::optional<std::string> read_token_text(const JsonObject& json, const std::string& key) {
  if (!json.has(key)) return std::nullopt;
  if (json.raw(key).is_object()) return json.object(key).get<std::string>("content");
  return json.raw(key).is_string() ? std::optional(json.get<std::string>(key)) : std::nullopt;
}

// An id as config.json writes it: a number, or a list of which the first counts.
std::optional<int64_t> read_id(const JsonObject& json, const std::string& key) {
  if (!json.has(key)) return std::nullopt;
  const auto& value = json.raw(key);
  const auto& id = value.is_array() && !value.empty() ? value[0] : value;
  if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > 1e9) return std::nullopt;
  return id.get<int64_t>();
}

Json added_token(int64_t id, const std::string& content, bool lstrip = false) {
  return {{"id", id}, {"content", content}, {"special", true}, {"lstrip", lstrip}, {"normalized", false}};
}

std::vector<std::string> read_lines(const fs::path& path) {
  auto lines = split(read_file_or_gzip(path), '\n');
  for (auto& line : lines) {
    if (line.ends_with('\r')) line.pop_back();
    WINNOW_CHECK_KIND(unicode::find_invalid(line) == std::string::npos, ErrorKind::file, "{}: line {} is not UTF-8",
                      path.string(), &line - lines.data() + 1);
  }
  return lines;
}

Json byte_level(bool prefix_space, bool trim) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}, {"trim_offsets", trim}, {"use_regex", true}};
}

}  // namespace

SpecialIds read_special_ids(const fs::path& folder, const Tokenizer& tokenizer) {
  auto ids = tokenizer.special_ids();
  const auto names = std::to_array<std::pair<const char*, std::optional<int64_t>*>>({{"bos", &ids.bos},
                                                                                     {"eos", &ids.eos},
                                                                                     {"unk", &ids.unk},
                                                                                     {"pad", &ids.pad},
                                                                                     {"cls", &ids.cls},
                                                                                     {"sep", &ids.sep},
                                                                                     {"mask", &ids.mask}});
  for (const auto* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto json = read_json_beside(folder, file);
    for (const auto& [name, id] : names) {
      const auto token = read_token_text(json, std::string(name) + "_token");
      if (token && !*id) *id = tokenizer.token_id(*token);
    }
  }
  const auto config = read_json_beside(folder, "config.json");
  for (const auto& [name, id] : names) {
    if (!*id) *id = read_id(config, std::string(name) + "_token_id");
  }
  return ids;
}

Json tokenizer_json_of_merges(const fs::path& vocab, const fs::path& merges) {
  auto tokens = read_json(vocab);
  WINNOW_CHECK_KIND(tokens.is_object(), ErrorKind::file, "{}: must be an object of tokens and ids", vocab.string());
  const auto has = [&](const char* token) { return tokens.contains(token) && tokens[token].is_number_integer(); };
  for (const auto& [token, id] : tokens.items()) {
    WINNOW_CHECK_KIND(!token.ends_with("</w>"), ErrorKind::unsupported,
                      "{}: a vocabulary whose tokens end words by </w> needs its tokenizer.json", vocab.string());
  }
  Json pairs = Json::array();
  for (const auto& line : read_lines(merges)) {
    if (!line.empty() && !line.starts_with("#version")) pairs.push_back(line);
  }
  const auto config = read_json_beside(vocab.parent_path(), "tokenizer_config.json");
  const bool roberta = has("<s>") && has("</s>") && has("<mask>");
  const bool prefix_space = config.get_or("add_prefix_space", roberta);
  Json json = {{"model", {{"type", "BPE"}, {"vocab", std::move(tokens)}, {"merges", std::move(pairs)}}},
               {"pre_tokenizer", byte_level(prefix_space, true)},
               {"decoder", byte_level(prefix_space, true)},
               {"post_processor", byte_level(true, false)},
               {"added_tokens", Json::array()}};
  const auto& ids = json["model"]["vocab"];
  for (const auto* token : {"<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"}) {
    const bool wanted = std::string_view(token) == "<|endoftext|>" ? !roberta : roberta;
    if (wanted && ids.contains(token))
      json["added_tokens"].push_back(
          added_token(ids[token].get<int64_t>(), token, std::string_view(token) == "<mask>"));
  }
  if (roberta) {
    json["post_processor"] = {{"type", "RobertaProcessing"},
                              {"sep", {"</s>", ids["</s>"]}},
                              {"cls", {"<s>", ids["<s>"]}},
                              {"trim_offsets", true},
                              {"add_prefix_space", prefix_space}};
  }
  return json;
}

Json tokenizer_json_of_vocab_txt(const fs::path& vocab) {
  Json ids = Json::object();
  bool any_capital = false;
  int64_t id = 0;
  auto lines = read_lines(vocab);
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (const auto& line : lines) {
    if (!line.starts_with('['))
      any_capital = any_capital || std::any_of(line.begin(), line.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    WINNOW_CHECK_KIND(ids.emplace(line, id).second, ErrorKind::file, "{}: line {}: token {} stands twice",
                      vocab.string(), id + 1, json_quote(line));
    ++id;
  }
  for (const auto* token : {"[UNK]", "[CLS]", "[SEP]"}) {
    WINNOW_CHECK_KIND(ids.contains(token), ErrorKind::file, "{}: the vocabulary has no token {}", vocab.string(),
                      token);
  }
  const auto config = read_json_beside(vocab.parent_path(), "tokenizer_config.json");
  const bool lowercase = config.get_or("do_lower_case", !any_capital);
  Json normalizer = {{"type", "BertNormalizer"},
                     {"clean_text", true},
                     {"handle_chinese_chars", config.get_or("tokenize_chinese_chars", true)},
                     {"strip_accents", config.get_or("strip_accents", lowercase)},
                     {"lowercase", lowercase}};
  Json added = Json::array();
  for (const auto* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    if (ids.contains(token)) added.push_back(added_token(ids[token].get<int64_t>(), token));
  }
  Json processor = {{"type", "BertProcessing"}, {"sep", {"[SEP]", ids["[SEP]"]}}, {"cls", {"[CLS]", ids["[CLS]"]}}};
  return {
      {"model",
       {{"type", "WordPiece"}, {"unk_token", "[UNK]"}, {"continuing_subword_prefix", "##"}, {"vocab", std::move(ids)}}},
      {"normalizer", std::move(normalizer)},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor", std::move(processor)},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"added_tokens", std::move(added)}};
}

}  // namespace winnow::io
