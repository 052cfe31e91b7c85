#include "winnow/io/bpe_trainer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/io/tokenizer.h"

namespace winnow::testing {
namespace {

using io::BpeTrainer;
using io::Json;

Json train(const std::vector<std::string>& texts, io::BpeTrainerOptions options) {
  BpeTrainer trainer(std::move(options));
  for (const auto& text : texts) trainer.add_text(text);
  return trainer.train();
}

// The rule in its plainest form: count all pairs anew before each merge.
Json plain_merges(const std::map<std::string, int64_t>& words, const Json& vocab, std::size_t wanted, int64_t least) {
  std::vector<std::pair<std::vector<std::string>, int64_t>> state;
  for (const auto& [word, count] : words) {
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    state.emplace_back(parts, count);
  }
  std::map<std::string, int64_t> ids;
  for (const auto& [token, id] : vocab.items()) ids[token] = id.get<int64_t>();
  Json merges = Json::array();
  while (merges.size() < wanted) {
    std::map<std::pair<int64_t, int64_t>, std::pair<int64_t, std::pair<std::string, std::string>>> counts;
    for (const auto& [parts, count] : state) {
      for (std::size_t i = 1; i < parts.size(); ++i) {
        auto& entry = counts[{ids.at(parts[i - 1]), ids.at(parts[i])}];
        entry.first += count;
        entry.second = {parts[i - 1], parts[i]};
      }
    }
    const std::pair<const std::pair<int64_t, int64_t>, std::pair<int64_t, std::pair<std::string, std::string>>>* best =
        nullptr;
    for (const auto& entry : counts) {  // in order of ids, so that the first of equals wins
      if (best == nullptr || entry.second.first > best->second.first) best = &entry;
    }
    if (best == nullptr || best->second.first < least) break;
    const auto [left, right] = best->second.second;
    merges.push_back({left, right});
    for (auto& [parts, count] : state) {
      for (std::size_t i = 1; i < parts.size(); ++i) {
        if (parts[i - 1] != left || parts[i] != right) continue;
        parts[i - 1] += right;
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }
  return merges;
}

TEST(BpeTrainer, MergesAreThoseOfCountingAnewEachTime) {
  const std::map<std::string, int64_t> words = {{"low", 5},    {"lower", 2}, {"newest", 6}, {"widest", 3}, {"aaaa", 4},
                                                {"abab", 4},   {"ababa", 2}, {"wow", 5},    {"lowest", 1}, {"x", 100},
                                                {"newnew", 3}, {"bbb", 4},   {"estest", 2}};
  for (const int64_t least : {1, 2, 4, 6}) {
    BpeTrainer trainer({.vocab_size = 300, .min_frequency = least});
    for (const auto& [word, count] : words) {
      for (int64_t i = 0; i < count; ++i) trainer.add_text(word);
    }
    const auto json = trainer.train();
    const auto& merges = json["model"]["merges"];
    EXPECT_EQ(merges, plain_merges(words, json["model"]["vocab"], 300 - 257, least)) << least;
    EXPECT_GT(merges.size(), 5U);
  }
}

TEST(BpeTrainer, TheVocabularyBeginsWithSpecialTokensAndBytes) {
  const auto json = train({"aa aa"}, {.vocab_size = 260, .special_tokens = {"<a>", "<b>"}});
  const auto& vocab = json["model"]["vocab"];
  EXPECT_EQ(vocab["<a>"], 0);
  EXPECT_EQ(vocab["<b>"], 1);
  EXPECT_EQ(vocab["!"], 2);           // the lowest character of the byte alphabet
  EXPECT_EQ(vocab["\xc5\x83"], 257);  // U+0143, the highest: byte 0xAD
  EXPECT_EQ(vocab["aa"], 258);
  EXPECT_EQ(vocab.size(), 259U);  // nothing else is seen twice
  EXPECT_EQ(json["added_tokens"].size(), 2U);
}

TEST(BpeTrainer, WhatItWritesEncodesAndComesBack) {
  const auto json =
      train({"the cat sat on the mat, the cat sat", "na\xc3\xafve caf\xc3\xa9 caf\xc3\xa9"}, {.vocab_size = 300});
  const auto tokenizer = io::parse_tokenizer_json(json);
  for (const auto* text : {"the cat", "<|endoftext|>the", "caf\xc3\xa9 \xf0\x9f\x98\x80\n  x", ""}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text).ids), text);
  }
  EXPECT_EQ(tokenizer->encode("<|endoftext|>").ids, (std::vector<int64_t>{0}));
  EXPECT_LE(tokenizer->encode("the cat sat").ids.size(), 4U);
}

TEST(BpeTrainer, TheResultDependsOnCountsAlone) {
  const auto one = train({"a b c", "b c d", "the theme"}, {.vocab_size = 280});
  const auto two = train({"the theme", "b c d", "a b c"}, {.vocab_size = 280});
  EXPECT_EQ(one, two);
}

TEST(BpeTrainer, TokensStayShorterThanTheLimit) {
  const auto json = train(std::vector<std::string>(9, "abcdefgh"), {.vocab_size = 280, .max_token_length = 5});
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    if (id.get<int64_t>() > 256) EXPECT_LT(token.size(), 5U) << token;
  }
}

TEST(BpeTrainer, FilesAreReadLineByLine) {
  const TemporaryFolder folder;
  std::ofstream(folder / "a.txt") << "one two\ntwo\n\nlast";
  BpeTrainer from_file({.vocab_size = 270, .min_frequency = 1}), from_text({.vocab_size = 270, .min_frequency = 1});
  from_file.add_file(folder / "a.txt");
  for (const auto* line : {"one two\n", "two\n", "\n", "last"}) from_text.add_text(line);
  EXPECT_EQ(from_file.train(), from_text.train());
}

TEST(BpeTrainer, WrongOptionsAndTextsAreNamed) {
  EXPECT_ERROR(BpeTrainer({.vocab_size = 256}), "BpeTrainer: vocab_size must be in [257, 2^24]");
  EXPECT_ERROR(BpeTrainer({.special_tokens = {"<a>", "<a>"}}), "the special token \"<a>\" stands twice");
  EXPECT_ERROR(BpeTrainer({.special_tokens = {"a"}}), "a special token must have two characters or more");
  BpeTrainer trainer;
  EXPECT_ERROR(trainer.add_text("ab\xff"), "the text must be UTF-8, byte 2 is not");
  EXPECT_ERROR(trainer.add_file("/missing"), "/missing");
}

}  // namespace
}  // namespace winnow::testing
