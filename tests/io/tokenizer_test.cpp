// Facts about tokenizers on files small enough to work out by hand.
#include "winnow/io/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <tuple>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "tokenizer_golden.h"

namespace winnow::testing {
namespace {

using io::EncodeOptions;
using io::Json;
using io::Padding;
using io::parse_tokenizer_json;
using io::Truncation;
using Ids = std::vector<int64_t>;
using Offsets = std::vector<std::pair<int64_t, int64_t>>;

Json added(int64_t id, const std::string& content, const Json& more = Json::object()) {
  Json token = {{"id", id}, {"content", content}, {"special", false}, {"normalized", false}};
  token.update(more);
  return token;
}

// Whole words as tokens, cut at blanks: a 0, b 1, c 2, [UNK] 3, <s> 4 in front, </s> 5 behind.
Json words() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 4, "content": "<s>", "special": true}, {"id": 5, "content": "</s>", "special": true}],
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "</s>", "type_id": 0}}],
      "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
               {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "</s>", "type_id": 1}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]},
                         "</s>": {"id": "</s>", "ids": [5], "tokens": ["</s>"]}}},
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2, "[UNK]": 3}, "unk_token": "[UNK]"}})");
}

TEST(Tokenizer, PutsItsTemplateAroundTheText) {
  const auto tokenizer = parse_tokenizer_json(words());
  const auto encoding = tokenizer->encode("a x", {.offsets = true});
  EXPECT_EQ(encoding.ids, (Ids{4, 0, 3, 5}));
  EXPECT_EQ(encoding.offsets, (Offsets{{0, 0}, {0, 1}, {2, 3}, {0, 0}}));
  EXPECT_EQ(encoding.special, (std::vector<bool>{true, false, false, true}));
  EXPECT_EQ(encoding.attention_mask, (Ids{1, 1, 1, 1}));
  EXPECT_EQ(tokenizer->encode("a x", {.add_special_tokens = false}).ids, (Ids{0, 3}));
  const auto pair = tokenizer->encode_pair("a", "b c");
  EXPECT_EQ(pair.ids, (Ids{4, 0, 1, 2, 5}));
  EXPECT_EQ(pair.type_ids, (Ids{0, 0, 1, 1, 1}));
  EXPECT_EQ(tokenizer->encode("").ids, (Ids{4, 5}));
}

TEST(Tokenizer, OffsetsAreCodePoints) {
  auto json = words();
  json["model"]["vocab"]["\u00e9\u4e2d"] = 6;
  const auto encoding =
      parse_tokenizer_json(json)->encode("\U0001F600 \u00e9\u4e2d", {.add_special_tokens = false, .offsets = true});
  EXPECT_EQ(encoding.ids, (Ids{3, 6}));
  EXPECT_EQ(encoding.offsets, (Offsets{{0, 1}, {2, 4}}));
}

TEST(Tokenizer, CutsToTheLengthAskedFor) {
  const auto tokenizer = parse_tokenizer_json(words());
  const auto cut = [&](int64_t length, bool left = false) {
    return tokenizer->encode("a b c a", {.truncation = Truncation{.max_length = length, .from_left = left}}).ids;
  };
  EXPECT_EQ(cut(6), (Ids{4, 0, 1, 2, 0, 5}));
  EXPECT_EQ(cut(4), (Ids{4, 0, 1, 5}));
  EXPECT_EQ(cut(4, /*left=*/true), (Ids{4, 2, 0, 5}));
  EXPECT_EQ(cut(2), (Ids{4, 5}));
  EXPECT_ERROR(cut(1), "encode: truncation.max_length must be at least 2, the number of special tokens, got 1");
  const auto pair = [&](Truncation::Strategy strategy) {
    const Truncation truncation{.max_length = 5, .strategy = strategy};
    return tokenizer->encode_pair("a b c a", "b b", {.truncation = truncation}).ids;
  };
  EXPECT_EQ(pair(Truncation::Strategy::longest_first), (Ids{4, 0, 1, 1, 5}));
  EXPECT_EQ(pair(Truncation::Strategy::only_first), (Ids{4, 0, 1, 1, 5}));
  EXPECT_ERROR(pair(Truncation::Strategy::only_second), "encode: the text to be truncated has 2 tokens, and 3 must go");
}

