// Byte-pair merging against the definition: over and over, the pair of lowest rank, leftmost first.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "../../src/io/tokenizer_model.h"
#include "../../src/io/word_cache.h"
#include "winnow/io/tokenizer.h"

namespace winnow::io {
namespace {

using Merge = std::pair<std::string, std::string>;

struct RandomBpe {
  std::vector<Merge> merges{};
  Json json{};
};

// Merges of two tokens each that exist already, over the letters a to d.
RandomBpe random_bpe(std::mt19937& random, int merges) {
  std::vector<std::string> tokens = {"a", "b", "c", "d"};
  RandomBpe bpe;
  while (merges-- > 0) {
    const auto& first = tokens[random() % tokens.size()];
    const auto& second = tokens[random() % tokens.size()];
    const Merge merge(first, second);
    if (std::find(bpe.merges.begin(), bpe.merges.end(), merge) != bpe.merges.end()) continue;
    bpe.merges.push_back(merge);
    if (std::find(tokens.begin(), tokens.end(), first + second) == tokens.end())
      tokens.push_back(merge.first + merge.second);
  }
  Json vocab = Json::object(), list = Json::array();
  for (size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  for (const auto& [a, b] : bpe.merges) list.push_back({a, b});
  bpe.json = {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}};
  return bpe;
}

std::vector<std::string> merged_by_definition(const RandomBpe& bpe, const std::string& word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  while (true) {
    size_t best_rank = bpe.merges.size(), best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = std::find(bpe.merges.begin(), bpe.merges.end(), Merge(symbols[i], symbols[i + 1]));
      const auto rank = static_cast<size_t>(found - bpe.merges.begin());
      if (rank < best_rank) {
        best_rank = rank;
        best = i;
      }
    }
    if (best_rank == bpe.merges.size()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<int64_t>(best) + 1);
  }
}

TEST(BpeModel, MergesAsTheDefinitionSaysShortWordsAndLong) {
  std::mt19937 random(11);
  for (int round = 0; round < 40; ++round) {
    const auto bpe = random_bpe(random, 1 + round);
    const auto model = make_bpe_model(JsonObject(bpe.json, "bpe"), /*raw_bytes=*/false);
    for (const size_t length : {1, 2, 3, 7, 20, 47, 48, 49, 50, 120, 400}) {
      std::string word;
      while (word.size() < length) word += static_cast<char>('a' + random() % 4);
      std::vector<ModelToken> tokens;
      model->tokenize(word, tokens);
      std::vector<std::string> got;
      for (const auto& token : tokens) {
        got.emplace_back(model->token(token.id));
        ASSERT_EQ(got.back(), word.substr(token.begin, token.end - token.begin));
      }
      ASSERT_EQ(got, merged_by_definition(bpe, word)) << word;
    }
  }
}

Json small(const Json& more = Json::object()) {
  Json json = {{"type", "BPE"},
               {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"abb", 3}, {"?", 4}, {"<0xC3>", 5}, {"<0xA9>", 6}}},
               {"merges", {"a b"}}};
  json.update(more);
  return json;
}

std::vector<int64_t> ids(const Json& json, std::string_view piece) {
  std::vector<ModelToken> tokens;
  make_bpe_model(JsonObject(json, "bpe"), false)->tokenize(piece, tokens);
  std::vector<int64_t> result;
  for (const auto& token : tokens) result.push_back(token.id);
  return result;
}
using Ids = std::vector<int64_t>;

TEST(BpeModel, UnknownCharactersFollowTheOptions) {
  EXPECT_EQ(ids(small(), "axxb"), (Ids{2}));  // left out, and what meets is merged
  EXPECT_EQ(ids(small({{"unk_token", "?"}}), "axxb"), (Ids{0, 4, 4, 1}));
  EXPECT_EQ(ids(small({{"unk_token", "?"}, {"fuse_unk", true}}), "axxb"), (Ids{0, 4, 1}));
  EXPECT_EQ(ids(small({{"unk_token", "?"}, {"byte_fallback", true}}), "a\u00e9x"), (Ids{0, 5, 6, 4}));
}

TEST(BpeModel, APieceThatIsATokenIsTakenWholeIfMergesAreIgnored) {
  EXPECT_EQ(ids(small(), "abb"), (Ids{2, 1}));
  EXPECT_EQ(ids(small({{"ignore_merges", true}}), "abb"), (Ids{3}));
}

TEST(WordCache, WhatItGivesIsWhatTheModelGives) {
  // Many more words than slots, from two tokenizers with different models in turn.
  std::mt19937 random(5);
  const auto make = [&](int merges) {
    return parse_tokenizer_json(
        {{"model", random_bpe(random, merges).json}, {"pre_tokenizer", {{"type", "WhitespaceSplit"}}}});
  };
  const auto first = make(10), second = make(30);
  std::map<std::string, std::pair<std::vector<int64_t>, std::vector<int64_t>>> seen;
  for (int i = 0; i < 60000; ++i) {
    std::string word;
    for (auto length = 1 + random() % 9; length > 0; --length) word += static_cast<char>('a' + random() % 4);
    const auto got = std::pair(first->encode(word).ids, second->encode(word).ids);
    const auto [entry, fresh] = seen.emplace(word, got);
    ASSERT_EQ(entry->second, got) << word;
  }
  EXPECT_GT(seen.size(), size_t{1} << 14);
}

}  // namespace
}  // namespace winnow::io
