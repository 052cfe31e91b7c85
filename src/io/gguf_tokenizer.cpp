#include "winnow/io/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>

#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow::io {
namespace {

constexpr const char* kBlank = "\xe2\x96\x81";  // U+2581
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The numbers of tokenizer.ggml.token_type.
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
};

Vocabulary read_vocabulary(const JsonObject& data) {
  Vocabulary vocabulary{.tokens = data.get<std::vector<std::string>>("tokenizer.ggml.tokens"), .types = {}};
  vocabulary.types.assign(vocabulary.tokens.size(), kNormal);
  if (data.has("tokenizer.ggml.token_type")) {
    vocabulary.types = data.get<std::vector<int64_t>>("tokenizer.ggml.token_type");
  }
  WINNOW_CHECK_KIND(vocabulary.types.size() == vocabulary.tokens.size() && !vocabulary.tokens.empty(), ErrorKind::file,
                    "{}: tokenizer.ggml.tokens and token_type must be as long and not empty, got {} and {}",
                    data.file(), vocabulary.tokens.size(), vocabulary.types.size());
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    WINNOW_CHECK_KIND(unicode::find_invalid(vocabulary.tokens[id]) == std::string_view::npos, ErrorKind::file,
                      "{}: token {} is not UTF-8", data.file(), id);
  }
  return vocabulary;
}

std::optional<int64_t> token_id(const JsonObject& data, const std::string& name, std::size_t count) {
  const auto key = "tokenizer.ggml." + name + "_token_id";
  if (!data.has(key)) return std::nullopt;
  const auto id = data.get<int64_t>(key);
  // 2^32 - 1 is how files say that there is none.
  if (id == int64_t{0xffffffff}) return std::nullopt;
  WINNOW_CHECK_KIND(id >= 0 && id < static_cast<int64_t>(count), ErrorKind::file, "{}: {} must be below {}, got {}",
                    data.file(), key, count, id);
  return id;
}

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json split_by(const char* pattern) {
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(false)}}};
}

// How a kind of byte-level BPE cuts text, by tokenizer.ggml.pre.
struct PreSplit {
  Json pre_tokenizer;
  Json normalizer = nullptr;
  bool ignore_merges = false;
  bool adds_bos = false;  // unless the file says otherwise
};

PreSplit pre_split(const JsonObject& data) {
  const auto name = data.get_or<std::string>("tokenizer.ggml.pre", "gpt-2");
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  if (is("gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "default")) return {.pre_tokenizer = byte_level(true)};
  if (is("smollm", "starcoder", "refact", "codeshell")) {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return {.pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", {digits, byte_level(true)}}}};
  }
  if (is("llama-bpe", "llama3", "llama-v3")) {
    return {.pre_tokenizer = split_by(kLlama3Pattern), .ignore_merges = true, .adds_bos = true};
  }
  if (is("qwen2", "deepseek-r1-qwen")) {
    return {.pre_tokenizer = split_by(kQwen2Pattern), .normalizer = {{"type", "NFC"}}};
  }
  fail(ErrorKind::unsupported, "{}: tokenizer.ggml.pre: the pre-split {} is not known", data.file(),
       json_quote(printable(name, 60)));
}

Json vocab_object(const Vocabulary& vocabulary, const std::string& file) {
  auto vocab = Json::object();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] == kUnused) continue;
    WINNOW_CHECK_KIND(vocab.emplace(vocabulary.tokens[id], id).second, ErrorKind::file, "{}: the token {} stands twice",
                      file, json_quote(printable(vocabulary.tokens[id], 60)));
  }
  return vocab;
}

