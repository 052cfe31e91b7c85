// Warpers and guidance against what transformers computed.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/golden.h"
#include "support/tensor_near.h"
#include "winnow/nn/sampling.h"

namespace winnow {
namespace {

using testing::golden::Case;

struct Reference {
  at::Tensor logits, ids;
  // One transformers class with its arguments.
  at::Tensor apply(const io::Json& call) const {
    const auto& args = call.at("args");
    const auto name = call.at("class").get<std::string>();
    WarpOptions warp{.min_tokens = args.value("min_tokens_to_keep", int64_t{1})};
    if (name == "RepetitionPenaltyLogitsProcessor") return penalized(args);
    if (name == "TemperatureLogitsWarper") warp.temperature = args.at("temperature");
    if (name == "TopKLogitsWarper") warp.top_k = args.at("top_k");
    if (name == "TopPLogitsWarper") warp.top_p = args.at("top_p");
    if (name == "MinPLogitsWarper") warp.min_p = args.at("min_p");
    if (name == "TypicalLogitsWarper") warp.typical_p = args.at("mass");
    if (name == "EpsilonLogitsWarper") warp.epsilon_cutoff = args.at("epsilon");
    if (name == "EtaLogitsWarper") warp.eta_cutoff = args.at("epsilon");
    return warp_logits(logits, warp);
  }
  at::Tensor penalized(const io::Json& args) const {
    TokenHistory history;
    const auto skip = args.value("prompt_ignore_length", int64_t{0}), T = ids.size(1);
    for (int64_t b = 0; b < ids.size(0); ++b) {
      history.push_back({ids.const_data_ptr<int64_t>() + b * T + skip, static_cast<size_t>(T - skip)});
    }
    return penalize_repetition(logits, history, args.at("penalty"));
  }
};

// A chain as one WarpOptions behind its penalty, which stands first in every chain.
WarpOptions chain_options(const io::Json& chain) {
  WarpOptions warp;
  for (const auto& call : chain) {
    const auto& args = call.at("args");
    warp.temperature = args.value("temperature", warp.temperature);
    warp.top_k = args.value("top_k", warp.top_k);
    warp.top_p = args.value("top_p", warp.top_p);
    warp.min_p = args.value("min_p", warp.min_p);
    if (call.at("class") == "TypicalLogitsWarper") warp.typical_p = args.at("mass");
    if (call.at("class") == "EpsilonLogitsWarper") warp.epsilon_cutoff = args.at("epsilon");
    if (call.at("class") == "EtaLogitsWarper") warp.eta_cutoff = args.at("epsilon");
  }
  return warp;
}

void check_chain(const Case& c, const std::string& label, const io::Json& chain) {
  Reference reference{c["in.logits"], c["in.ids"]};
  if (chain.at(0).at("class") == "RepetitionPenaltyLogitsProcessor") {
    reference.logits = reference.apply(chain.at(0));
  }
  const auto options = chain_options(chain);
  c.expect("out." + label, warp_logits(reference.logits, options));
  c.expect("out." + label + ".probs", warp_probabilities(reference.logits, options));
}

TEST(SamplingGolden, WarpersKeepWhatTransformersKeeps) {
  testing::golden::for_each("spec", "warpers",
                            [](const Case& c) {
                              for (const auto& call : c.options().at("calls")) {
                                const auto label = call.at("label").get<std::string>();
                                if (call.contains("chain")) {
                                  check_chain(c, label, call.at("chain"));
                                  continue;
                                }
                                c.expect("out." + label, Reference{c["in.logits"], c["in.ids"]}.apply(call));
                                if (c.has("out." + label + ".ties")) {
                                  c.expect("out." + label + ".ties", Reference{c["in.logits_ties"], {}}.apply(call));
                                }
                              }
                            },
                            {.rtol = 1e-5, .atol = 1e-6});
}

TEST(SamplingGolden, GuidanceMixesLogProbabilities) {
  testing::golden::for_each("spec", "guidance",
                            [](const Case& c) {
                              const auto conditional = c["in.cond"], unconditional = c["in.uncond"];
                              for (const auto& name : c.names("out.log_probs.")) {
                                const auto scale = std::stod(name.substr(std::string("out.log_probs.").size()));
                                c.expect(name, guide_logits(conditional, unconditional, scale));
                              }
                              // Both published forms give the same distribution.
                              const auto mixed = guide_logits(conditional, unconditional, c.option<double>("scale"));
                              EXPECT_TENSOR_NEAR(mixed.softmax(-1), c["out.raw"].softmax(-1), 1e-6);
                            },
                            {.rtol = 1e-5, .atol = 1e-6});
}

}  // namespace
}  // namespace winnow
