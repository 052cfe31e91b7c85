#include "winnow/train/language_model.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "winnow/core/error.h"

namespace winnow::train {
namespace {

// Predicts from the sum of all tokens that it sees, so that every token of context changes its answer.
struct SumModel : LanguageModel {
  LmOutput run(const LmInput& input) override {
    longest = std::max(longest, input.ids.size(1));
    calls += 1;
    rows += input.ids.size(0);
    const auto sums = input.ids.cumsum(1).to(at::kDouble).unsqueeze(2);  // [B, L, 1]
    return {.logits = at::cos(sums * at::arange(1, 6, at::kDouble) * 0.37) * 2};
  }
  std::unique_ptr<DecoderState> make_state(int64_t, int64_t) override { return nullptr; }
  int64_t vocab_size() const override { return 5; }
  int64_t context_length() const override { return 12; }
  int64_t longest = 0, calls = 0, rows = 0;
};

// -log p of token t from the tokens [begin, t).
double nll_of(SumModel& model, const at::Tensor& ids, int64_t begin, int64_t t) {
  const auto logits = model.run({.ids = ids.narrow(0, begin, t - begin).unsqueeze(0)}).logits[0][-1];
  return -at::log_softmax(logits, 0)[ids[t].item<int64_t>()].item<double>();
}

TEST(StridedLoss, EqualsTheFullLossWhereTheWindowCoversTheText) {
  SumModel model;
  const auto ids = at::randint(0, 5, {12}, at::kLong);
  const auto logits = model.run({.ids = ids.slice(0, 0, 11).unsqueeze(0)}).logits[0];
  const double full = at::cross_entropy_loss(logits, ids.slice(0, 1)).item<double>();
  for (const int64_t stride : {1, 5, 11}) {
    const auto loss = strided_loss(model, ids, {.window = 11, .stride = stride});
    EXPECT_EQ(loss.tokens, 11);
    EXPECT_NEAR(loss.mean(), full, 1e-12);
    EXPECT_NEAR(loss.perplexity(), std::exp(full), 1e-10);
  }
}

TEST(StridedLoss, JudgesEachTokenOnceFromTheContextOfItsWindow) {
  SumModel model;
  const auto ids = at::randint(0, 5, {30}, at::kLong);
  for (const int64_t window : {1, 4, 8}) {
    for (int64_t stride = 1; stride <= window; stride += 3) {
      // Window k > 0 judges the tokens [first, last) and reads `window` tokens up to the one before `last`.
      double wanted = 0;
      int64_t judged = 0;
      for (int64_t first = 1, last; first < 30; first = last) {
        last = std::min<int64_t>(30, first + (first == 1 ? window : stride));
        for (int64_t t = first; t < last; ++t, ++judged) {
          wanted += nll_of(model, ids, std::max<int64_t>(0, last - 1 - window), t);
        }
      }
      SumModel counting;
      const auto loss = strided_loss(counting, ids, {.window = window, .stride = stride, .batch = 3});
      EXPECT_EQ(loss.tokens, 29);
      EXPECT_EQ(judged, 29);
      EXPECT_NEAR(loss.nll, wanted, 1e-9) << window << " " << stride;
      EXPECT_LE(counting.longest, window);
      EXPECT_LT(counting.calls, counting.rows);
    }
  }
}

TEST(StridedLoss, CountsBitsAndTellsItsProgress) {
  EXPECT_DOUBLE_EQ((TextLoss{.nll = 8 * std::log(2.0), .tokens = 4}).bits_per_byte(16), 0.5);
  EXPECT_DOUBLE_EQ((TextLoss{.nll = 8 * std::log(2.0), .tokens = 4}).perplexity(), 4.0);
  SumModel model;
  std::vector<int64_t> seen;
  strided_loss(model, at::zeros({20}, at::kLong), {.window = 8, .stride = 8, .batch = 1},
               [&](int64_t tokens) { seen.push_back(tokens); });
  EXPECT_EQ(seen, (std::vector<int64_t>{8, 16, 19}));
  EXPECT_EQ(strided_loss(model, at::zeros({1}, at::kLong), {.window = 8, .stride = 8}).tokens, 0);
}

TEST(StridedLoss, SaysWhatIsWrong) {
  SumModel model;
  const auto ids = at::zeros({20}, at::kLong);
  EXPECT_ERROR(strided_loss(model, ids, {.window = 13, .stride = 2}),
               "strided_loss: window must be at most the model's context of 12 tokens, got 13");
  EXPECT_ERROR(strided_loss(model, ids, {.window = 4, .stride = 5}),
               "strided_loss: stride must be at most window = 4, got 5");
}

}  // namespace
}  // namespace winnow::train