// Control tokens are special; user-defined ones are found in text like them, but decoded.
Json added_tokens(const Vocabulary& vocabulary) {
  auto list = Json::array();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const auto type = vocabulary.types[id];
    if ((type != kControl && type != kUserDefined && type != kUnknown) || vocabulary.tokens[id].empty()) continue;
    list.push_back({{"id", id},
                    {"content", vocabulary.tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", type != kUserDefined}});
  }
  return list;
}

// Puts ids around texts; null where neither is wanted.
Json post_processor(const JsonObject& data, const Vocabulary& vocabulary, bool adds_bos) {
  const auto count = vocabulary.tokens.size();
  const auto bos = token_id(data, "bos", count), eos = token_id(data, "eos", count);
  const bool with_bos = data.get_or("tokenizer.ggml.add_bos_token", adds_bos) && bos;
  const bool with_eos = data.get_or("tokenizer.ggml.add_eos_token", false) && eos;
  if (!with_bos && !with_eos) return nullptr;
  auto single = Json::array(), pair = Json::array();
  auto specials = Json::object();
  const auto special = [&](int64_t id, int type) -> Json {
    const auto& text = vocabulary.tokens[static_cast<std::size_t>(id)];
    specials[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    return {{"SpecialToken", {{"id", text}, {"type_id", type}}}};
  };
  for (int part = 0; part < 2; ++part) {
    auto pieces = Json::array();
    if (with_bos) pieces.push_back(special(*bos, part));
    pieces.push_back({{"Sequence", {{"id", part == 0 ? "A" : "B"}, {"type_id", part}}}});
    if (with_eos) pieces.push_back(special(*eos, part));
    if (part == 0) single = pieces;
    pair.insert(pair.end(), pieces.begin(), pieces.end());
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

Json bpe_model(Json vocab, Json merges, bool ignore_merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"fuse_unk", false},
          {"end_of_word_suffix", nullptr},
          {"byte_fallback", false},
          {"ignore_merges", ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

Json whole(Json added, Json normalizer, Json pre_tokenizer, Json post, Json decoder, Json model) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", std::move(normalizer)},
          {"pre_tokenizer", std::move(pre_tokenizer)},
          {"post_processor", std::move(post)},
          {"decoder", std::move(decoder)},
          {"model", std::move(model)}};
}

Json byte_bpe_json(const JsonObject& data, const Vocabulary& vocabulary) {
  const auto split = pre_split(data);
  auto merges = Json::array();
  for (const auto& merge : data.get<std::vector<std::string>>("tokenizer.ggml.merges")) {
    const auto blank = merge.find(' ', 1);
    WINNOW_CHECK_KIND(blank != std::string::npos && blank + 1 < merge.size() &&
                          unicode::find_invalid(merge) == std::string_view::npos,
                      ErrorKind::file, "{}: tokenizer.ggml.merges: {} is no pair of tokens", data.file(),
                      json_quote(printable(merge, 60)));
    merges.push_back({merge.substr(0, blank), merge.substr(blank + 1)});
  }
  return whole(added_tokens(vocabulary), split.normalizer, split.pre_tokenizer,
               post_processor(data, vocabulary, split.adds_bos), byte_level(true),
               bpe_model(vocab_object(vocabulary, data.file()), std::move(merges), split.ignore_merges));
}

// The merges of a SentencePiece BPE: each way to make a piece of two others, best score first.
Json merges_of_scores(const Vocabulary& vocabulary, const std::vector<double>& scores) {
  struct Merge {
    double score;
    int64_t left_length, right_length;
    std::string left, right;
  };
  std::unordered_map<std::string_view, std::size_t> ids;
  const auto mergeable = [&](std::size_t id) { return vocabulary.types[id] == kNormal; };
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (mergeable(id)) ids.emplace(vocabulary.tokens[id], id);
  }
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (!mergeable(id)) continue;
    const std::string_view piece = vocabulary.tokens[id];
    std::vector<std::pair<std::size_t, std::size_t>> parts;
    for (std::size_t cut = 1; cut < piece.size(); ++cut) {
      if (unicode::is_continuation(piece[cut])) continue;
      const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
      if (left != ids.end() && right != ids.end()) parts.emplace_back(left->second, right->second);
    }
    std::sort(parts.begin(), parts.end());
    for (const auto& [l, r] : parts) {
      const auto &left = vocabulary.tokens[l], &right = vocabulary.tokens[r];
      merges.push_back({scores[id], unicode::count(left), unicode::count(right), left, right});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(a.score, a.left_length, a.right_length) > std::tie(b.score, b.left_length, b.right_length);
  });
  auto list = Json::array();
  for (auto& merge : merges) list.push_back({std::move(merge.left), std::move(merge.right)});
  return list;
}

Json sentencepiece_json(const JsonObject& data, const Vocabulary& vocabulary) {
  const auto scores = data.get<std::vector<double>>("tokenizer.ggml.scores");
  WINNOW_CHECK_KIND(scores.size() == vocabulary.tokens.size(), ErrorKind::file,
                    "{}: tokenizer.ggml.scores must have one score a token, got {} for {}", data.file(), scores.size(),
                    vocabulary.tokens.size());
  const bool prefix = data.get_or("tokenizer.ggml.add_space_prefix", true);
  auto normalizers = Json::array(), decoders = Json::array();
  if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kBlank}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBlank}});
  decoders.push_back({{"type", "Replace"}, {"pattern", {{"String", kBlank}}}, {"content", " "}});
  decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  auto model = bpe_model(vocab_object(vocabulary, data.file()), merges_of_scores(vocabulary, scores), false);
  const auto unk = token_id(data, "unknown", vocabulary.tokens.size());
  if (unk) model["unk_token"] = vocabulary.tokens[static_cast<std::size_t>(*unk)];
  model["fuse_unk"] = true;
  model["byte_fallback"] = std::count(vocabulary.types.begin(), vocabulary.types.end(), int64_t{kByte}) == 256;
  return whole(added_tokens(vocabulary), {{"type", "Sequence"}, {"normalizers", normalizers}}, nullptr,
               post_processor(data, vocabulary, /*adds_bos=*/true), {{"type", "Sequence"}, {"decoders", decoders}},
               std::move(model));
}

}  // namespace

