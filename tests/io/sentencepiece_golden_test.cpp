// Each .model against what the SentencePiece library computed, each ranks file against tiktoken.
#include <gtest/gtest.h>

#include "tokenizer_golden.h"
#include "winnow/io/sentencepiece.h"
#include "winnow/io/tiktoken.h"

namespace winnow::testing {
namespace {

using io::Json;
using Ids = std::vector<int64_t>;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

void check_pieces(RowCheck& check, const io::SentencePieceTokenizer& tokenizer, const Json& pieces) {
  const auto& list = pieces["pieces"];
  ASSERT_EQ(tokenizer.vocab_size(), static_cast<int64_t>(list.size()));
  const auto type = [&](int64_t id) { return tokenizer.model().pieces[static_cast<size_t>(id)].type; };
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto& row = list[static_cast<size_t>(id)];
    check.equal("piece", row, tokenizer.token(id), row[0].get<std::string>());
    const auto score = tokenizer.model().pieces[static_cast<size_t>(id)].score;
    check.equal("score", row, std::abs(score - row[1].get<float>()) <= 1e-6F, true);
    const auto kind = row[2].get<std::string>();
    check.equal("control", row, type(id) == io::PieceType::control, kind == "control");
    check.equal("byte", row, type(id) == io::PieceType::byte, kind == "byte");
    check.equal("unknown", row, type(id) == io::PieceType::unknown, kind == "unknown");
  }
  const auto& special = tokenizer.special_ids();
  check.equal("bos", "bos", special.bos.value_or(-1), pieces["bos"].get<int64_t>());
  check.equal("eos", "eos", special.eos.value_or(-1), pieces["eos"].get<int64_t>());
  check.equal("unk", "unk", special.unk.value_or(-1), pieces["unk"].get<int64_t>());
  check.equal("pad", "pad", special.pad.value_or(-1), pieces["pad"].get<int64_t>());
}

void check_sentencepiece(const TokenizerGolden& golden) {
  const auto tokenizer = io::load_sentencepiece(golden.file("tokenizer.model"));
  const auto both =
      std::make_shared<io::SentencePieceTokenizer>(tokenizer->model(), io::SentencePieceEnds{.bos = true, .eos = true});
  RowCheck check(golden.name());
  for (const auto& row : golden.cases["cases"]) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<Ids>();
    check.equal("ids", row, tokenizer->encode(text, {.add_special_tokens = false}).ids, ids);
    check.equal("ids of bytes", row, tokenizer->encode_bytes(text), ids);
    check.equal("normalized", row, tokenizer->normalize(text), row.value("normalized", text));
    check.equal("decoded", row, tokenizer->decode(ids), row["decoded"].get<std::string>());
    check.equal("streamed", row, streamed(tokenizer, ids, false), row["decoded"].get<std::string>());
  }
  for (const auto& row : golden.cases["bytes"]) {
    check.equal("bytes", row, tokenizer->encode_bytes(from_hex(row["hex"].get<std::string>())), row["ids"].get<Ids>());
  }
  for (const auto& row : golden.cases["decode"]) {
    check.equal("decode", row, tokenizer->decode(row["ids"].get<Ids>()), row["text"].get<std::string>());
    check.equal("streamed", row, streamed(tokenizer, row["ids"].get<Ids>(), false), row["text"].get<std::string>());
  }
  for (const auto& row : golden.cases["bos_eos"]) {
    check.equal("bos_eos", row, both->encode(row["text"].get<std::string>()).ids, row["ids"].get<Ids>());
  }
  if (golden.has("pieces.json")) check_pieces(check, *tokenizer, io::read_json(golden.file("pieces.json")));
  EXPECT_GT(check.compared(), 0);
}

TEST(SentencePieceGolden, EveryRow) {
  for_each_tokenizer("tokenizer.model", check_sentencepiece);
}

void check_tiktoken(const TokenizerGolden& golden) {
  const auto files = golden.has("config.json") ? golden.file("ranks.tiktoken") : golden.path / "ranks.tiktoken";
  const auto tokenizer = io::load_tiktoken(files);
  RowCheck check(golden.name());
  for (const auto& row : golden.cases["cases"]) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<Ids>();
    check.equal("ids", row, tokenizer->encode(text).ids, ids);
    const auto plain = tokenizer->encode(text, {.add_special_tokens = false, .parse_special = false});
    check.equal("ids_plain", row, plain.ids, row.value("ids_plain", ids));
    check.equal("decoded", row, tokenizer->decode(ids), row["decoded"].get<std::string>());
  }
  for (const auto& row : golden.cases["decode"]) {
    const auto ids = row["ids"].get<Ids>();
    check.equal("hex", row, tokenizer->decode_bytes(ids), from_hex(row["hex"].get<std::string>()));
    check.equal("text", row, tokenizer->decode(ids), row["text"].get<std::string>());
    check.equal("streamed", row, streamed(tokenizer, ids, false), row["text"].get<std::string>());
  }
  for (const auto& row : golden.cases["bytes"]) {
    check.equal("bytes", row, tokenizer->encode_bytes(from_hex(row["hex"].get<std::string>())), row["ids"].get<Ids>());
  }
  EXPECT_GT(check.compared(), 0);
}

TEST(TiktokenGolden, EveryRow) {
  for_each_tokenizer("ranks.tiktoken", check_tiktoken);
}

}  // namespace
}  // namespace winnow::testing
