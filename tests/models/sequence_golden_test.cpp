// T5, Whisper and Mamba against Hugging Face's code: every stored tensor of every run, from every form of every folder.
// Sizes and options come from the files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "models/hf_golden.h"
#include "winnow/attention/language_model.h"
#include "winnow/models/mamba.h"
#include "winnow/models/t5.h"
#include "winnow/models/whisper.h"

namespace winnow::models {
namespace {

using testing::input;
using testing::optional_input;
using testing::Outputs;
using winnow::testing::golden::for_each_hf;
using winnow::testing::golden::HfCase;

// Token ids, or features where the run has those.
at::Tensor encoder_input(const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto features = optional_input(c, run, "input_features", dtype);
  return features.defined() ? features : input(c, run, "input_ids");
}

Outputs run_forward(EncoderDecoder& model, const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto encoded =
      model.encode(encoder_input(c, run, dtype), optional_input(c, run, "attention_mask"), /*hidden_states=*/true);
  const auto out = model.run({.ids = optional_input(c, run, "decoder_input_ids"),
                              .keep = optional_input(c, run, "decoder_attention_mask"),
                              .labels = optional_input(c, run, "labels"),
                              .hidden_states = true,
                              .encoder_states = encoded.states,
                              .encoder_keep = encoded.keep});
  Outputs outputs{{"logits", out.logits}, {"loss", out.loss}, {"encoder_last_hidden_state", encoded.states}};
  testing::add_hidden(outputs, encoded.hidden_states, "encoder_hidden.");
  testing::add_hidden(outputs, out.hidden_states, "decoder_hidden.");
  return outputs;
}

Outputs run_forward(MambaImpl& model, const HfCase& c, const HfCase::Run& run) {
  const auto out = model.run({.ids = input(c, run, "input_ids"),
                              .keep = optional_input(c, run, "attention_mask"),
                              .labels = optional_input(c, run, "labels"),
                              .hidden_states = true});
  Outputs outputs{{"logits", out.logits}, {"loss", out.loss}};
  testing::add_hidden(outputs, out.hidden_states);
  return outputs;
}

// Prefill, then one token at a time with the state.
Outputs run_greedy(LanguageModel& model, LmInput call, int64_t steps) {
  const auto state = model.make_state(call.ids.size(0), call.ids.size(1) + steps);
  call.state = state.get();
  call.last_only = true;
  std::vector<at::Tensor> tokens, logits, margins;
  for (int64_t step = 0; step < steps; ++step) {
    logits.push_back(model.run(call).logits.select(1, 0));
    const auto best = std::get<0>(logits.back().topk(2, 1));
    margins.push_back(best.select(1, 0) - best.select(1, 1));
    call.ids = logits.back().argmax(1, /*keepdim=*/true);
    call.encoder_states = call.encoder_keep = at::Tensor();  // the state has them
    tokens.push_back(call.ids.select(1, 0));
  }
  return {{"tokens", at::stack(tokens, 1)}, {"logits", at::stack(logits, 1)}, {"margin", at::stack(margins, 1)}};
}

Outputs run_model(Pretrained& model, const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto steps = run.options.value("new_tokens", int64_t{0});
  if (auto* mamba = dynamic_cast<MambaImpl*>(&model)) {
    if (run.kind == "lm") return run_forward(*mamba, c, run);
    EXPECT_EQ(run.kind, "lm_greedy");
    return run_greedy(*mamba, {.ids = input(c, run, "input_ids")}, steps);
  }
  auto& pair = dynamic_cast<EncoderDecoder&>(model);
  if (run.kind == "encdec") return run_forward(pair, c, run, dtype);
  EXPECT_EQ(run.kind, "encdec_greedy");
  const auto encoded = pair.encode(encoder_input(c, run, dtype), optional_input(c, run, "attention_mask"));
  return run_greedy(
      pair, {.ids = input(c, run, "decoder_prompt"), .encoder_states = encoded.states, .encoder_keep = encoded.keep},
      steps);
}

void check(const HfCase& c) {
  testing::check_case(c, run_model);
}

TEST(SequenceModelGolden, MambaForCausalLM) {
  for_each_hf("MambaForCausalLM", check);
}
TEST(SequenceModelGolden, T5ForConditionalGeneration) {
  for_each_hf("T5ForConditionalGeneration", check);
}
TEST(SequenceModelGolden, WhisperForConditionalGeneration) {
  for_each_hf("WhisperForConditionalGeneration", check);
}

}  // namespace
}  // namespace winnow::models
