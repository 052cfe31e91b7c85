#include "winnow/data/text.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>
#include <set>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"

namespace winnow::data {
namespace {

using Views = std::vector<std::string_view>;

TEST(Text, DocumentsAreCutAtLinesOrBlankLines) {
  const std::string text = "\n one\ntwo\r\n\n  \nthree\n";
  EXPECT_EQ(cut_documents(text, DocumentCut::none), (Views{text}));
  EXPECT_EQ(cut_documents(text, DocumentCut::lines), (Views{" one", "two", "three"}));
  EXPECT_EQ(cut_documents(text, DocumentCut::paragraphs), (Views{" one\ntwo", "three"}));
  EXPECT_TRUE(cut_documents(" \n\n", DocumentCut::none).empty());
  EXPECT_TRUE(cut_documents("", DocumentCut::paragraphs).empty());
}

TEST(Text, BytesAreTheirNumbersAndDocumentsEndWhereTheySay) {
  const auto text = encode_bytes({"ab", "", "\xC3"}, 256);
  EXPECT_TENSOR_EQ(text.ids, at::tensor({97, 98, 256, 256, 195, 256}, at::kInt));
  EXPECT_EQ(text.starts, (std::vector<int64_t>{0, 3, 4}));
  EXPECT_EQ(encode_bytes({"ab", "", "c"}).starts, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(encode_bytes({}).documents(), 0);
}

TEST(Text, AHeldOutPartBeginsAtADocument) {
  const auto text = encode_bytes({"aaaa", "bb", "cccc"});
  const auto [train, test] = hold_out(text, 0.5);  // 5 of 10 tokens: inside "bb", so from its start
  EXPECT_EQ(train.tokens(), 4);
  EXPECT_EQ(test.tokens(), 6);
  EXPECT_EQ(test.starts, (std::vector<int64_t>{0, 2}));
  const auto [most, one] = hold_out(encode_bytes({"abcdefghij"}), 0.2);
  EXPECT_EQ(most.tokens(), 8);
  EXPECT_EQ(one.starts, (std::vector<int64_t>{0}));
  EXPECT_EQ(hold_out(text, 0).second.tokens(), 0);
  EXPECT_ERROR(hold_out(text, 2), "hold_out: share must be in [0, 1], got 2");
}

TEST(TextLoader, RowsKnowTheirDocumentsAndNextTokens) {
  // a b | c d e | f, in rows of 3 without shuffling
  TextLoader loader(encode_bytes({"ab", "cde", "f"}), {.batch_size = 2, .context = 3, .shuffle = false});
  EXPECT_EQ(loader.batches_per_epoch(), 1);
  const auto batch = loader.next();
  const auto rows = [](const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).view({2, 3}); };
  EXPECT_TENSOR_EQ(batch.ids, rows({'a', 'b', 'c', 'd', 'e', 'f'}));
  EXPECT_TENSOR_EQ(batch.targets, rows({'b', -100, 'd', 'e', -100, -100}));
  EXPECT_TENSOR_EQ(batch.positions, rows({0, 1, 0, 0, 1, 0}));
  EXPECT_TENSOR_EQ(batch.documents, rows({0, 0, 1, 0, 0, 1}));
  EXPECT_TRUE(batch.document_mask().defined());

  TextLoader endless(encode_bytes({"ab", "cde", "f"}),
                     {.batch_size = 2, .context = 3, .shuffle = false, .separate = false});
  const auto joined = endless.next();
  EXPECT_TENSOR_EQ(joined.targets, rows({'b', 'c', 'd', 'e', 'f', -100}));
  EXPECT_TENSOR_EQ(joined.positions, rows({0, 1, 2, 0, 1, 2}));
  EXPECT_FALSE(joined.document_mask().defined());
}

std::string alphabet(int64_t length) {
  std::string text;
  for (int64_t i = 0; i < length; ++i) text.push_back(static_cast<char>(i % 251));
  return text;
}

TEST(TextLoader, AnEpochVisitsEachTokenAtMostOnceAndEachEpochDiffers) {
  const auto text = alphabet(250);
  TextLoader loader(encode_bytes({text}), {.batch_size = 3, .context = 8, .seed = 4});
  std::vector<at::Tensor> firsts;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
      const auto batch = loader.next();
      EXPECT_EQ(batch.epoch, epoch);
      if (i == 0) firsts.push_back(batch.ids);
      const auto flat = batch.ids.flatten();
      for (int64_t k = 0; k < flat.numel(); ++k) EXPECT_TRUE(seen.insert(flat[k].item<int64_t>()).second);
      EXPECT_TENSOR_EQ(batch.targets, at::where(batch.ids == 249, at::full_like(batch.ids, -100), batch.ids + 1));
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), loader.batches_per_epoch() * 24);
  }
  EXPECT_FALSE(firsts[0].equal(firsts[1]));
  EXPECT_FALSE(firsts[1].equal(firsts[2]));
}

