// Decoder-only language models against Hugging Face's code: every stored tensor of every run, from every form of every
// folder. Sizes and options come from the files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>
#include <string>

#include "support/golden.h"
#include "winnow/models/causal_lm.h"

namespace winnow::models {
namespace {

using testing::golden::HfCase;
using Outputs = std::map<std::string, at::Tensor>;

CausalLM load_case(const HfCase& c, at::ScalarType dtype) {
  auto model = load(c.config(), c.checkpoint(), {.dtype = dtype});
  return CausalLM(std::dynamic_pointer_cast<CausalLMImpl>(model));
}

at::Tensor optional_input(const HfCase& c, const HfCase::Run& run, const std::string& name) {
  const auto full = run.name + ".in." + name;
  return c.has(full) ? c[full] : at::Tensor();
}

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

void expect_outputs(const HfCase& c, const std::string& prefix, const Outputs& outputs) {
  for (const auto& name : c.names(prefix)) {
    const auto found = outputs.find(name.substr(prefix.size()));
    if (found == outputs.end() || !found->second.defined()) {
      ADD_FAILURE() << c.path << ": the model gives no " << name;
    } else {
      c.expect(name, found->second);
    }
  }
}

void expect_gradients(const HfCase& c, const HfCase::Run& run, const CausalLMImpl& model, const at::Tensor& loss) {
  const auto prefix = run.name + ".grad.";
  const auto names = c.names(prefix);
  if (names.empty()) return;
  ASSERT_TRUE(loss.defined()) << c.path << " " << run.name;
  loss.backward();
  const auto map = model.weight_map();
  for (const auto& name : names) {
    const auto gradient = map.gradient(name.substr(prefix.size()));
    ASSERT_TRUE(gradient.defined()) << name;
    c.expect(name, gradient);
  }
}

void check_case(const HfCase& c) {
  ASSERT_FALSE(c.runs.empty());
  for (const auto& run : c.runs) {
    SCOPED_TRACE(c.path.string() + " " + c.form + " " + run.name);
    const auto outputs_of = [&](CausalLMImpl& model) {
      return run.kind == "lm_greedy" ? run_greedy(model, c, run) : run_forward(model, c, run);
    };
    ASSERT_TRUE(run.kind == "lm" || run.kind == "lm_greedy") << run.kind;
    auto model = load_case(c, at::kFloat);
    const auto outputs = outputs_of(*model);
    expect_outputs(c, run.name + ".out.", outputs);
    if (run.kind == "lm") expect_gradients(c, run, *model, outputs.at("loss"));
    if (c.names(run.name + ".out64.").empty()) continue;
    auto precise = load_case(c, at::kDouble);
    expect_outputs(c, run.name + ".out64.", outputs_of(*precise));
  }
}

TEST(CausalLMGolden, GPT2LMHeadModel) {
  testing::golden::for_each_hf("GPT2LMHeadModel", check_case);
}
TEST(CausalLMGolden, GPTNeoXForCausalLM) {
  testing::golden::for_each_hf("GPTNeoXForCausalLM", check_case);
}
TEST(CausalLMGolden, LlamaForCausalLM) {
  testing::golden::for_each_hf("LlamaForCausalLM", check_case);
}
TEST(CausalLMGolden, MistralForCausalLM) {
  testing::golden::for_each_hf("MistralForCausalLM", check_case);
}
TEST(CausalLMGolden, MixtralForCausalLM) {
  testing::golden::for_each_hf("MixtralForCausalLM", check_case);
}
TEST(CausalLMGolden, OlmoeForCausalLM) {
  testing::golden::for_each_hf("OlmoeForCausalLM", check_case);
}
TEST(CausalLMGolden, Qwen2ForCausalLM) {
  testing::golden::for_each_hf("Qwen2ForCausalLM", check_case);
}
TEST(CausalLMGolden, Qwen3ForCausalLM) {
  testing::golden::for_each_hf("Qwen3ForCausalLM", check_case);
}
TEST(CausalLMGolden, Qwen3MoeForCausalLM) {
  testing::golden::for_each_hf("Qwen3MoeForCausalLM", check_case);
}

}  // namespace
}  // namespace winnow::models
