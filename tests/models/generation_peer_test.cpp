// Runs of generate() under many settings of generation_config.json on the published architectures. Where
// WINNOW_PEER_GENERATION names a file, they are written there for benchmarks/peers/check_generation.py, which repeats
// each with transformers and compares tokens and scores.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>
#include <memory>

#include "support/golden.h"
#include "winnow/io/json_lines.h"
#include "winnow/models/causal_lm.h"
#include "winnow/models/generation_config.h"

namespace winnow::models {
namespace {

using testing::golden::HfCase;

// All deterministic; the end tokens are frequent ones of such small vocabularies.
std::vector<io::Json> settings() {
  const auto* text = R"([
    {"max_new_tokens": 12},
    {"max_new_tokens": 12, "repetition_penalty": 1.7},
    {"max_new_tokens": 12, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 12, "guidance_scale": 1.8},
    {"max_new_tokens": 12, "suppress_tokens": [1, 2, 3, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60]},
    {"max_new_tokens": 12, "sequence_bias": [[[5], 4.0], [[5, 5], -3.0], [[7], 3.5]]},
    {"max_new_tokens": 10, "forced_eos_token_id": 3, "eos_token_id": 3, "min_new_tokens": 4},
    {"max_new_tokens": 12, "bad_words_ids": [[5], [6, 7], [8]], "renormalize_logits": true},
    {"max_new_tokens": 10, "eos_token_id": 4, "exponential_decay_length_penalty": [2, 1.4]},
    {"max_new_tokens": 9, "num_beams": 3, "num_return_sequences": 3},
    {"max_new_tokens": 9, "num_beams": 4, "num_return_sequences": 2, "repetition_penalty": 1.3},
    {"max_new_tokens": 12, "num_beams": 3, "num_return_sequences": 3, "eos_token_id": [5, 9, 11, 20, 33, 40, 41]},
    {"max_new_tokens": 12, "num_beams": 3, "num_return_sequences": 3, "length_penalty": -0.6,
     "eos_token_id": [5, 9, 11, 20, 33, 40, 41], "early_stopping": "never"},
    {"max_new_tokens": 12, "num_beams": 4, "num_return_sequences": 4, "length_penalty": 1.9,
     "eos_token_id": [5, 9, 11, 20, 33, 40, 41], "early_stopping": "never"},
    {"max_new_tokens": 12, "num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0,
     "eos_token_id": [5, 9, 11, 20, 33, 40, 41], "early_stopping": true},
    {"max_new_tokens": 8, "num_beams": 3, "renormalize_logits": true, "no_repeat_ngram_size": 2, "min_new_tokens": 3,
     "eos_token_id": [5, 9, 11, 20, 33, 40, 41], "forced_eos_token_id": 5}
  ])";
  return io::parse_json(text).get<std::vector<io::Json>>();
}

io::Json result_of(const GenerationOutput& output) {
  io::Json tokens = io::Json::array(), scores = io::Json::array();
  for (const auto& sequence : output.rows[0]) {
    tokens.push_back(sequence.tokens);
    scores.push_back(sequence.score);
  }
  return {{"tokens", tokens}, {"scores", scores}};
}

void run_settings(const HfCase& c, io::JsonLinesWriter* file) {
  if (c.form != "transformers5") return;
  const auto model = load(c.config(), c.checkpoint());
  auto& lm = dynamic_cast<LanguageModel&>(*model);
  const std::vector<int64_t> prompt{7, 12, 5, 6, 12, 5, 30};
  for (const auto& setting : settings()) {
    const auto options = parse_generation_config({setting, "setting"});
    const auto output = generate(lm, {.prompts = {prompt}}, options);
    ASSERT_EQ(static_cast<int64_t>(output.rows[0].size()), options.sequences) << setting;
    for (const auto& sequence : output.rows[0]) {
      EXPECT_LE(static_cast<int64_t>(sequence.tokens.size()), *options.max_new_tokens);
      EXPECT_GE(static_cast<int64_t>(sequence.tokens.size()), options.min_new_tokens.value_or(1));
      EXPECT_LE(sequence.score, output.rows[0][0].score);
    }
    auto line = result_of(output);
    line["folder"] = c.path.string();
    line["prompt"] = prompt;
    line["config"] = setting;
    if (file != nullptr) file->write(line);
  }
}

TEST(GenerationPeerGolden, SettingsOfGenerationConfigKeepTheirLimits) {
  const auto* path = std::getenv("WINNOW_PEER_GENERATION");
  std::unique_ptr<io::JsonLinesWriter> file;
  if (path != nullptr) file = std::make_unique<io::JsonLinesWriter>(path);
  for (const auto& architecture : causal_lm_architectures()) {
    testing::golden::for_each_hf(architecture, [&](const HfCase& c) { run_settings(c, file.get()); });
  }
}

}  // namespace
}  // namespace winnow::models