Json gguf_tokenizer_json(const GgufFile& file) {
  const auto& data = file.metadata();
  const auto model = data.get<std::string>("tokenizer.ggml.model");
  if (model == "gpt2") return byte_bpe_json(data, read_vocabulary(data));
  if (model == "llama") return sentencepiece_json(data, read_vocabulary(data));
  fail(ErrorKind::unsupported, "{}: tokenizer.ggml.model: {} is not known; known are gpt2 and llama", file.name(),
       json_quote(printable(model, 60)));
}

Json gguf_tokenizer_config(const GgufFile& file) {
  const auto& data = file.metadata();
  const auto vocabulary = read_vocabulary(data);
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  constexpr std::array<std::pair<const char*, const char*>, 4> kNames = {
      {{"bos", "bos_token"}, {"eos", "eos_token"}, {"unknown", "unk_token"}, {"padding", "pad_token"}}};
  for (const auto& [name, key] : kNames) {
    const auto id = token_id(data, name, vocabulary.tokens.size());
    if (id) config[key] = vocabulary.tokens[static_cast<std::size_t>(*id)];
  }
  const auto length = data.get_or<std::string>("general.architecture", "") + ".context_length";
  if (data.has(length)) config["model_max_length"] = data.get<int64_t>(length);
  if (!data.has("tokenizer.chat_template")) return config;
  config["chat_template"] = data.get<std::string>("tokenizer.chat_template");
  WINNOW_CHECK_KIND(unicode::find_invalid(config["chat_template"].get<std::string>()) == std::string_view::npos,
                    ErrorKind::file, "{}: tokenizer.chat_template is not UTF-8", file.name());
  return config;
}

SpecialIds gguf_special_ids(const GgufFile& file) {
  const auto& data = file.metadata();
  if (!data.has("tokenizer.ggml.tokens")) return {};  // a model without a tokenizer
  const auto& tokens = data.raw("tokenizer.ggml.tokens");
  const auto id = [&](const char* name) { return token_id(data, name, tokens.is_array() ? tokens.size() : 0); };
  return {.bos = id("bos"),
          .eos = id("eos"),
          .unk = id("unknown"),
          .pad = id("padding"),
          .cls = id("cls"),
          .sep = id("seperator"),  // as the files spell it
          .mask = id("mask")};
}

std::shared_ptr<const Tokenizer> load_gguf_tokenizer(const GgufFile& file) {
  return parse_tokenizer_json(gguf_tokenizer_json(file), file.name(), gguf_special_ids(file));
}

}  // namespace winnow::io