TEST(Tokenizer, FillsUpToTheLongestOfABatch) {
  const auto tokenizer = parse_tokenizer_json(words());
  const std::vector<std::string> texts = {"a", "a b c"};
  const auto right = tokenizer->encode_batch(texts, {.add_special_tokens = false, .padding = Padding{.id = 9}});
  EXPECT_EQ(right[0].ids, (Ids{0, 9, 9}));
  EXPECT_EQ(right[0].attention_mask, (Ids{1, 0, 0}));
  EXPECT_EQ(right[1].attention_mask, (Ids{1, 1, 1}));
  const auto left = tokenizer->encode_batch(
      texts,
      {.add_special_tokens = false, .offsets = true, .padding = Padding{.multiple_of = 4, .on_left = true, .id = 9}});
  EXPECT_EQ(left[0].ids, (Ids{9, 9, 9, 0}));
  EXPECT_EQ(left[0].offsets, (Offsets{{0, 0}, {0, 0}, {0, 0}, {0, 1}}));
  EXPECT_EQ(left[1].ids, (Ids{9, 0, 1, 2}));
  EXPECT_EQ(tokenizer->encode("a", {.add_special_tokens = false, .padding = Padding{.length = 2, .id = 9}}).ids,
            (Ids{0, 9}));
}

TEST(Tokenizer, TellsWhatItsFileAsksFor) {
  auto json = words();
  json["truncation"] = {{"max_length", 128}, {"strategy", "OnlyFirst"}, {"stride", 0}, {"direction", "Left"}};
  json["padding"] = {{"strategy", {{"Fixed", 64}}},
                     {"direction", "Left"},
                     {"pad_to_multiple_of", nullptr},
                     {"pad_id", 7},
                     {"pad_type_id", 1}};
  const auto tokenizer = parse_tokenizer_json(json);
  ASSERT_TRUE(tokenizer->file_truncation() && tokenizer->file_padding());
  EXPECT_EQ(tokenizer->file_truncation()->max_length, 128);
  EXPECT_TRUE(tokenizer->file_truncation()->from_left);
  EXPECT_EQ(tokenizer->file_padding()->length, 64);
  EXPECT_EQ(tokenizer->file_padding()->id, 7);
  EXPECT_EQ(tokenizer->encode("a", {.padding = tokenizer->file_padding()}).ids.size(), 64u);
  EXPECT_EQ(tokenizer->encode("a").ids.size(), 3u);  // not unless asked
}

TEST(Tokenizer, SpecialTokensInTheTextAreTextWhereAskedFor) {
  const auto tokenizer = parse_tokenizer_json(words());
  EXPECT_EQ(tokenizer->encode("a<s>b", {.add_special_tokens = false}).ids, (Ids{0, 4, 1}));
  EXPECT_EQ(tokenizer->encode("a<s>b", {.add_special_tokens = false, .parse_special = false}).ids, (Ids{3}));
  EXPECT_EQ(tokenizer->decode(Ids{4, 0, 5}), "<s> a </s>");
  EXPECT_EQ(tokenizer->decode(Ids{4, 0, 5}, /*skip_special=*/true), "a");
  EXPECT_TRUE(tokenizer->is_special(4));
  EXPECT_FALSE(tokenizer->is_special(0));
  EXPECT_EQ(tokenizer->vocab_size(), 6);
  EXPECT_EQ(tokenizer->token(5), "</s>");
  EXPECT_EQ(tokenizer->token(600), "");
  EXPECT_EQ(tokenizer->token_id("b"), 1);
  EXPECT_FALSE(tokenizer->token_id("nothing").has_value());
}

TEST(Tokenizer, AddedTokensAreTheLongestAndMayTakeBlanks) {
  auto json = words();
  json["added_tokens"].push_back(added(6, "ab"));
  json["added_tokens"].push_back(added(7, "abc"));
  json["added_tokens"].push_back(added(8, "<l>", {{"lstrip", true}}));
  json["added_tokens"].push_back(added(9, "<r>", {{"rstrip", true}}));
  json["added_tokens"].push_back(added(10, "w", {{"single_word", true}}));
  const auto tokenizer = parse_tokenizer_json(json);
  const auto encode = [&](const std::string& text) {
    return tokenizer->encode(text, {.add_special_tokens = false, .offsets = true});
  };
  EXPECT_EQ(encode("aabcab").ids, (Ids{0, 7, 6}));
  EXPECT_EQ(encode("a  <l> b").offsets, (Offsets{{0, 1}, {1, 6}, {7, 8}}));
  EXPECT_EQ(encode("a <r>  b").offsets, (Offsets{{0, 1}, {2, 7}, {7, 8}}));
  EXPECT_EQ(encode("w aw w1 .w.").ids, (Ids{10, 3, 3, 3, 10, 3}));
}

