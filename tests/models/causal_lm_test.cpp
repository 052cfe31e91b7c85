// Facts of decoder-only language models that hold for every architecture.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <set>

#include "small_language_models.h"
#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/core/error.h"
#include "winnow/nn/hooks.h"

namespace winnow::models {
namespace {

using testing::small_lm;

class CausalLMTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { torch::manual_seed(0); }
};

at::Tensor random_ids(int64_t rows, int64_t length, int64_t vocabulary = 53) {
  return at::randint(vocabulary, {rows, length}, at::kLong);
}

TEST_P(CausalLMTest, DecodingTokenByTokenGivesTheLogitsOfOneForward) {
  auto model = small_lm(GetParam());
  for (const int64_t rows : {1, 3}) {  // one row: by the plan, three: by the modules
    const auto ids = random_ids(rows, 21);
    const auto whole = model->forward(ids).detach();
    const auto state = model->make_state(rows, 8);  // it grows
    std::vector<at::Tensor> parts;
    for (const auto& chunk : ids.split_with_sizes({9, 1, 1, 3, 1, 6}, 1)) {
      parts.push_back(model->run({.ids = chunk.contiguous(), .state = state.get()}).logits);
    }
    EXPECT_EQ(state->length(), 21);
    EXPECT_TENSOR_NEAR(at::cat(parts, 1), whole, 3e-5);
  }
}

TEST_P(CausalLMTest, ThePlanAndTheModulesDecodeAlike) {
  auto model = small_lm(GetParam());
  EXPECT_EQ(DecodePlan::obstacle(model->decode_stack()), "");
  const auto ids = random_ids(1, 12);
  const auto by_plan = model->make_state(1, 16), by_modules = model->make_state(1, 16);
  const auto prompt = ids.slice(1, 0, 8).contiguous(), next = ids.slice(1, 8).contiguous();
  model->run({.ids = prompt, .state = by_plan.get()});
  const auto fast = model->run({.ids = next, .state = by_plan.get(), .last_only = true}).logits;
  model->run({.ids = prompt, .state = by_modules.get()});
  int64_t seen = 0;
  ForwardHooks hooks(*model);
  hooks.observe("norm", [&](const at::Tensor&) { ++seen; });
  const auto slow = model->run({.ids = next, .state = by_modules.get(), .last_only = true}).logits;
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(fast.sizes(), at::IntArrayRef({1, 1, 53}));
  EXPECT_TENSOR_NEAR(fast, slow, 3e-5);
}

TEST_P(CausalLMTest, APaddedRowIsReadAsItIsAlone) {
  auto model = small_lm(GetParam());
  const auto a = random_ids(1, 9), b = random_ids(1, 4);
  const auto alone = model->forward(b);
  const auto left = at::cat({a, at::cat({at::zeros({1, 5}, at::kLong), b}, 1)});
  const auto left_keep = at::cat({at::ones({1, 9}), at::cat({at::zeros({1, 5}), at::ones({1, 4})}, 1)});
  const auto positions = (left_keep.cumsum(1) - 1).clamp_min(0).to(at::kLong);
  const auto at_left = model->run({.ids = left, .keep = left_keep, .positions = positions}).logits;
  EXPECT_TENSOR_NEAR(at_left[1].slice(0, 5), alone[0], 3e-5);
  const auto right = at::cat({a, at::cat({b, at::zeros({1, 5}, at::kLong)}, 1)});
  const auto at_right = model->run({.ids = right, .keep = left_keep.flip(1)}).logits;
  EXPECT_TENSOR_NEAR(at_right[1].slice(0, 0, 4), alone[0], 3e-5);
  EXPECT_TENSOR_NEAR(at_right[0], model->forward(a)[0], 3e-5);
}

TEST_P(CausalLMTest, ATokenDoesNotSeeLaterOnes) {
  auto model = small_lm(GetParam());
  auto ids = random_ids(2, 10);
  const auto before = model->forward(ids);
  ids.slice(1, 6).copy_(random_ids(2, 4));
  EXPECT_TENSOR_NEAR(model->forward(ids).slice(1, 0, 6), before.slice(1, 0, 6), 1e-5);
}

TEST_P(CausalLMTest, PackedDocumentsAreReadAsTheyAreAlone) {
  auto model = small_lm(GetParam());
  const auto a = random_ids(1, 5), b = random_ids(1, 7);
  const auto documents = at::cat({at::zeros({5}, at::kLong), at::ones({7}, at::kLong)});
  const auto positions = at::cat({at::arange(5), at::arange(7)});
  const auto packed = model->run({.ids = at::cat({a, b}, 1),
                                  .positions = positions,
                                  .mask = block_mask(documents, documents, BlockRelation::same)});
  EXPECT_TENSOR_NEAR(packed.logits.slice(1, 0, 5), model->forward(a), 3e-5);
  EXPECT_TENSOR_NEAR(packed.logits.slice(1, 5), model->forward(b), 3e-5);
}

TEST_P(CausalLMTest, TruncatedTokensLeaveNoTrace) {
  auto model = small_lm(GetParam());
  const auto ids = random_ids(1, 10), other = random_ids(1, 4);
  const auto state = model->make_state(1, 0);
  model->run({.ids = ids.slice(1, 0, 6).contiguous(), .state = state.get()});
  model->run({.ids = other, .state = state.get()});
  state->truncate(6);
  const auto end = model->run({.ids = ids.slice(1, 6).contiguous(), .state = state.get(), .last_only = true}).logits;
  EXPECT_TENSOR_NEAR(end[0][0], model->forward(ids)[0][9], 3e-5);
}

TEST_P(CausalLMTest, RowsOfAStateCanBeChosen) {
  auto model = small_lm(GetParam());
  const auto ids = random_ids(3, 7);
  const auto state = model->make_state(3, 0);
  model->run({.ids = ids.slice(1, 0, 6).contiguous(), .state = state.get()});
  const auto rows = at::tensor({2, 2, 0}, at::kLong);
  state->select(rows);
  const auto out = model->run({.ids = ids.index_select(0, rows).slice(1, 6).contiguous(), .state = state.get()});
  EXPECT_TENSOR_NEAR(out.logits.select(1, 0), model->forward(ids).index_select(0, rows).select(1, 6), 3e-5);
}

TEST_P(CausalLMTest, TheLossIsTheCrossEntropyOfTheNextTokenWhereLabelsCount) {
  auto model = small_lm(GetParam());
  const auto ids = random_ids(2, 8);
  auto labels = ids.clone();
  labels.slice(1, 0, 3).fill_(-100);
  const auto out = model->run({.ids = ids, .labels = labels});
  const auto log_p = out.logits.log_softmax(2);
  double sum = 0;
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t t = 2; t < 7; ++t) sum -= log_p[row][t][ids[row][t + 1].item<int64_t>()].item<double>();
  }
  EXPECT_NEAR(out.loss.item<double>(), sum / 10, 1e-5);
}

