// A real model end to end: SmolLM2-135M-Instruct out of its GGUF file, tokenizer and all.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>

#include "support/tensor_near.h"
#include "winnow/core/random.h"
#include "winnow/core/text.h"
#include "winnow/io/chat_template.h"
#include "winnow/models/gguf.h"
#include "winnow/models/text_model.h"
#include "winnow/train/language_model.h"

namespace winnow::models {
namespace {

std::filesystem::path gguf() {
  return std::filesystem::path(WINNOW_SOURCE_DIR) / "data/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
}

class SmolLM2 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(gguf())) GTEST_SKIP() << "./dev data smollm2 fetches the file";
  }
  static const TextModel& model() {
    static const auto loaded = load_text_model(gguf());
    return loaded;
  }
};

// Written for this test, so that no model has read it. 199 words.
constexpr auto kProse =
    "Water moves around the Earth in a cycle that never ends. The heat of the sun warms the surface of the oceans, "
    "lakes and rivers, and some of the water evaporates and rises into the air as a gas called water vapor. As the "
    "vapor rises, it cools and condenses into tiny drops of water, which form clouds. When the drops become too "
    "heavy to stay in the air, they fall back to the ground as rain, snow or hail. Some of this water flows over "
    "the land into streams and rivers, which carry it back to the sea. Some of it soaks into the soil, where plants "
    "take it up through their roots, and some of it sinks deeper and becomes groundwater, which is stored in layers "
    "of rock for many years. People depend on this cycle for drinking water, for farming and for many other uses. "
    "When a region receives less rain than usual for a long time, rivers and wells can run dry, and farmers may "
    "lose their crops. For this reason, many countries build dams and reservoirs to store water during the wet "
    "season, so that it can be used when the weather is dry.";

// No token stands before the first one, which is not judged: this model's tokenizer adds no beginning.
double perplexity(const TextModel& model, const std::string& text) {
  const auto ids = model.tokenizer->encode(text).ids;
  return train::strided_loss(*model.language_model, at::tensor(ids, at::kLong)).perplexity();
}

TEST_F(SmolLM2, TheCapitalOfFranceIsParis) {
  const auto ids = model().tokenizer->encode("The capital of France is Paris.").ids;
  EXPECT_EQ(ids, (std::vector<int64_t>{504, 3575, 282, 4649, 314, 7042, 30}));
  auto options = model().options;
  options.max_new_tokens = 2;
  options.sample = false;
  std::string streamed;
  const auto answer =
      generate_text(*model().language_model, "The capital of France is", options, [&](const TokenEvent& event) {
        streamed += event.text;
        return true;
      });
  EXPECT_EQ(answer.text, " Paris.");
  EXPECT_EQ(streamed, " Paris.");
  EXPECT_EQ(answer.tokens, (std::vector<int64_t>{7042, 30}));
}

TEST_F(SmolLM2, ProseIsLikelyAndItsShuffledWordsAreNot) {
  auto words = split(kProse, ' ');
  const auto prose = perplexity(model(), join(words, " "));
  Random(1).shuffle(std::span(words));
  const auto shuffled = perplexity(model(), join(words, " "));
  EXPECT_LT(prose, 10);
  EXPECT_GT(prose, 2);
  EXPECT_GT(shuffled, 500);
  std::printf("perplexity of prose %.2f, of its shuffled words %.0f\n", prose, shuffled);
}

TEST_F(SmolLM2, AChatEndsByItsEndToken) {
  const auto chat = io::ChatTemplate::from_folder(gguf());
  const auto prompt = chat.render({{.role = "user", .content = "What is the capital of France?"}});
  auto options = model().options;
  options.max_new_tokens = 60;
  options.sample = false;
  const auto ids = model().tokenizer->encode(prompt, {.add_special_tokens = false}).ids;
  const auto answer = generate(*model().language_model, {.prompts = {ids}}, options).rows[0][0];
  EXPECT_EQ(answer.finish, Finish::eos);
  EXPECT_EQ(answer.text, "The capital of France is Paris.");
}

TEST_F(SmolLM2, ABatchOfPromptsDecodesAsEachAlone) {
  std::vector<std::vector<int64_t>> prompts;
  for (const auto* text : {"The capital of France is", "Water boils at", "Once upon a time, in a small village,"}) {
    prompts.push_back(model().tokenizer->encode(text).ids);
  }
  auto options = model().options;
  options.max_new_tokens = 8;
  options.sample = false;
  const auto together = generate(*model().language_model, {.prompts = prompts}, options);
  for (size_t row = 0; row < prompts.size(); ++row) {
    const auto alone = generate(*model().language_model, {.prompts = {prompts[row]}}, options);
    EXPECT_EQ(together.rows[row][0].tokens, alone.rows[0][0].tokens);
  }
}

// Where WINNOW_PEER_SMOLLM2 names a folder, the converted model and what winnow computes with the GGUF file itself are
// left there for benchmarks/peers/check_smollm2.py.
TEST_F(SmolLM2, LogitsOfTheProse) {
  const auto ids = at::tensor(model().tokenizer->encode(kProse).ids, at::kLong).unsqueeze(0);
  const at::NoGradGuard no_grad;
  const auto logits = model().language_model->run({.ids = ids}).logits;  // [1, T, 49152]
  // In two halves with the state, the same.
  const auto half = ids.size(1) / 2;
  const auto state = model().language_model->make_state(1, ids.size(1));
  model().language_model->run({.ids = ids.slice(1, 0, half), .state = state.get()});
  const auto second = model().language_model->run({.ids = ids.slice(1, half), .state = state.get()}).logits;
  EXPECT_TENSOR_NEAR(second, logits.slice(1, half), 2e-3);
  const auto* kept = std::getenv("WINNOW_PEER_SMOLLM2");
  if (kept == nullptr) return;
  convert_gguf(io::GgufFile(gguf()), kept);
  auto options = model().options;
  options.max_new_tokens = 40;
  options.sample = false;
  const auto answer = generate(*model().language_model,
                               {.prompts = {model().tokenizer->encode("The capital of France is").ids}}, options);
  io::save_safetensors(std::filesystem::path(kept) / "check.safetensors",
                       {{"input_ids", ids},
                        {"logits", logits.contiguous()},
                        {"tokens", at::tensor(answer.rows[0][0].tokens, at::kLong)},
                        {"log_probs", at::tensor(answer.rows[0][0].log_probs, at::kFloat)}});
}

}  // namespace
}  // namespace winnow::models