TEST(Tokenizer, TextThatIsNotUtf8IsAnErrorUnlessReplaced) {
  const auto tokenizer = parse_tokenizer_json(words());
  EXPECT_ERROR_KIND(std::ignore = tokenizer->encode("a \xFF"), ErrorKind::argument,
                    "encode: text must be UTF-8, got byte 0xff at 2");
  EXPECT_ERROR(std::ignore = tokenizer->encode_pair("a", "\xC3"),
               "encode: second text must be UTF-8, got byte 0xc3 at 0");
  EXPECT_EQ(tokenizer->encode("a \xFF b", {.add_special_tokens = false, .replace_invalid = true}).ids, (Ids{0, 3, 1}));
  const std::vector<std::string> texts = {"a", "\xFF"};
  EXPECT_ERROR(std::ignore = tokenizer->encode_batch(texts), "must be UTF-8");
  EXPECT_ERROR(std::ignore = tokenizer->decode(Ids{-1}), "decode: ids must be at least 0, got -1");
}

TEST(Tokenizer, StreamingGivesWholeCharactersAsSoonAsTheyAreSure) {
  // Byte-level tokens: U+1F600 is F0 9F 98 80.
  Json vocab = {{"\u00f0\u0141", 0}, {"\u013a", 1}, {"\u0122", 2}, {"a", 3}};
  const auto bytes = parse_tokenizer_json({{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
                                           {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                                           {"decoder", {{"type", "ByteLevel"}}}});
  io::StreamDecoder stream(bytes);
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(2), "\U0001F600");
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(3),
            "\uFFFD"
            "a");
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.push(3), "a");  // a new sequence
}

TEST(Tokenizer, StreamingHoldsByteTokensUntilTheirRunEnds) {
  Json vocab = {{"<0xC3>", 0}, {"<0xA9>", 1}, {"\u2581a", 2}};
  const auto tokenizer = parse_tokenizer_json(
      {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}, {"byte_fallback", true}}},
       {"decoder",
        {{"type", "Sequence"},
         {"decoders",
          {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
           {{"type", "ByteFallback"}},
           {{"type", "Fuse"}},
           {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}}});
  EXPECT_EQ(tokenizer->encode("\u00e9").ids, (Ids{0, 1}));
  io::StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(2), "a");  // the first blank goes
  EXPECT_EQ(stream.push(0), "");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.push(2), "\u00e9 a");
  EXPECT_EQ(stream.push(1), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(streamed(tokenizer, {2, 0, 2}, false), tokenizer->decode(Ids{2, 0, 2}));
}

TEST(Tokenizer, ABrokenFileIsOneErrorThatNamesThePlace) {
  const auto without = [](const char* pointer, const Json& value) {
    auto json = words();
    json[Json::json_pointer(pointer)] = value;
    return parse_tokenizer_json(json, "t.json");
  };
  EXPECT_ERROR_KIND(parse_tokenizer_json(Json::array(), "t.json"), ErrorKind::file,
                    "t.json: a tokenizer must be a JSON object");
  EXPECT_ERROR_KIND(without("/version", "2.0"), ErrorKind::unsupported,
                    "t.json: version \"2.0\" of the format is not supported");
  EXPECT_ERROR_KIND(without("/model", nullptr), ErrorKind::file, "t.json: model is missing");
  EXPECT_ERROR_KIND(without("/model/type", "Neural"), ErrorKind::unsupported,
                    "t.json: a model of type \"Neural\" is not supported");
  EXPECT_ERROR_KIND(without("/model/vocab", 3), ErrorKind::file,
                    "t.json: model.vocab must be an object of tokens and ids");
  EXPECT_ERROR_KIND(without("/model/vocab/a", -1), ErrorKind::file,
                    "t.json: model.vocab: the id of \"a\" must be an integer in [0,");
  EXPECT_ERROR_KIND(without("/model/vocab/a", 1), ErrorKind::file, "have one id, 1");
  EXPECT_ERROR_KIND(without("/normalizer", {{"type", "Rot13"}}), ErrorKind::unsupported,
                    "t.json: normalizer: a normalizer of type \"Rot13\" is not supported");
  EXPECT_ERROR_KIND(without("/pre_tokenizer", {{"type", "UnicodeScripts"}}), ErrorKind::unsupported,
                    "t.json: pre_tokenizer: a pre-tokenizer of type \"UnicodeScripts\" is not supported");
  EXPECT_ERROR_KIND(without("/decoder", {{"type", "X"}}), ErrorKind::unsupported,
                    "a decoder of type \"X\" is not supported");
  EXPECT_ERROR_KIND(without("/post_processor", {{"type", "X"}}), ErrorKind::unsupported,
                    "t.json: post_processor: a post-processor of type \"X\" is not supported");
  EXPECT_ERROR_KIND(
      without("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}}),
      ErrorKind::file, "t.json: pattern \"(a\" has a ( without a )");
  EXPECT_ERROR_KIND(
      without("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Sideways"}}),
      ErrorKind::file, "t.json: pre_tokenizer.behavior must be Removed, Isolated");
  EXPECT_ERROR_KIND(without("/post_processor/special_tokens", Json::object()), ErrorKind::file,
                    "post_processor.special_tokens.<s> is missing");
  EXPECT_ERROR_KIND(without("/added_tokens/0/id", 2'000'000), ErrorKind::file,
                    "t.json: added_tokens[0].id must be in [0,");
  EXPECT_ERROR_KIND(without("/added_tokens/1/id", 4), ErrorKind::file, "have one id, 4");
  const Json bpe = {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}}}};
  const auto with_model = [&](const Json& more) {
    auto model = bpe;
    model.update(more);
    return without("/model", model);
  };
  EXPECT_ERROR_KIND(with_model({{"merges", {"a b"}}}), ErrorKind::file,
                    "t.json: model.merges[0]: the vocabulary has no token \"ab\"");
  EXPECT_ERROR_KIND(with_model({{"merges", {"a b c"}}}), ErrorKind::file, "t.json: model.merges[0] must be two tokens");
  EXPECT_ERROR_KIND(with_model(Json::object()), ErrorKind::file, "model.merges is missing");
  EXPECT_ERROR_KIND(with_model({{"merges", Json::array()}, {"dropout", 0.1}}), ErrorKind::unsupported,
                    "t.json: model.dropout: BPE with dropout is not supported");
}

