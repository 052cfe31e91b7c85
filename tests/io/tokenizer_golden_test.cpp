// Each tokenizer.json, vocab.json + merges.txt and vocab.txt against what the tokenizers library computed.
#include <gtest/gtest.h>

#include "tokenizer_golden.h"

namespace winnow::testing {
namespace {

using io::EncodeOptions;
using io::Json;
using Ids = std::vector<int64_t>;
using Offsets = std::vector<std::pair<int64_t, int64_t>>;
using Handle = std::shared_ptr<const io::Tokenizer>;

void check_case(RowCheck& check, const Handle& tokenizer, const Json& row) {
  const auto text = row["text"].get<std::string>();
  const auto ids = row["ids"].get<Ids>();
  const auto with = tokenizer->encode(text);
  const auto plain = tokenizer->encode(text, {.add_special_tokens = false, .offsets = true});
  check.equal("ids", row, with.ids, ids);
  check.equal("ids_plain", row, plain.ids, row.value("ids_plain", ids));
  if (row.contains("offsets")) check.equal("offsets", row, plain.offsets, row["offsets"].get<Offsets>());
  const Ids special(with.special.begin(), with.special.end());
  check.equal("special_mask", row, special, row.value("special_mask", Ids(ids.size(), 0)));
  // The way without offsets is another one.
  check.equal("ids without offsets", row, tokenizer->encode(text, {.add_special_tokens = false}).ids, plain.ids);
  const auto decoded = row["decoded"].get<std::string>();
  const auto skipped = row.value("decoded_skip_special", decoded);
  check.equal("decoded", row, tokenizer->decode(ids), decoded);
  check.equal("decoded_skip_special", row, tokenizer->decode(ids, true), skipped);
  check.equal("streamed", row, streamed(tokenizer, ids, false), decoded);
  check.equal("streamed, special skipped", row, streamed(tokenizer, ids, true), skipped);
}

void check_decode(RowCheck& check, const Handle& tokenizer, const Json& row) {
  const auto ids = row["ids"].get<Ids>();
  const auto skipped = row["text"].get<std::string>(), whole = row["text_with_special"].get<std::string>();
  check.equal("text", row, tokenizer->decode(ids, true), skipped);
  check.equal("text_with_special", row, tokenizer->decode(ids, false), whole);
  check.equal("streamed text", row, streamed(tokenizer, ids, true), skipped);
  check.equal("streamed text_with_special", row, streamed(tokenizer, ids, false), whole);
}

void check_pair(RowCheck& check, const Handle& tokenizer, const Json& row) {
  const auto encoding = tokenizer->encode_pair(row["text"].get<std::string>(), row["pair"].get<std::string>());
  check.equal("ids of a pair", row, encoding.ids, row["ids"].get<Ids>());
  check.equal("type_ids", row, encoding.type_ids, row["type_ids"].get<Ids>());
}

void check_batch(RowCheck& check, const Handle& tokenizer, const Json& rows) {
  std::vector<std::string> texts;
  for (const auto& row : rows) texts.push_back(row["text"].get<std::string>());
  const auto encodings = tokenizer->encode_batch(texts);
  for (size_t i = 0; i < rows.size(); ++i)
    check.equal("ids in a batch", rows[i], encodings[i].ids, rows[i]["ids"].get<Ids>());
}

void check_all(const TokenizerGolden& golden, const std::string& file) {
  const auto tokenizer = io::load_tokenizer(golden.file(file));
  RowCheck check(golden.name() + "/" + file);
  for (const auto& row : golden.cases["cases"]) check_case(check, tokenizer, row);
  if (golden.cases.contains("decode")) {
    for (const auto& row : golden.cases["decode"]) check_decode(check, tokenizer, row);
  }
  if (golden.cases.contains("pairs")) {
    for (const auto& row : golden.cases["pairs"]) check_pair(check, tokenizer, row);
  }
  check_batch(check, tokenizer, golden.cases["cases"]);
}

TEST(TokenizerJsonGolden, EveryRowIsThatOfTheOfficialLibrary) {
  for_each_tokenizer("tokenizer.json", [](const TokenizerGolden& golden) { check_all(golden, "tokenizer.json"); });
}

TEST(TokenizerMergesGolden, VocabAndMergesAreTheSameTokenizer) {
  for_each_tokenizer("merges.txt", [](const TokenizerGolden& golden) {
    if (golden.has("vocab.json")) check_all(golden, "vocab.json");
  });
}

TEST(TokenizerVocabTxtGolden, AVocabularyAloneIsTheSameTokenizer) {
  for_each_tokenizer("vocab.txt", [](const TokenizerGolden& golden) { check_all(golden, "vocab.txt"); });
}

}  // namespace
}  // namespace winnow::testing
