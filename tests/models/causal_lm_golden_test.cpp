// Decoder-only language models against Hugging Face's code: every stored tensor of every run, from every form of every
// folder. Sizes and options come from the files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>

#include "hf_golden.h"
#include "support/golden.h"
#include "winnow/models/causal_lm.h"

namespace winnow::models {
namespace {

using testing::HfCase;
using testing::optional_input;
using testing::Outputs;

// The files hold zeros where attention_mask is 0.
at::Tensor zero_at_pads(const at::Tensor& x, const at::Tensor& keep) {
  if (!keep.defined()) return x;
  const auto kept = keep.to(x.scalar_type());
  return x * (x.dim() == 2 ? kept.reshape({-1, 1}) : kept.unsqueeze(2));
}

Outputs run_forward(CausalLMImpl& model, const HfCase& c, const HfCase::Run& run) {
  const auto keep = optional_input(c, run, "attention_mask");
  const auto out = model.run({.ids = c[run.name + ".in.input_ids"],
                              .keep = keep,
                              .positions = optional_input(c, run, "position_ids"),
                              .labels = optional_input(c, run, "labels"),
                              .hidden_states = true,
                              .router_logits = true});
  Outputs outputs{{"logits", zero_at_pads(out.logits, keep)}, {"loss", out.loss}, {"aux_loss", out.aux_loss}};
  // A run without "hidden" stores the last state alone, as number 0.
  const bool all = run.options.value("hidden", true);
  const auto states = all ? out.hidden_states : std::vector<at::Tensor>{out.hidden_states.back()};
  for (size_t i = 0; i < states.size(); ++i) {
    outputs["hidden." + std::to_string(i)] = zero_at_pads(states[i], keep);
  }
  for (size_t i = 0; i < out.router_logits.size(); ++i) {
    outputs["router_logits." + std::to_string(i)] = zero_at_pads(out.router_logits[i], keep);
  }
  return outputs;
}

// Prefill, then one token at a time with the cache; pads at the left take no position.
Outputs run_greedy(CausalLMImpl& model, const HfCase& c, const HfCase::Run& run) {
  auto ids = c[run.name + ".in.input_ids"];
  auto keep = optional_input(c, run, "attention_mask");
  if (!keep.defined()) keep = at::ones_like(ids);
  const auto steps = run.options.at("new_tokens").get<int64_t>();
  const auto state = model.make_state(ids.size(0), ids.size(1) + steps);
  std::vector<at::Tensor> tokens, logits, margins;
  for (int64_t step = 0; step < steps; ++step) {
    const auto positions = (keep.cumsum(1) - 1).clamp_min(0).slice(1, -ids.size(1));
    const auto out =
        model.run({.ids = ids, .keep = keep, .positions = positions, .state = state.get(), .last_only = true});
    logits.push_back(out.logits.select(1, 0));
    const auto best = std::get<0>(logits.back().topk(2, 1));
    margins.push_back(best.select(1, 0) - best.select(1, 1));
    ids = logits.back().argmax(1, /*keepdim=*/true);
    tokens.push_back(ids.select(1, 0));
    keep = at::cat({keep, at::ones_like(ids)}, 1);
  }
  return {{"tokens", at::stack(tokens, 1)}, {"logits", at::stack(logits, 1)}, {"margin", at::stack(margins, 1)}};
}

Outputs run_model(Pretrained& any, const HfCase& c, const HfCase::Run& run, at::ScalarType) {
  auto& model = dynamic_cast<CausalLMImpl&>(any);
  EXPECT_TRUE(run.kind == "lm" || run.kind == "lm_greedy") << run.kind;
  return run.kind == "lm_greedy" ? run_greedy(model, c, run) : run_forward(model, c, run);
}

void check_case(const HfCase& c) {
  testing::check_case(c, run_model);
}

TEST(CausalLMGolden, GPT2LMHeadModel) {
  winnow::testing::golden::for_each_hf("GPT2LMHeadModel", check_case);
}
TEST(CausalLMGolden, GPTNeoXForCausalLM) {
  winnow::testing::golden::for_each_hf("GPTNeoXForCausalLM", check_case);
}
TEST(CausalLMGolden, LlamaForCausalLM) {
  winnow::testing::golden::for_each_hf("LlamaForCausalLM", check_case);
}
TEST(CausalLMGolden, MistralForCausalLM) {
  winnow::testing::golden::for_each_hf("MistralForCausalLM", check_case);
}
TEST(CausalLMGolden, MixtralForCausalLM) {
  winnow::testing::golden::for_each_hf("MixtralForCausalLM", check_case);
}
TEST(CausalLMGolden, OlmoeForCausalLM) {
  winnow::testing::golden::for_each_hf("OlmoeForCausalLM", check_case);
}
TEST(CausalLMGolden, Qwen2ForCausalLM) {
  winnow::testing::golden::for_each_hf("Qwen2ForCausalLM", check_case);
}
TEST(CausalLMGolden, Qwen3ForCausalLM) {
  winnow::testing::golden::for_each_hf("Qwen3ForCausalLM", check_case);
}
TEST(CausalLMGolden, Qwen3MoeForCausalLM) {
  winnow::testing::golden::for_each_hf("Qwen3MoeForCausalLM", check_case);
}

}  // namespace
}  // namespace winnow::models