TEST(Tokenizer, AnUnknownWordWithoutAnUnknownTokenIsAnError) {
  auto json = words();
  json["model"]["unk_token"] = "[none]";
  EXPECT_ERROR_KIND(std::ignore = parse_tokenizer_json(json, "t.json")->encode("x"), ErrorKind::file,
                    "the vocabulary has no unk_token \"[none]\"");
}

TEST(LoadTokenizer, AFolderTellsItsSpecialIds) {
  const TemporaryFolder folder;
  io::write_json(folder / "tokenizer.json", words());
  io::write_json(folder / "tokenizer_config.json", {{"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}});
  io::write_json(folder / "config.json", {{"eos_token_id", 1}, {"pad_token_id", {2, 3}}});
  const auto ids = io::load_tokenizer(folder.path())->special_ids();
  EXPECT_EQ(ids.bos, 4);
  EXPECT_EQ(ids.eos, 5);  // the tokenizer's own file counts first
  EXPECT_EQ(ids.pad, 2);
  EXPECT_EQ(ids.unk, 3);
  EXPECT_FALSE(ids.mask.has_value());
}

TEST(LoadTokenizer, WhatIsNotThereIsNamed) {
  const TemporaryFolder folder;
  EXPECT_ERROR_KIND(io::load_tokenizer(folder / "none"), ErrorKind::file, "none: there is no such file or folder");
  EXPECT_ERROR_KIND(io::load_tokenizer(folder.path()), ErrorKind::file,
                    "the folder holds no tokenizer (tokenizer.json");
  std::ofstream(folder / "vocab.json") << "{}";
  EXPECT_ERROR_KIND(io::load_tokenizer(folder / "vocab.json"), ErrorKind::file,
                    "merges.txt: there is no such file beside vocab.json");
  std::ofstream(folder / "vocab.txt") << "a\nb\na\n";
  EXPECT_ERROR_KIND(io::load_tokenizer(folder / "vocab.txt"), ErrorKind::file, "line 3: token \"a\" stands twice");
  std::ofstream(folder / "tokenizer.bin") << "x";
  EXPECT_ERROR_KIND(io::load_tokenizer(folder / "tokenizer.bin"), ErrorKind::unsupported,
                    "tokenizer.bin: a tokenizer is a .json");
  std::ofstream(folder / "tokenizer.json") << R"({"version": "1.0", "model": {"type": "BPE", "voc)";
  EXPECT_ERROR_KIND(io::load_tokenizer(folder.path()), ErrorKind::file, "tokenizer.json: line 1");  // half downloaded
}

}  // namespace
}  // namespace winnow::testing
