#include "winnow/models/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "scripted_lm.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/models/causal_lm.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

using testing::ScriptedLm;
using Tokens = std::vector<int64_t>;
using ::testing::ElementsAre;

const std::vector<Tokens> kRagged{{3, 1, 4, 1, 5}, {9}, {2, 6, 5}, {3, 5, 8, 9, 7, 9, 3, 2}};

// Greedy decoding by the model's function alone.
Tokens plain_greedy(const ScriptedLm& model, Tokens tokens, int64_t count) {
  const auto prompt = tokens.size();
  for (int64_t i = 0; i < count; ++i) tokens.push_back(model.logits_behind(tokens).argmax().item<int64_t>());
  return {tokens.begin() + static_cast<ptrdiff_t>(prompt), tokens.end()};
}

Tokens first_tokens(const GenerationOutput& output, size_t row = 0) {
  return output.rows[row][0].tokens;
}

TEST(Generation, GreedyTakesTheLargestLogitOfEveryStep) {
  ScriptedLm model(40, 1);
  const auto output = generate(model, {.prompts = kRagged}, {.max_new_tokens = 9});
  for (size_t row = 0; row < kRagged.size(); ++row) {
    EXPECT_EQ(first_tokens(output, row), plain_greedy(model, kRagged[row], 9));
    double sum = 0;
    auto tokens = kRagged[row];
    for (size_t i = 0; i < 9; ++i) {
      const auto token = output.rows[row][0].tokens[i];
      const auto wanted = model.logits_behind(tokens).log_softmax(0)[token].item<double>();
      EXPECT_NEAR(output.rows[row][0].log_probs[i], wanted, 1e-5);
      sum += wanted;
      tokens.push_back(token);
    }
    EXPECT_NEAR(output.rows[row][0].score, sum, 1e-4);
    EXPECT_EQ(output.rows[row][0].finish, Finish::length);
  }
  EXPECT_EQ(output.steps, 8);
  EXPECT_EQ(output.new_tokens, 36);
  EXPECT_EQ(output.prompt_tokens, 17);
}

TEST(Generation, PromptsInPiecesGiveTheSame) {
  ScriptedLm model(40, 1);
  const auto whole = generate(model, {.prompts = kRagged}, {.max_new_tokens = 4});
  model.lengths.clear();
  const auto pieces = generate(model, {.prompts = kRagged}, {.max_new_tokens = 4, .prefill_chunk = 3});
  EXPECT_THAT(model.lengths, ElementsAre(3, 3, 2, 1, 1, 1));
  for (size_t row = 0; row < kRagged.size(); ++row) EXPECT_EQ(first_tokens(whole, row), first_tokens(pieces, row));
}

TEST(Generation, RowsOfATransformerDecodeAsTheyDoAlone) {
  for (const auto& config :
       {llama_config({.vocab_size = 61, .context_length = 40, .dim = 24, .depth = 2, .heads = 4}),
        gpt2_config({.vocab_size = 61, .context_length = 40, .dim = 24, .depth = 2, .heads = 4})}) {
    CausalLM model(config, 5);
    model->eval();
    GenerationOptions options{.max_new_tokens = 12, .sample = true, .warp = {.temperature = 1.2, .top_k = 20}};
    const auto together = generate(*model, {.prompts = kRagged}, options);
    for (size_t row = 0; row < kRagged.size(); ++row) {
      options.row_streams = {derive_seed(options.seed, row)};
      const auto alone = generate(*model, {.prompts = {kRagged[row]}}, options);
      EXPECT_EQ(first_tokens(together, row), first_tokens(alone));
      for (size_t i = 0; i < 12; ++i) {
        EXPECT_NEAR(together.rows[row][0].log_probs[i], alone.rows[0][0].log_probs[i], 1e-4);
      }
    }
  }
}

TEST(Generation, SamplesFollowTheWarpedDistribution) {
  ScriptedLm model(12, 3);
  const WarpOptions warp{.temperature = 0.9, .top_p = 0.9};
  const int64_t n = 20000;
  const auto output =
      generate(model, {.prompts = {{1, 2}}}, {.max_new_tokens = 1, .sample = true, .warp = warp, .sequences = n});
  const auto p = warp_probabilities(model.logits_behind({1, 2}), warp);
  std::vector<double> counts(12, 0);
  for (const auto& sequence : output.rows[0]) counts[static_cast<size_t>(sequence.tokens[0])] += 1;
  double chi2 = 0, df = -1;
  for (int64_t i = 0; i < 12; ++i) {
    const auto expected = p[i].item<double>() * static_cast<double>(n);
    if (expected == 0) {
      EXPECT_EQ(counts[static_cast<size_t>(i)], 0);
      continue;
    }
    chi2 += std::pow(counts[static_cast<size_t>(i)] - expected, 2) / expected;
    df += 1;
  }
  EXPECT_GE(df, 3);
  EXPECT_LT(chi2, df + 4.5 * std::sqrt(2 * df));
}

