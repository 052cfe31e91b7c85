// generate() against the greedy runs of published architectures: tokens exactly, log-probabilities by the stored
// logits.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/golden.h"
#include "support/tensor_near.h"
#include "winnow/models/causal_lm.h"
#include "winnow/models/generation.h"

namespace winnow::models {
namespace {

using testing::golden::HfCase;

at::Tensor optional_input(const HfCase& c, const HfCase::Run& run, const std::string& name) {
  const auto full = run.name + ".in." + name;
  return c.has(full) ? c[full] : at::Tensor();
}

// The tokens of all rows as [B, n], and the log-probabilities.
std::pair<at::Tensor, at::Tensor> as_tensors(const GenerationOutput& output) {
  std::vector<at::Tensor> tokens, log_probs;
  for (const auto& row : output.rows) {
    tokens.push_back(at::tensor(row[0].tokens, at::kLong));
    log_probs.push_back(at::tensor(row[0].log_probs, at::kFloat));
  }
  return {at::stack(tokens), at::stack(log_probs)};
}

void expect_run(const HfCase& c, const HfCase::Run& run, LanguageModel& model, const GenerationInput& input,
                GenerationOptions options) {
  const auto wanted = c[run.name + ".out.tokens"];
  options.max_new_tokens = wanted.size(1);
  const auto [tokens, log_probs] = as_tensors(generate(model, input, options));
  EXPECT_TENSOR_EQ(tokens, wanted);
  const auto stored = c[run.name + ".out.logits"].log_softmax(-1).gather(2, wanted.unsqueeze(2)).squeeze(2);
  EXPECT_TENSOR_NEAR(log_probs, stored, 1e-4);
}

// Whole, in pieces of three tokens, and each row by itself.
void check_causal(const HfCase& c) {
  const auto model = load(c.config(), c.checkpoint());
  auto* lm = dynamic_cast<LanguageModel*>(model.get());
  ASSERT_NE(lm, nullptr) << c.path;
  int64_t runs = 0;
  for (const auto& run : c.runs) {
    if (run.kind != "lm_greedy") continue;
    SCOPED_TRACE(c.path.string() + " " + c.form + " " + run.name);
    const auto input = generation_input(c[run.name + ".in.input_ids"], optional_input(c, run, "attention_mask"));
    expect_run(c, run, *lm, input, {});
    expect_run(c, run, *lm, input, {.prefill_chunk = 3});
    const auto wanted = c[run.name + ".out.tokens"];
    for (int64_t row = 0; row < wanted.size(0); ++row) {
      const auto alone =
          generate(*lm, {.prompts = {input.prompts[static_cast<size_t>(row)]}}, {.max_new_tokens = wanted.size(1)});
      EXPECT_TENSOR_EQ(as_tensors(alone).first[0], wanted[row]);
    }
    ++runs;
  }
  EXPECT_GE(runs, 1) << c.path;
}

TEST(GenerationGolden, DecoderOnlyModelsDecodeAsTransformersDoes) {
  for (const auto& architecture : causal_lm_architectures()) testing::golden::for_each_hf(architecture, check_causal);
}

// The encoder reads its input once; the decoder begins with the stored prompt, and the same without one where that is
// the model's first token.
void check_encoder_decoder(const HfCase& c) {
  const auto network = load(c.config(), c.checkpoint());
  auto* model = dynamic_cast<EncoderDecoder*>(network.get());
  ASSERT_NE(model, nullptr) << c.path;
  int64_t runs = 0;
  for (const auto& run : c.runs) {
    if (run.kind != "encdec_greedy") continue;
    SCOPED_TRACE(c.path.string() + " " + c.form + " " + run.name);
    const at::NoGradGuard no_grad;
    const bool text = c.has(run.name + ".in.input_ids");
    const auto keep = text ? optional_input(c, run, "attention_mask") : at::Tensor();
    const auto encoded = model->encode(c[run.name + (text ? ".in.input_ids" : ".in.input_features")], keep);
    auto input = generation_input(c[run.name + ".in.decoder_prompt"]);
    input.encoder_states = encoded.states;
    input.encoder_keep = encoded.keep;
    expect_run(c, run, *model, input, {});
    if (input.prompts == std::vector(input.prompts.size(), std::vector{model->decoder_start()})) {
      input.prompts.clear();
      expect_run(c, run, *model, input, {});
    }
    // Beams take the encoder's states along.
    const auto wanted = c[run.name + ".out.tokens"];
    input.prompts = generation_input(c[run.name + ".in.decoder_prompt"]).prompts;
    const auto beams = generate(*model, input, {.max_new_tokens = wanted.size(1), .beams = 2});
    for (size_t row = 0; row < beams.rows.size(); ++row) {
      GenerationInput alone{.prompts = {input.prompts[row]}};
      const auto b = static_cast<int64_t>(row);
      alone.encoder_states = encoded.states.slice(0, b, b + 1);
      if (encoded.keep.defined()) alone.encoder_keep = encoded.keep.slice(0, b, b + 1);
      const auto single = generate(*model, alone, {.max_new_tokens = wanted.size(1), .beams = 2});
      EXPECT_EQ(beams.rows[row][0].tokens, single.rows[0][0].tokens);
    }
    ++runs;
  }
  EXPECT_GE(runs, 1) << c.path;
}

TEST(GenerationGolden, EncoderDecoderModelsDecodeAsTransformersDoes) {
  for (const auto* architecture : {"T5ForConditionalGeneration", "WhisperForConditionalGeneration"}) {
    testing::golden::for_each_hf(architecture, check_encoder_decoder);
  }
}

TEST(GenerationGolden, RecurrentModelsDecodeAsTransformersDoes) {
  testing::golden::for_each_hf("MambaForCausalLM", check_causal);
}

}  // namespace
}  // namespace winnow::models
