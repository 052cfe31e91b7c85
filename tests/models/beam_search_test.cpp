// Beam search against the search of all sequences, and against a beam search written with plain lists.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "scripted_lm.h"
#include "support/error.h"
#include "winnow/models/causal_lm.h"
#include "winnow/models/generation.h"

namespace winnow::models {
namespace {

using testing::ScriptedLm;
using Tokens = std::vector<int64_t>;

struct Scored {
  Tokens tokens;
  double log_prob = 0;
  [[nodiscard]] double score(double penalty) const {
    return log_prob / std::pow(static_cast<double>(tokens.size()), penalty);
  }
};

// Every sequence that ends in eos or has `length` tokens.
void enumerate(const ScriptedLm& model, const Tokens& prompt, const Scored& so_far, size_t length, int64_t eos,
               std::vector<Scored>& out) {
  auto tokens = prompt;
  tokens.insert(tokens.end(), so_far.tokens.begin(), so_far.tokens.end());
  const auto log_probs = model.logits_behind(tokens).log_softmax(0);
  for (int64_t token = 0; token < model.vocab_size(); ++token) {
    auto next = so_far;
    next.tokens.push_back(token);
    next.log_prob += log_probs[token].item<double>();
    if (token == eos || next.tokens.size() == length) {
      out.push_back(next);
    } else {
      enumerate(model, prompt, next, length, eos, out);
    }
  }
}

TEST(BeamSearch, WithAllBeamsItFindsTheBestOfAllSequences) {
  for (const double penalty : {0.0, 1.0, 2.0, -0.5}) {
    const ScriptedLm model(4, 11, 1000, 1.0);
    auto searched = model;
    std::vector<Scored> all;
    enumerate(model, {1, 2}, {}, 4, /*eos=*/3, all);
    std::sort(all.begin(), all.end(),
              [&](const auto& a, const auto& b) { return a.score(penalty) > b.score(penalty); });
    const auto output = generate(searched, {.prompts = {{1, 2}}},
                                 {.max_new_tokens = 4,
                                  .eos = {3},
                                  .sequences = 10,
                                  .beams = 200,
                                  .length_penalty = penalty,
                                  .early_stopping = EarlyStopping::never});
    ASSERT_EQ(output.rows[0].size(), 10U);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(output.rows[0][i].tokens, all[i].tokens) << "penalty " << penalty << ", rank " << i;
      EXPECT_NEAR(output.rows[0][i].score, all[i].score(penalty), 1e-5);
      EXPECT_EQ(output.rows[0][i].finish, all[i].tokens.back() == 3 ? Finish::eos : Finish::length);
    }
  }
}

TEST(BeamSearch, ItBeatsGreedyWhereThePathForks) {
  // Token 1 is likelier first, but only token 2 leads to a sure continuation.
  ScriptedLm model(4);
  model.script = [](const Tokens& tokens) {
    if (tokens.size() == 1) return at::log(at::tensor({0.1F, 0.5F, 0.4F, 1e-9F}));
    if (tokens[1] == 2) return at::log(at::tensor({0.97F, 0.01F, 0.01F, 0.01F}));
    return at::log(at::tensor({0.3F, 0.3F, 0.3F, 0.1F}));
  };
  EXPECT_EQ(generate(model, {.prompts = {{0}}}, {.max_new_tokens = 2}).rows[0][0].tokens, (Tokens{1, 0}));
  const auto output = generate(model, {.prompts = {{0}}}, {.max_new_tokens = 2, .beams = 2});
  EXPECT_EQ(output.rows[0][0].tokens, (Tokens{2, 0}));
  EXPECT_NEAR(output.rows[0][0].score, std::log(0.4 * 0.97) / 2, 1e-5);
  EXPECT_NEAR(output.rows[0][0].log_probs[1], std::log(0.97), 1e-5);
}

TEST(BeamSearch, EarlyStoppingEndsAtTheNamedMoment) {
  // eos (0) is always the second best: two finished sequences are there after two steps.
  ScriptedLm model(5);
  model.script = [](const Tokens&) { return at::log(at::tensor({0.3F, 0.5F, 0.1F, 0.06F, 0.04F})); };
  const auto steps = [&](EarlyStopping early, double penalty) {
    return generate(model, {.prompts = {{1}}},
                    {.max_new_tokens = 30, .eos = {0}, .beams = 2, .length_penalty = penalty, .early_stopping = early})
        .steps;
  };
  EXPECT_EQ(steps(EarlyStopping::first, 1), 1);
  // A longer running beam scores log(.5) a token, better than any finished one: the heuristic sees it at length 2, and
  // the canonical rule even more so.
  EXPECT_EQ(steps(EarlyStopping::heuristic, 1), 29);
  EXPECT_EQ(steps(EarlyStopping::never, 1), 29);
  // Without a length penalty the running beams only fall: log(.5) n against log(.3), log(.5 * .3).
  EXPECT_EQ(steps(EarlyStopping::never, 0), 2);
}

TEST(BeamSearch, RowsOfABatchSearchAsTheyDoAlone) {
  CausalLM model(llama_config({.vocab_size = 31, .context_length = 40, .dim = 24, .depth = 2, .heads = 4}), 3);
  model->eval();
  const std::vector<Tokens> prompts{{3, 1, 4, 1, 5}, {9}, {2, 6, 5}};
  const GenerationOptions options{
      .max_new_tokens = 10, .eos = {7, 8}, .sequences = 3, .no_repeat_ngram = 2, .beams = 4, .length_penalty = 0.7};
  const auto together = generate(*model, {.prompts = prompts}, options);
  for (size_t row = 0; row < prompts.size(); ++row) {
    const auto alone = generate(*model, {.prompts = {prompts[row]}}, options);
    ASSERT_EQ(together.rows[row].size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(together.rows[row][i].tokens, alone.rows[0][i].tokens);
      EXPECT_NEAR(together.rows[row][i].score, alone.rows[0][i].score, 1e-4);
    }
  }
}

TEST(BeamSearch, ScoresFallAndSequencesDiffer) {
  ScriptedLm model(40, 2);
  const auto output = generate(model, {.prompts = {{1}, {2, 3}}}, {.max_new_tokens = 8, .sequences = 5, .beams = 5});
  for (const auto& row : output.rows) {
    for (size_t i = 1; i < row.size(); ++i) {
      EXPECT_LE(row[i].score, row[i - 1].score);
      EXPECT_NE(row[i].tokens, row[i - 1].tokens);
    }
  }
}

TEST(BeamSearch, StopStringsEndBeamsAndTheBestIsStreamed) {
  const auto tokenizer = std::make_shared<testing::ByteTokenizer>();
  auto model = testing::says(testing::bytes_of("yes.no"), 1, 256);
  std::string text;
  const auto output = generate(model, {.prompts = {{'?'}}},
                               {.max_new_tokens = 6,
                                .stop_strings = {"s."},
                                .beams = 3,
                                .early_stopping = EarlyStopping::first,
                                .tokenizer = tokenizer},
                               [&](const TokenEvent& event) {
                                 text += event.text;
                                 return true;
                               });
  EXPECT_EQ(output.rows[0][0].text, "ye");
  EXPECT_EQ(output.rows[0][0].finish, Finish::stop);
  EXPECT_EQ(text, "ye");
}

TEST(BeamSearch, AModelThatCannotRepeatRowsIsNamed) {
  ScriptedLm model(10, 1);
  model.selectable = false;
  EXPECT_ERROR(generate(model, {.prompts = {{1}}}, {.max_new_tokens = 3, .beams = 2}),
               "beam search needs a model whose state can repeat rows");
}

}  // namespace
}  // namespace winnow::models
