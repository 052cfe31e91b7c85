#include "winnow/nn/logit_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <set>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/core/random.h"
#include "winnow/nn/sampling.h"

namespace winnow {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
using Row = std::vector<float>;
using Tokens = std::vector<int64_t>;

TEST(LogitRules, RepetitionPenaltyCountsATokenOnceAndMovesItTowardsUnlikely) {
  Row row{2, -2, 3, 1, kNever};
  const Tokens history{0, 1, 0, 0, 4, -7, 99};  // ids without a logit are passed over
  logit_row::penalize_repetition(row, history, 2);
  EXPECT_EQ(row, (Row{1, -4, 3, 1, kNever}));
  logit_row::penalize_repetition(row, history, 1);
  EXPECT_EQ(row, (Row{1, -4, 3, 1, kNever}));
}

TEST(LogitRules, PresenceCountsOnceAndFrequencyEachTime) {
  Row row{1, 1, 1};
  logit_row::penalize_presence(row, Tokens{2, 1, 2, 2}, 0.5, 0.25);
  EXPECT_EQ(row, (Row{1, 0.25F, -0.25F}));
}

TEST(LogitRules, NoNGramOccursTwice) {
  // Bigrams so far: 12 23 31 12 24; behind 4 nothing is known; behind "1 2" came 3 and 4.
  Row row(6, 0);
  const Tokens history{1, 2, 3, 1, 2, 4};
  logit_row::forbid_ngrams(row, history, history, 2);
  EXPECT_EQ(row, Row(6, 0));
  const auto at_two = TokenSpan(history).first(5);
  logit_row::forbid_ngrams(row, at_two, at_two, 2);
  EXPECT_EQ(row, (Row{0, 0, 0, kNever, 0, 0}));
  Row unigram(6, 0);
  logit_row::forbid_ngrams(unigram, history, history, 1);
  EXPECT_EQ(unigram, (Row{0, kNever, kNever, kNever, kNever, 0}));
}

TEST(LogitRules, RandomTextsNeverRepeatAnNGram) {
  for (const int64_t n : {1, 2, 3, 4}) {
    Random random(static_cast<uint64_t>(n));
    Tokens text;
    while (text.size() < 60) {
      Row row(5, 0);
      logit_row::forbid_ngrams(row, text, text, n);
      Tokens free;
      for (int64_t i = 0; i < 5; ++i) {
        if (row[static_cast<size_t>(i)] == 0) free.push_back(i);
      }
      if (free.empty()) break;
      text.push_back(free[static_cast<size_t>(random.integer(static_cast<int64_t>(free.size())))]);
    }
    std::set<Tokens> seen;
    for (size_t i = 0; i + static_cast<size_t>(n) <= text.size(); ++i) {
      const auto first = text.begin() + static_cast<ptrdiff_t>(i);
      EXPECT_TRUE(seen.insert(Tokens(first, first + n)).second) << "an n-gram of " << n << " at " << i;
    }
    EXPECT_EQ(seen.size() + static_cast<size_t>(n) - 1, text.size());
    if (n == 1) EXPECT_EQ(text.size(), 5U);  // each token once, then nothing is left
  }
}

TEST(LogitRules, NGramsOfAnotherTextAreForbidden) {
  Row row(6, 0);
  logit_row::forbid_ngrams(row, Tokens{9, 1}, Tokens{1, 2, 1, 5}, 2);
  EXPECT_EQ(row, (Row{0, 0, kNever, 0, 0, kNever}));
}

TEST(LogitRules, ForcingLeavesOnlyTheGivenTokens) {
  Row row{5, 1, 2, 3};
  logit_row::force(row, Tokens{2, 3, 77});
  EXPECT_EQ(row, (Row{kNever, kNever, 0, 0}));
  Row forbidden{5, 1, 2, 3};
  logit_row::forbid(forbidden, Tokens{0, 3, 77});
  EXPECT_EQ(forbidden, (Row{kNever, 1, 2, kNever}));
}

TEST(LogitRules, ABiasActsWhereTheHistoryEndsInItsBeginning) {
  Row row{0, 0, 0};
  logit_row::add_bias(row, Tokens{}, {.tokens = {1}, .bias = 2.5});
  EXPECT_EQ(row, (Row{0, 2.5F, 0}));
  logit_row::add_bias(row, Tokens{0, 1}, {.tokens = {0, 1, 2}, .bias = -INFINITY});
  EXPECT_EQ(row, (Row{0, 2.5F, kNever}));
  Row other{0, 0, 0};
  logit_row::add_bias(other, Tokens{1, 0}, {.tokens = {0, 1, 2}, .bias = 1});
  logit_row::add_bias(other, Tokens{1}, {.tokens = {0, 1, 2}, .bias = 1});  // shorter than the beginning
  EXPECT_EQ(other, Row(3, 0));
}

TEST(LogitRules, GuidanceNeverGivesNaN) {
  Row row{1, kNever, 2, kNever}, other{kNever, 0, 1, kNever};
  logit_row::guide(row, other, 3);
  EXPECT_NEAR(row[0], 1 - std::log(std::exp(1) + std::exp(2)), 1e-6);  // impossible only there: stays as it is
  EXPECT_EQ(row[1], kNever);
  EXPECT_TRUE(std::isfinite(row[2]));
  EXPECT_EQ(row[3], kNever);
}

TEST(LogitRules, TensorFunctionsLeaveTheirInputAsItIs) {
  const auto logits = at::randn({2, 4}), before = logits.clone();
  const Tokens first{0, 1}, second{3};
  const auto out = penalize_presence(logits, {first, second}, 1, 0);
  EXPECT_TENSOR_EQ(logits, before);
  auto wanted = before.clone();
  wanted[0][0] -= 1;
  wanted[0][1] -= 1;
  wanted[1][3] -= 1;
  EXPECT_TENSOR_NEAR(out, wanted, 1e-7);
  EXPECT_TENSOR_EQ(forbid_tokens(logits, second).select(1, 3), at::full({2}, kNever));
  const Tokens twice{2, 1, 2};
  EXPECT_EQ(forbid_repeated_ngrams(logits, {twice, first}, 2)[0][1].item<float>(), kNever);
  EXPECT_TENSOR_EQ(add_sequence_bias(logits, {first, second}, {{.tokens = {3, 0}, .bias = 1}})[0], before[0]);
}

TEST(LogitRules, WrongArgumentsAreNamed) {
  Row row(3, 0);
  EXPECT_ERROR(logit_row::penalize_repetition(row, {}, 0), "penalize_repetition: penalty must be > 0, got 0");
  EXPECT_ERROR(logit_row::forbid_ngrams(row, {}, {}, 0), "forbid_ngrams: n must be >= 1, got 0");
  EXPECT_ERROR(logit_row::add_bias(row, {}, {}), "add_bias: a sequence must have at least one token");
  EXPECT_ERROR(logit_row::guide(row, Row(2, 0), 1), "guide: both rows must have the same length, got 3 and 2");
  EXPECT_ERROR(logit_row::guide(row, row, -1), "guide: scale must be >= 0 and finite, got -1");
  EXPECT_ERROR(penalize_repetition(at::zeros({2, 3}), {Tokens{}}, 2),
               "penalize_repetition: history must have one span a row, 2, got 1");
}

}  // namespace
}  // namespace winnow