TEST(Generation, TheSeedDecides) {
  ScriptedLm model(50, 2);
  const auto run = [&](uint64_t seed) {
    return first_tokens(generate(model, {.prompts = {{7}}}, {.max_new_tokens = 20, .sample = true, .seed = seed}));
  };
  EXPECT_EQ(run(4), run(4));
  EXPECT_NE(run(4), run(5));
  const auto several =
      generate(model, {.prompts = {{7}, {7}}}, {.max_new_tokens = 20, .sample = true, .seed = 4, .sequences = 2});
  EXPECT_EQ(several.rows[0][0].tokens, run(4));
  EXPECT_NE(several.rows[0][0].tokens, several.rows[0][1].tokens);
  EXPECT_NE(several.rows[0][0].tokens, several.rows[1][0].tokens);
}

TEST(Generation, FinishedRowsLeaveTheBatch) {
  for (const bool selectable : {true, false}) {
    ScriptedLm model(10, 8);
    model.selectable = selectable;
    const auto whole = generate(model, {.prompts = kRagged}, {.max_new_tokens = 25});
    model.widths.clear();
    const auto output = generate(model, {.prompts = kRagged}, {.max_new_tokens = 25, .eos = {0, 4}});
    int64_t longest = 0;
    std::vector<int64_t> lengths;
    for (size_t row = 0; row < kRagged.size(); ++row) {
      auto wanted = first_tokens(whole, row);  // cut behind the first end token
      const auto end = std::find_if(wanted.begin(), wanted.end(), [](int64_t t) { return t == 0 || t == 4; });
      if (end != wanted.end()) wanted.erase(end + 1, wanted.end());
      EXPECT_EQ(first_tokens(output, row), wanted);
      EXPECT_EQ(output.rows[row][0].finish, end != wanted.end() || wanted.size() < 25 ? Finish::eos : Finish::length);
      lengths.push_back(static_cast<int64_t>(wanted.size()));
      longest = std::max(longest, lengths.back());
    }
    EXPECT_GT(longest, *std::min_element(lengths.begin(), lengths.end()));
    ASSERT_EQ(static_cast<int64_t>(model.widths.size()), longest);
    for (int64_t step = 1; step < longest; ++step) {
      const auto running = std::count_if(lengths.begin(), lengths.end(), [&](int64_t l) { return l > step; });
      EXPECT_EQ(model.widths[static_cast<size_t>(step)], selectable ? running : 4) << step;
    }
  }
}

TEST(Generation, LimitsOfLength) {
  ScriptedLm model(12, 6, /*context=*/20);
  EXPECT_EQ(first_tokens(generate(model, {.prompts = {{1, 2, 3}}}, {.max_length = 10})).size(), 7U);
  EXPECT_EQ(first_tokens(generate(model, {.prompts = {{1, 2, 3}}}, {.max_new_tokens = 2, .max_length = 10})).size(),
            2U);
  EXPECT_EQ(first_tokens(generate(model, {.prompts = {{1, 2, 3}}})).size(), 17U);  // to the end of the context
  // With every token an end token, the minimum decides.
  Tokens all(11);
  std::iota(all.begin(), all.end(), 0);
  const auto length = [&](GenerationOptions o) {
    o.eos = all;
    return first_tokens(generate(model, {.prompts = {{1, 2, 3}}}, o));
  };
  EXPECT_EQ(length({.max_new_tokens = 9, .min_new_tokens = 4}).size(), 5U);
  EXPECT_EQ(length({.max_new_tokens = 9, .min_length = 4}).size(), 2U);
  EXPECT_EQ(length({.max_new_tokens = 9, .min_new_tokens = 4})[3], 11);
}

