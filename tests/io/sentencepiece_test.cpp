#include "winnow/io/sentencepiece.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/file.h"
#include "winnow/io/tiktoken.h"

namespace winnow::testing {
namespace {

using io::PieceType;
using io::SentencePieceModel;
using io::SentencePieceTokenizer;
using Ids = std::vector<int64_t>;

// Pieces of a small BPE model; ids 0, 1, 2 are <unk>, <s>, </s>.
SentencePieceModel bpe() {
  SentencePieceModel model{.algorithm = io::SentencePieceAlgorithm::bpe};
  model.pieces = {{"<unk>", 0, PieceType::unknown},
                  {"<s>", 0, PieceType::control},
                  {"</s>", 0, PieceType::control},
                  {"\xe2\x96\x81", -5},
                  {"a", -6},
                  {"b", -7},
                  {"ab", -1},
                  {"\xe2\x96\x81"
                   "ab",
                   -2},
                  {"abab", -0.5F},
                  {"[x]", 0, PieceType::user_defined}};
  return model;
}

std::shared_ptr<const SentencePieceTokenizer> make(SentencePieceModel model, io::SentencePieceEnds ends = {}) {
  return std::make_shared<SentencePieceTokenizer>(std::move(model), ends);
}

TEST(SentencePiece, MergesTheBestScoreFirst) {
  const auto tokenizer = make(bpe());
  EXPECT_EQ(tokenizer->encode("ab").ids, (Ids{7}));
  EXPECT_EQ(tokenizer->encode("abab").ids, (Ids{3, 8}));  // both "ab" first, then "abab" before "_ab"
  EXPECT_EQ(tokenizer->encode("a [x]b").ids, (Ids{3, 4, 3, 9, 5}));
  EXPECT_EQ(tokenizer->encode("a??b").ids, (Ids{3, 4, 0, 5}));  // unknown neighbours are one
  EXPECT_EQ(tokenizer->decode(Ids{7, 3, 5}), "ab b");
  EXPECT_EQ(tokenizer->decode(Ids{4, 0, 5}), "a \xe2\x81\x87 b");
}

TEST(SentencePiece, OffsetsAreCharactersOfTheText) {
  const auto encoding = make(bpe())->encode("ab \xc3\xa9 ab", {.offsets = true});
  ASSERT_EQ(encoding.ids, (Ids{7, 3, 0, 7}));
  const std::vector<std::pair<int64_t, int64_t>> wanted = {{0, 2}, {2, 3}, {3, 4}, {4, 7}};
  EXPECT_EQ(encoding.offsets, wanted);
}

TEST(SentencePiece, EndsAreAddedToEachText) {
  const auto tokenizer = make(bpe(), {.bos = true, .eos = true});
  EXPECT_EQ(tokenizer->encode("ab").ids, (Ids{1, 7, 2}));
  EXPECT_EQ(tokenizer->encode_pair("ab", "b").ids, (Ids{1, 7, 2, 1, 3, 5, 2}));
  EXPECT_EQ(tokenizer->encode("ab", {.add_special_tokens = false}).ids, (Ids{7}));
  EXPECT_EQ(tokenizer->encode("<s>", {.add_special_tokens = false}).ids, (Ids{3, 0}));  // ordinary characters
}

TEST(SentencePiece, ConfigsSayWhichEndsAreAdded) {
  const auto source =
      std::filesystem::path(WINNOW_SOURCE_DIR) / "tests/golden/tokenizers/sp_bpe_llama2/tokenizer.model";
  const TemporaryFolder folder;
  std::filesystem::copy_file(source, folder / "tokenizer.model");
  const auto first_and_last = [&] {
    const auto ids = io::load_sentencepiece(folder / "tokenizer.model")->encode("a").ids;
    return std::pair(ids.front() == 1, ids.back() == 2);
  };
  EXPECT_EQ(first_and_last(), std::pair(true, false));
  io::write_json(folder / "tokenizer_config.json", {{"add_bos_token", false}, {"add_eos_token", true}});
  EXPECT_EQ(first_and_last(), std::pair(false, true));
  io::write_json(folder / "tokenizer_config.json", {{"tokenizer_class", "T5Tokenizer"}});
  EXPECT_EQ(first_and_last(), std::pair(false, true));
}

TEST(SentencePiece, AFileCutOffOrChangedIsAnErrorOrAModel) {
  const auto path = std::filesystem::path(WINNOW_SOURCE_DIR) / "tests/golden/tokenizers/sp_bpe_llama2/tokenizer.model";
  const auto whole = winnow::read_file(path.string());
  int errors = 0;
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    try {
      const auto part = std::string_view(whole).substr(0, length);
      (void)make(io::parse_sentencepiece(io::as_bytes(part), "x.model"))->encode("Hello w\xc3\xb6rld");
    } catch (const Error& error) {
      ++errors;
      EXPECT_TRUE(std::string(error.what()).starts_with("x.model: ")) << error.what();
    }
  }
  EXPECT_GT(errors, 100);
}

TEST(SentencePiece, WhatIsWrongIsNamed) {
  const auto refused = [](std::string_view bytes, const char* text) {
    EXPECT_ERROR_KIND(io::parse_sentencepiece(io::as_bytes(bytes), "x.model"), ErrorKind::file, text);
  };
  refused("", "x.model: not a SentencePiece model: it has no pieces");
  refused("\x0a\x7f", "x.model: not a SentencePiece model, or damaged: the file has a length past its end");
  refused(std::string_view("\x0a\x00", 2), "piece 0 has 0 bytes");
  refused(std::string_view("\x0a\x03\x0a\x01\x61", 5), "a model must have one unknown piece, this one has 0");
  refused("\x0a\x03\x0a\x01\x61\x0a\x03\x0a\x01\x61", "the piece a stands twice");
  refused("\x0a\x05\x0a\x01\x61\x18\x09", "a piece has a type that does not exist");
}

TEST(Tiktoken, RanksAreReadStrictly) {
  EXPECT_EQ(io::parse_tiktoken_ranks("YQ== 0\nYWI= 1\r\n\n"), (std::map<std::string, int64_t>{{"a", 0}, {"ab", 1}}));
  EXPECT_ERROR(io::parse_tiktoken_ranks("YQ== 0\nY 1", "r"), "r: line 2: \"Y\" is not base64");
  EXPECT_ERROR(io::parse_tiktoken_ranks("YQ==", "r"), "r: line 1: a rank in [0, 1073741824] must follow the token");
  EXPECT_ERROR(io::parse_tiktoken_ranks("YQ== -1", "r"), "a rank in [0, ");
  EXPECT_ERROR(io::parse_tiktoken_ranks("YQ== 0\nYQ== 1", "r"), "r: line 2: the token stands twice");
}

TEST(Tiktoken, TheLowestRankIsMergedFirst) {
  io::TiktokenFiles files{.pattern = R"(\S+|\s+$|\s)", .special_tokens = {{"<|x|>", 400}, {"<|x|>y", 401}}};
  for (int byte = 0; byte < 256; ++byte) files.ranks[std::string(1, static_cast<char>(byte))] = byte;
  files.ranks["bc"] = 300;
  files.ranks["ab"] = 301;
  files.ranks["abc"] = 302;
  files.ranks["  "] = 303;
  const io::TiktokenTokenizer tokenizer(files);
  EXPECT_EQ(tokenizer.encode("abd").ids, (Ids{301, 100}));
  EXPECT_EQ(tokenizer.encode("abcd").ids, (Ids{302, 100}));  // bc, then a + bc
  EXPECT_EQ(tokenizer.encode("abab").ids, (Ids{301, 301}));
  EXPECT_EQ(tokenizer.encode("a  ").ids, (Ids{97, 303}));                // $ is the end of the text,
  EXPECT_EQ(tokenizer.encode("a  \nb").ids, (Ids{97, 32, 32, 10, 98}));  // not that of a line
  EXPECT_EQ(tokenizer.encode("<|x|>y<|x|>").ids, (Ids{401, 400}));       // the longest special token
  EXPECT_EQ(tokenizer.encode("<|x|>", {.parse_special = false}).ids, (Ids{60, 124, 120, 124, 62}));
  EXPECT_EQ(tokenizer.decode(Ids{401, 302, 399}, /*skip_special=*/true), "abc");
  EXPECT_EQ(tokenizer.encode_bytes("  "), (Ids{303}));
}

TEST(Tiktoken, WrongFilesAreNamed) {
  EXPECT_ERROR(io::TiktokenTokenizer({.ranks = {{"a", 0}}, .pattern = "."}, "r"), "r: the byte 0x00 has no rank");
  EXPECT_ERROR(io::TiktokenTokenizer({.ranks = {{"a", 0}, {"b", 0}}, .pattern = "."}, "r"), "r: the id 0 stands twice");
}

}  // namespace
}  // namespace winnow::testing