TEST_P(CausalLMTest, TheSeedDeterminesTheWeightsAndParametersAreCountedOnce) {
  const auto config = read_causal_lm_config(io::JsonObject(testing::small_lm_json(GetParam()), "config.json"));
  const CausalLM a(config, 3), b(config, 3), c(config, 4);
  std::set<const void*> distinct;
  const auto pa = a->parameters(), pb = b->parameters();
  for (size_t i = 0; i < pa.size(); ++i) {
    EXPECT_TENSOR_EQ(pa[i], pb[i]);
    distinct.insert(pa[i].data_ptr());
  }
  EXPECT_EQ(distinct.size(), pa.size());
  EXPECT_FALSE(at::equal(a->embed->weight, c->embed->weight));
  EXPECT_EQ(a->weight_map().names().empty(), false);
}

TEST_P(CausalLMTest, ACopyOfTheHeadIsTheEmbeddingOnlyWhereTied) {
  const bool gpt2 = GetParam() == "GPT2LMHeadModel";
  for (const bool tied : {true, false}) {
    auto model = small_lm(GetParam(), {{"tie_word_embeddings", tied}});
    EXPECT_EQ(model->head->weight.is_same(model->embed->weight), tied);
    EXPECT_EQ(model->named_parameters().contains("head.weight"), !tied);
    model->to(at::kDouble);
    EXPECT_EQ(model->head->weight.scalar_type(), at::kDouble);
    EXPECT_EQ(model->pos_embed.is_empty(), !gpt2);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CausalLMTest, ::testing::ValuesIn(causal_lm_architectures()),
                         [](const auto& info) { return info.param; });

class CausalLMCudaTest : public CausalLMTest {};

TEST_P(CausalLMCudaTest, ReadsAndDecodesAsOnTheCpu) {
  if (!testing::cuda_usable()) GTEST_SKIP() << "no CUDA here";
  auto model = small_lm(GetParam());
  const auto ids = random_ids(2, 12);
  auto keep = at::ones({2, 12}, at::kLong);
  keep[1].slice(0, 0, 4).zero_();
  const auto whole = model->run({.ids = ids, .keep = keep}).logits.detach();
  model->to(at::kCUDA);
  const auto device_ids = ids.cuda(), device_keep = keep.cuda();
  const auto kept = keep.unsqueeze(2);
  EXPECT_TENSOR_NEAR(model->run({.ids = device_ids, .keep = device_keep}).logits.cpu() * kept, whole * kept, 1e-4);
  const auto state = model->make_state(2, 12);
  model->run({.ids = device_ids.slice(1, 0, 11), .keep = device_keep.slice(1, 0, 11), .state = state.get()});
  const auto last = model->run({.ids = device_ids.slice(1, 11), .keep = device_keep, .state = state.get()}).logits;
  EXPECT_TENSOR_NEAR(last.cpu().select(1, 0), whole.select(1, 11), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Cuda, CausalLMCudaTest, ::testing::ValuesIn(causal_lm_architectures()),
                         [](const auto& info) { return info.param; });

TEST(CausalLM, ATreeOfDraftsIsReadAsEachOfItsPaths) {
  auto model = small_lm("LlamaForCausalLM");
  const auto context = random_ids(1, 6), nodes = random_ids(1, 4);
  const std::vector<int64_t> parents = {-1, 0, 0, 2};  // paths 0-1 and 0-2-3
  const auto depth = at::tensor({6, 7, 7, 8}, at::kLong);
  const auto state = model->make_state(1, 0);
  model->run({.ids = context, .state = state.get()});
  const auto out =
      model->run({.ids = nodes, .positions = depth, .mask = tree_mask(parents, /*context=*/6), .state = state.get()});
  const auto path = at::cat({context, nodes.index_select(1, at::tensor({0, 2, 3}, at::kLong))}, 1);
  EXPECT_TENSOR_NEAR(out.logits[0][3], model->forward(path)[0][8], 3e-5);
  // The accepted path stays, the other branch goes.
  state->compact(6, {6, 8, 9});
  const auto next = random_ids(1, 1);
  const auto after = model->run({.ids = next, .state = state.get()}).logits;
  EXPECT_TENSOR_NEAR(after[0][0], model->forward(at::cat({path, next}, 1))[0][9], 3e-5);
}

TEST(CausalLM, WeightsAreDrawnAsThoseOfGPT2) {
  const CausalLM model(gpt2_config({.vocab_size = 300, .context_length = 64, .dim = 64, .depth = 8, .heads = 4}), 1);
  EXPECT_NEAR(model->embed->weight.std().item<double>(), 0.02, 0.001);
  auto& block = model->blocks.ptr()->operator[](3);
  EXPECT_NEAR(block->attn->qkv->weight.std().item<double>(), 0.02, 0.001);
  EXPECT_NEAR(block->mlp->fc2->weight.std().item<double>(), 0.02 / 4, 0.0003);  // sqrt(2 * 8) = 4
  EXPECT_NEAR(block->attn->proj->weight.std().item<double>(), 0.02 / 4, 0.0003);
  EXPECT_EQ(block->mlp->fc1->bias.abs().sum().item<double>(), 0);
  // 12 D^2 + 13 D a block, the two tables and the final norm.
  EXPECT_EQ(model->parameters().size(), 8U * 12 + 4);
  int64_t count = 0;
  for (const auto& p : model->parameters()) count += p.numel();
  EXPECT_EQ(count, 8 * (12 * 64 * 64 + 13 * 64) + (300 + 64) * 64 + 2 * 64);
}

TEST(CausalLM, SmallConfigurationsHaveTheSizesThatWereAskedFor) {
  const auto llama = llama_config({.vocab_size = 77,
                                   .context_length = 33,
                                   .dim = 48,
                                   .depth = 2,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .tied = false,
                                   .rope_theta = 500});
  EXPECT_EQ(llama.layers.size(), 2U);
  EXPECT_EQ(llama.layers[1].block.attention.kv_heads, 2);
  EXPECT_EQ(llama.layers[1].block.mlp.hidden, 128);
  EXPECT_EQ(llama.rotary->theta, 500);
  EXPECT_FALSE(llama.tied);
  const auto gpt2 = gpt2_config({.dim = 32, .hidden = 40, .dropout = 0.25});
  EXPECT_EQ(gpt2.layers[0].block.mlp.hidden, 40);
  EXPECT_EQ(gpt2.layers[0].block.attention.dropout, 0.25);
  EXPECT_EQ(gpt2.learned_positions, 256);
}

TEST(CausalLM, DropoutActsInTrainingOnly) {
  CausalLM model(
      gpt2_config({.vocab_size = 30, .context_length = 16, .dim = 16, .depth = 2, .heads = 2, .dropout = 0.3}));
  const auto ids = random_ids(1, 8, 30);
  model->train();
  EXPECT_FALSE(at::equal(model->forward(ids), model->forward(ids)));
  model->eval();
  EXPECT_TENSOR_EQ(model->forward(ids), model->forward(ids));
}

TEST(CausalLM, TheAuxiliaryLossJoinsTheLossWhereItIsAskedFor) {
  auto model = small_lm("MixtralForCausalLM", {{"router_aux_loss_coef", 0.5}});
  const auto ids = random_ids(2, 6);
  const auto plain = model->run({.ids = ids, .labels = ids});
  EXPECT_FALSE(plain.aux_loss.defined());
  const auto routed = model->run({.ids = ids, .labels = ids, .router_logits = true});
  ASSERT_EQ(routed.router_logits.size(), 3U);
  EXPECT_EQ(routed.router_logits[0].sizes(), at::IntArrayRef({12, 4}));
  EXPECT_NEAR(routed.loss.item<double>(), plain.loss.item<double>() + 0.5 * routed.aux_loss.item<double>(), 1e-5);
  auto always = small_lm("MixtralForCausalLM", {{"router_aux_loss_coef", 0.5}, {"output_router_logits", true}});
  EXPECT_NEAR(always->run({.ids = ids, .labels = ids}).loss.item<double>(), routed.loss.item<double>(), 1e-5);
}

TEST(CausalLM, SaysWhatIsWrongWithItsInput) {
  auto model = small_lm("LlamaForCausalLM");
  const auto ids = random_ids(2, 6);
  EXPECT_ERROR(model->run({}), "CausalLM: ids must be a tensor, got none");
  EXPECT_ERROR(model->run({.ids = ids.to(at::kInt)}), "CausalLM: ids must");
  EXPECT_ERROR(model->run({.ids = ids[0]}), "CausalLM: ids must have 2 dimensions");
  EXPECT_ERROR(model->run({.ids = at::zeros({1, 0}, at::kLong)}), "CausalLM: ids must hold at least one token");
  EXPECT_ERROR(model->forward(at::full({1, 2}, 53, at::kLong)), "CausalLM: ids (the vocabulary) must be in [0, 53)");
  EXPECT_ERROR(model->forward(random_ids(1, 41)),
               "CausalLM: the context length must be at most 40 tokens, got 41 (0 in the state and 41 new)");
  EXPECT_ERROR(model->run({.ids = ids, .positions = at::full({6}, 40, at::kLong)}),
               "CausalLM: positions (the context length) must be in [0, 40)");
  EXPECT_ERROR(model->run({.ids = ids, .positions = at::arange(5)}), "CausalLM: positions must have shape [6]");
  EXPECT_ERROR(model->run({.ids = ids, .keep = at::ones({2, 5})}), "CausalLM: keep must have shape [2, 6]");
  EXPECT_ERROR(model->run({.ids = ids, .labels = ids.slice(1, 1)}), "CausalLM: labels must have shape [2, 6]");
  EXPECT_ERROR(model->run({.ids = ids, .labels = ids + 60}), "CausalLM: labels (other than -100) must be in [0, 53)");
  EXPECT_ERROR(model->run({.ids = ids, .labels = ids, .last_only = true}), "last_only must be false with labels");
  EXPECT_ERROR(model->run({.ids = ids, .encoder_states = at::zeros({2, 3, 24})}), "this model has no encoder");
  auto deeper = small_lm("LlamaForCausalLM", {{"num_hidden_layers", 4}});
  const auto foreign = deeper->make_state(2, 8);
  EXPECT_ERROR(model->run({.ids = ids, .state = foreign.get()}), "CausalLM: state must be one that make_state");
}

TEST(CausalLM, AContextThatIsFullSaysSoInDecodingToo) {
  auto model = small_lm("LlamaForCausalLM");
  const auto state = model->make_state(1, 0);
  model->run({.ids = random_ids(1, 39), .state = state.get()});
  model->run({.ids = random_ids(1, 1), .state = state.get()});
  EXPECT_ERROR(model->run({.ids = random_ids(1, 1), .state = state.get()}),
               "CausalLM: the context length must be at most 40 tokens, got 41 (40 in the state and 1 new)");
  EXPECT_EQ(state->length(), 40);
}

}  // namespace
}  // namespace winnow::models