TEST(Generation, ForcedAndForbiddenTokens) {
  ScriptedLm model(12, 6);
  const auto run = [&](const Tokens& prompt, const GenerationOptions& o) {
    return first_tokens(generate(model, {.prompts = {prompt}}, o));
  };
  const auto free = run({1}, {.max_new_tokens = 5});
  EXPECT_EQ(run({1}, {.max_new_tokens = 5, .forced_bos = 7})[0], 7);
  EXPECT_NE(run({1, 1}, {.max_new_tokens = 5, .forced_bos = 7})[0], 7);
  EXPECT_EQ(run({1}, {.max_new_tokens = 5, .forced_eos = {9}}), (Tokens{free[0], free[1], free[2], free[3], 9}));
  EXPECT_EQ(run({1}, {.max_new_tokens = 5, .forced_tokens = {{1, 4}, {3, 2}}})[0], 4);
  EXPECT_EQ(run({1}, {.max_new_tokens = 5, .forced_tokens = {{1, 4}, {3, 2}}})[2], 2);
  for (const auto token : run({1}, {.max_new_tokens = 12, .suppressed = {free[0], free[1]}})) {
    EXPECT_TRUE(token != free[0] && token != free[1]);
  }
  EXPECT_NE(run({1}, {.max_new_tokens = 5, .begin_suppressed = {free[0]}})[0], free[0]);
  const auto unique = run({1}, {.max_new_tokens = 11, .no_repeat_ngram = 1});
  EXPECT_EQ(std::set<int64_t>(unique.begin(), unique.end()).size(), 11U);
  EXPECT_EQ(std::count(unique.begin(), unique.end(), 1), 0);
  EXPECT_ERROR(run({1}, {.max_new_tokens = 12, .no_repeat_ngram = 1}), "must have a finite entry, all 12");
  EXPECT_NE(run({1}, {.max_new_tokens = 5, .bad_words = {{free[0], free[1]}}})[1], free[1]);
  EXPECT_EQ(run({1}, {.max_new_tokens = 5, .bad_words = {{free[0], free[1]}}})[0], free[0]);
  EXPECT_EQ(run({1}, {.max_new_tokens = 5, .sequence_bias = {{.tokens = {3}, .bias = 100}}}), Tokens(5, 3));
  // Everything but one token has been seen in the prompt: a strong penalty leaves that one.
  const auto penalized = run({0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11}, {.max_new_tokens = 1, .repetition_penalty = 1e6});
  EXPECT_EQ(penalized, Tokens{7});
  // Presence counts new tokens only.
  EXPECT_EQ(run(free, {.max_new_tokens = 1, .presence_penalty = 1e6}), run(free, {.max_new_tokens = 1}));
}

TEST(Generation, GuidanceMixesTheLogitsOfTwoPrompts) {
  ScriptedLm model(30, 4);
  const Tokens prompt{1, 2, 3}, negative{5, 6};
  Tokens own = prompt, other = negative, wanted;
  for (int i = 0; i < 8; ++i) {
    const auto mixed = guide_logits(model.logits_behind(own), model.logits_behind(other), 2.5);
    wanted.push_back(mixed.argmax().item<int64_t>());
    own.push_back(wanted.back());
    other.push_back(wanted.back());
  }
  const GenerationOptions options{.max_new_tokens = 8, .guidance_scale = 2.5};
  const auto output =
      generate(model, {.prompts = {prompt, {4}}, .negative_prompts = {negative, {8, 9, 2, 1}}}, options);
  EXPECT_EQ(first_tokens(output), wanted);
  // Without a negative prompt it is the last token, as transformers has it.
  EXPECT_EQ(first_tokens(generate(model, {.prompts = {prompt}}, options)),
            first_tokens(generate(model, {.prompts = {prompt}, .negative_prompts = {{3}}}, options)));
}

TEST(Generation, AConversationIsReadOnlyWhereItIsNew) {
  CausalLM model(llama_config({.vocab_size = 61, .context_length = 60, .dim = 24, .depth = 2, .heads = 4}), 5);
  model->eval();
  PromptCache cache;
  Tokens conversation{3, 1, 4, 1, 5};
  const GenerationOptions options{.max_new_tokens = 6};
  const std::vector<int64_t> reused{0, 10, 13};  // all but the last token that was generated; then a changed token
  for (size_t turn = 0; turn < 3; ++turn) {
    const auto with = generate(*model, {.prompts = {conversation}, .cache = &cache}, options);
    const auto without = generate(*model, {.prompts = {conversation}}, options);
    EXPECT_EQ(first_tokens(with), first_tokens(without));
    EXPECT_EQ(with.reused_tokens, reused[turn]);
    const auto answer = first_tokens(with);
    conversation.insert(conversation.end(), answer.begin(), answer.end());
    conversation.insert(conversation.end(), {7, 8, 9});
    if (turn == 1) conversation[13] = (conversation[13] + 1) % 61;
  }
  // The same prompt again: its last token is read, to have its logits.
  const auto again = generate(*model, {.prompts = {{3, 1, 4, 1, 5}}, .cache = &cache}, options);
  EXPECT_EQ(again.reused_tokens, 4);
  EXPECT_EQ(first_tokens(again), first_tokens(generate(*model, {.prompts = {{3, 1, 4, 1, 5}}}, options)));
  EXPECT_ERROR(generate(*model, {.prompts = kRagged, .cache = &cache}, options),
               "generate: a cache must be used with one prompt and one sequence");
}