TEST(TextLoader, AStateGoesOnToTheBitAlsoInTwoProcesses) {
  const auto text = encode_bytes({alphabet(400)});
  TextLoader whole(text, {.batch_size = 4, .context = 8, .seed = 2});
  for (int i = 0; i < 13; ++i) whole.next();
  const auto state = nlohmann::json::parse(whole.state().dump());
  TextLoader again(text, {.batch_size = 4, .context = 8, .seed = 2});
  TextLoader left(text, {.batch_size = 2, .context = 8, .seed = 2, .rank = 0, .world_size = 2});
  TextLoader right(text, {.batch_size = 2, .context = 8, .seed = 2, .rank = 1, .world_size = 2});
  for (auto* loader : {&again, &left, &right}) loader->load_state(state);
  for (int i = 0; i < 9; ++i) {
    const auto wanted = whole.next().ids;
    EXPECT_TENSOR_EQ(again.next().ids, wanted);
    EXPECT_TENSOR_EQ(at::cat({left.next().ids, right.next().ids}), wanted);
  }
  TextLoader other(text, {.batch_size = 4, .context = 8, .seed = 3});
  EXPECT_ERROR(other.load_state(state), "TextLoader: the state is of another run: its seed is 2, here it is 3");
  EXPECT_ERROR(other.load_state(nlohmann::json::object()), "TextLoader: the state must hold the key");
}

TEST(TextLoader, ATextThatIsTooShortIsTold) {
  EXPECT_ERROR(TextLoader(encode_bytes({"abc"}), {.batch_size = 2, .context = 2}),
               "TextLoader: the text must fill 2 rows of 2 tokens, it has 3 tokens");
  EXPECT_ERROR(TextLoader(encode_bytes({"abc"}), {.batch_size = 0}), "TextLoader: batch_size must be >= 1, got 0");
}

TEST(MaskTokens, ChoosesReplacesAndKeepsTheSharesOfBert) {
  const auto ids = at::randint(10, 1000, {400, 500}, at::kLong);
  const auto special = at::rand({400, 500}) < 0.1;
  const auto masked = mask_tokens(ids, special, /*mask_id=*/3, /*vocab_size=*/1000, make_generator(1));
  const auto chosen = masked.labels != -100;
  const auto share = [](const at::Tensor& some, const at::Tensor& of) {
    return some.sum().item<double>() / of.sum().item<double>();
  };
  EXPECT_EQ((chosen & special).sum().item<int64_t>(), 0);
  EXPECT_NEAR(share(chosen, special.logical_not()), 0.15, 0.005);
  EXPECT_NEAR(share(chosen & (masked.ids == 3), chosen), 0.8, 0.015);
  EXPECT_NEAR(share(chosen & (masked.ids == ids), chosen), 0.1, 0.01);
  EXPECT_TENSOR_EQ(masked.labels.masked_select(chosen), ids.masked_select(chosen));
  EXPECT_TENSOR_EQ(masked.ids.masked_select(chosen.logical_not()), ids.masked_select(chosen.logical_not()));
  const auto random = masked.ids.masked_select(chosen & (masked.ids != 3) & (masked.ids != ids)).to(at::kDouble);
  EXPECT_NEAR(random.mean().item<double>(), 499.5, 30);
}

TEST(MaskTokens, RepeatsWithItsGeneratorAndNamesWhatIsWrong) {
  const auto ids = at::randint(10, 1000, {4, 50}, at::kLong);
  const auto a = mask_tokens(ids, {}, 3, 1000, make_generator(7)), b = mask_tokens(ids, {}, 3, 1000, make_generator(7));
  EXPECT_TENSOR_EQ(a.ids, b.ids);
  EXPECT_TENSOR_EQ(a.labels, b.labels);
  EXPECT_TENSOR_EQ(mask_tokens(ids, {}, 3, 1000, make_generator(7), {.share = 0}).ids, ids);
  EXPECT_ERROR(mask_tokens(ids, {}, 1000, 1000, make_generator(7)),
               "mask_tokens: mask_id must be in [0, vocab_size = 1000), got 1000");
  EXPECT_ERROR(mask_tokens(ids, {}, 3, 1000, make_generator(7), {.replaced = 0.8, .random = 0.3}),
               "mask_tokens: replaced + random must be at most 1");
}

}  // namespace
}  // namespace winnow::data