TEST(Generation, ACacheThatCannotBeCutIsReadAgain) {
  ScriptedLm model(40, 1);
  PromptCache cache;
  const GenerationOptions options{.max_new_tokens = 3};
  for (const auto& prompt : {Tokens{1, 2, 3}, Tokens{1, 2, 9, 9}}) {
    const auto output = generate(model, {.prompts = {prompt}, .cache = &cache}, options);
    EXPECT_EQ(first_tokens(output), plain_greedy(model, prompt, 3));
    EXPECT_EQ(output.reused_tokens, 0);
  }
  auto longer = cache.tokens;
  longer.push_back(5);
  const auto output = generate(model, {.prompts = {longer}, .cache = &cache}, options);
  EXPECT_EQ(output.reused_tokens, static_cast<int64_t>(longer.size()) - 1);
  EXPECT_EQ(first_tokens(output), plain_greedy(model, longer, 3));
}

TEST(Generation, PaddedBatchesBecomeRaggedPrompts) {
  const auto ids = at::tensor({1, 2, 3, 0, 0, 4, 5, 0, 0}, at::kLong).view({3, 3});
  const auto keep = at::tensor({1, 1, 1, 0, 0, 1, 1, 0, 0}).view({3, 3});
  EXPECT_THAT(generation_input(ids, keep).prompts, ElementsAre(Tokens{1, 2, 3}, Tokens{4}, Tokens{5}));
  EXPECT_THAT(generation_input(ids).prompts[1], ElementsAre(0, 0, 4));
  EXPECT_ERROR(generation_input(ids, at::tensor({1, 0, 1, 0, 0, 1, 1, 0, 0}).view({3, 3})),
               "generation_input: real tokens of row 0 must stand together, keep has a gap at 1");
}

TEST(Generation, WrongCallsAreNamed) {
  ScriptedLm model(12, 6, /*context=*/20), unlimited(12, 6, /*context=*/0);
  const Tokens prompt{1, 2, 3};
  const auto run = [&](const GenerationInput& input, const GenerationOptions& o) { generate(model, input, o); };
  EXPECT_ERROR(run({.prompts = {}}, {}), "generate: at least one prompt must be given");
  EXPECT_ERROR(run({.prompts = {prompt, {}}}, {}), "generate: prompt 1 must hold at least one token");
  EXPECT_ERROR(run({.prompts = {{1, 12}}}, {}), "generate: tokens of prompt 0 must be in [0, 12), got 12");
  EXPECT_ERROR(run({.prompts = {Tokens(20, 1)}}, {.max_new_tokens = 1}),
               "generate: a prompt must be shorter than the model's context of 20 tokens, got 20");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.max_new_tokens = 18}),
               "generate: prompt and new tokens must fit the model's context of 20 tokens, got 3 + 18");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.max_length = 3}),
               "generate: max_length must be longer than the prompt of 3 tokens, got 3");
  EXPECT_ERROR(generate(unlimited, {.prompts = {prompt}}), "max_new_tokens or max_length must be given");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.max_new_tokens = 0}), "generate: max_new_tokens must be >= 1, got 0");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.stop_strings = {"x"}}), "generate: stop_strings need a tokenizer");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.sequences = 2}), "several sequences need sampling or beams");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.sequences = 3, .beams = 2}), "sequences must be <= beams = 2, got 3");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.sample = true, .beams = 2}), "beam search with sampling");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.warp = {.top_p = 2}}), "Warp: top_p must be in [0, 1], got 2");
  EXPECT_ERROR(run({.prompts = {prompt}, .negative_prompts = {prompt, prompt}}, {.guidance_scale = 2}),
               "negative_prompts must have one row a prompt, 1, got 2");
  EXPECT_ERROR(run({.prompts = {prompt}}, {.tokenizer = std::make_shared<testing::ByteTokenizer>()}),
               "the tokenizer must know no more tokens than the model, 12, got 256");
  model.script = [](const Tokens&) { return at::full({12}, NAN); };
  EXPECT_ERROR(run({.prompts = {prompt}}, {}), "must hold no NaN");
  EXPECT_EQ(first_tokens(generate(model, {.prompts = {prompt}}, {.max_new_tokens = 1, .remove_invalid = true})),
            Tokens{0});
}

}  // namespace
}  // namespace winnow::models
