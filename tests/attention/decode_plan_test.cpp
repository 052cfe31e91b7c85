// A plan beside the modules that it was compiled from.
#include "winnow/attention/decode_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

constexpr int64_t kDim = 24, kVocabulary = 19, kLayers = 3;

// The modules, run as a model runs them.
at::Tensor by_modules(DecodeStack& stack, const at::Tensor& ids, const at::Tensor& positions, KvCache& cache) {
  const at::NoGradGuard no_grad;
  auto x = stack.embedding.index_select(0, ids).to(at::kFloat).unsqueeze(0);
  if (stack.positions.defined()) x = x + stack.positions.index_select(0, positions).to(at::kFloat);
  BlockArgs args;
  if (stack.rotary) args.self.rotary = rotary_table(*stack.rotary, positions);
  args.self.cache = &cache;
  for (size_t i = 0; i < stack.blocks.size(); ++i) {
    args.self.layer = static_cast<int64_t>(i);
    args.self.mask = causal_mask();
    if (!stack.windows.empty() && stack.windows[i] > 0) args.self.mask = causal_mask() & window_mask(stack.windows[i]);
    x = stack.blocks[i]->forward(x, args);
  }
  return stack.head->forward(stack.norm->forward(x)).squeeze(0);
}

at::Tensor by_plan(DecodePlan& plan, const at::Tensor& ids, KvCache& cache, bool last_only = false) {
  auto logits = at::empty({last_only ? 1 : ids.size(0), kVocabulary});
  plan.run(ids.const_data_ptr<int64_t>(), nullptr, ids.size(0), cache, last_only, logits.mutable_data_ptr<float>());
  return logits;
}

// Every parameter away from its first value, so that no bias and no norm weight goes unseen.
void disturb(torch::nn::Module& module, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (auto& p : module.parameters()) p.add_(at::randn(p.sizes(), make_generator(seed++)) * 0.2);
}

DecodeStack make_stack(TransformerBlockOptions block, bool rotary = true, RotaryOptions rope = {.dim = 8}) {
  block.dim = kDim;
  if (block.attention.heads == 1) block.attention.heads = 3;
  DecodeStack stack;
  stack.embedding = at::randn({kVocabulary, kDim}, make_generator(1));
  if (rotary) {
    stack.rotary = rope;
  } else {
    stack.positions = at::randn({60, kDim}, make_generator(2));
  }
  for (int64_t i = 0; i < kLayers; ++i) stack.blocks.push_back(TransformerBlock(block));
  stack.norm = Norm(NormOptions{.dim = kDim, .kind = block.norm});
  stack.head = Linear(kDim, kVocabulary, false);
  for (size_t i = 0; i < stack.blocks.size(); ++i) disturb(*stack.blocks[i], 100 * (i + 1));
  disturb(*stack.norm, 50);
  disturb(*stack.head, 60);
  return stack;
}

at::Tensor some_ids(int64_t count) {
  return at::randint(kVocabulary, {count}, make_generator(9), at::kLong);
}

// A prompt by the modules, then tokens by both in runs of several lengths.
void expect_same_logits(DecodeStack stack, double tolerance = 2e-5) {
  ASSERT_EQ(DecodePlan::obstacle(stack), "");
  DecodePlan plan(stack);
  const auto ids = some_ids(50);
  KvCache modules(kLayers), planned(kLayers, 8);
  const auto prompt = ids.narrow(0, 0, 20), prompt_positions = at::arange(20);
  by_modules(stack, prompt, prompt_positions, modules);
  by_modules(stack, prompt, prompt_positions, planned);
  int64_t done = 20;
  for (const int64_t n : {1, 1, 3, 16, 1, 8}) {
    const auto part = ids.narrow(0, done, n).contiguous();
    EXPECT_TENSOR_NEAR(by_plan(plan, part, planned), by_modules(stack, part, at::arange(done, done + n), modules),
                       tolerance);
    done += n;
    EXPECT_EQ(planned.length(kLayers - 1), done);
  }
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_TENSOR_NEAR(planned.get(layer).keys, modules.get(layer).keys, tolerance);
    EXPECT_TENSOR_NEAR(planned.get(layer).values, modules.get(layer).values, tolerance);
  }
}

TransformerBlockOptions llama_like() {
  return {.norm = NormKind::rms,
          .attention = {.heads = 3, .kv_heads = 1, .qkv_bias = QkvBias::none, .out_bias = false},
          .mlp = {.hidden = 40, .kind = MlpKind::gated, .activation = Activation::silu, .bias = false}};
}

TEST(DecodePlan, EveryOrderOfNormsAndBranchesGivesTheModulesLogits) {
  for (const auto order : {ResidualOrder::pre_norm, ResidualOrder::parallel, ResidualOrder::parallel_shared_norm}) {
    for (const auto norm : {NormKind::layer, NormKind::rms}) {
      SCOPED_TRACE(std::string(enum_name(order)) + " " + std::string(enum_name(norm)));
      expect_same_logits(make_stack({.order = order, .norm = norm}));
      expect_same_logits(make_stack({.order = order, .norm = norm}, /*rotary=*/false));
    }
  }
}

TEST(DecodePlan, GroupedHeadsBiasesAndNormsOfQueriesAndKeysGiveTheModulesLogits) {
  expect_same_logits(make_stack(llama_like()));
  for (const auto bias : {QkvBias::all, QkvBias::query_value, QkvBias::none}) {
    for (const auto qk_norm : {QkNorm::none, QkNorm::per_head, QkNorm::whole_projection}) {
      auto options = llama_like();
      options.attention.qkv_bias = bias;
      options.attention.qk_norm = qk_norm;
      options.attention.head_dim = 12;
      SCOPED_TRACE(std::string(enum_name(bias)) + " " + std::string(enum_name(qk_norm)));
      expect_same_logits(make_stack(options));
      options.attention.kv_heads = 3;
      options.attention.clip_qkv = 0.7;
      options.attention.scale = 0.4;
      expect_same_logits(make_stack(options));
    }
  }
}

TEST(DecodePlan, EveryActivationPlainAndGatedGivesTheModulesLogits) {
  for (const auto activation :
       {Activation::gelu, Activation::gelu_new, Activation::quick_gelu, Activation::relu, Activation::silu}) {
    for (const auto kind : {MlpKind::plain, MlpKind::gated}) {
      SCOPED_TRACE(std::string(enum_name(activation)) + " " + std::string(enum_name(kind)));
      expect_same_logits(make_stack({.mlp = {.hidden = 31, .kind = kind, .activation = activation}}));
    }
  }
}

TEST(DecodePlan, EveryRotaryLayoutAndScalingGivesTheModulesLogits) {
  for (const auto layout : {RotaryLayout::halves, RotaryLayout::interleaved}) {
    for (const auto scaling :
         {RotaryScaling::none, RotaryScaling::linear, RotaryScaling::llama3, RotaryScaling::yarn}) {
      for (const int64_t dim : {2, 6, 8}) {
        SCOPED_TRACE(std::string(enum_name(layout)) + " " + std::string(enum_name(scaling)) + " " +
                     std::to_string(dim));
        expect_same_logits(make_stack(
            {}, true, {.dim = dim, .layout = layout, .scaling = scaling, .factor = 4.0, .original_max_positions = 16}));
      }
    }
  }
}

TEST(DecodePlan, WindowsOfSomeLayersGiveTheModulesLogits) {
  auto stack = make_stack(llama_like());
  stack.windows = {5, 0, 17};
  expect_same_logits(stack);
}

TEST(DecodePlan, HalfPrecisionWeightsAreReadInPlace) {
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    auto stack = make_stack({});
    stack.embedding = stack.embedding.to(dtype);
    const auto narrow = [&](Linear& linear) { linear->set_weight(linear->weight.detach().to(dtype)); };
    for (auto& block : stack.blocks) {
      for (auto* linear : {&block->attn->qkv, &block->attn->proj, &block->mlp->fc1, &block->mlp->fc2}) narrow(*linear);
      block->mlp->fc1->bias.set_data(block->mlp->fc1->bias.detach().to(dtype));
    }
    narrow(stack.head);
    expect_same_logits(stack);
  }
}

TEST(DecodePlan, ATokenIsTheSameToTheBitAloneAndInARun) {
  for (const auto& options : {llama_like(), TransformerBlockOptions{.order = ResidualOrder::parallel}}) {
    auto stack = make_stack(options);
    DecodePlan plan(stack);
    const auto ids = some_ids(48);
    KvCache alone(kLayers), together(kLayers), mixed(kLayers);
    std::vector<at::Tensor> one, many, some;
    for (int64_t i = 0; i < 48; ++i) one.push_back(by_plan(plan, ids.narrow(0, i, 1).contiguous(), alone));
    for (int64_t i = 0; i < 48; i += 16) many.push_back(by_plan(plan, ids.narrow(0, i, 16).contiguous(), together));
    for (int64_t i = 0, n = 1; i < 48; i += n, n = std::min<int64_t>(n % 7 + 1, 48 - i)) {
      some.push_back(by_plan(plan, ids.narrow(0, i, n).contiguous(), mixed));
    }
    EXPECT_TENSOR_EQ(at::cat(many), at::cat(one));
    EXPECT_TENSOR_EQ(at::cat(some), at::cat(one));
    EXPECT_TENSOR_EQ(together.get(2).keys, alone.get(2).keys);
  }
}

TEST(DecodePlan, LastOnlyGivesTheLastRowAndRejectedTokensLeaveNoTrace) {
  auto stack = make_stack(llama_like());
  DecodePlan plan(stack);
  const auto ids = some_ids(12);
  KvCache cache(kLayers);
  const auto all = by_plan(plan, ids, cache);
  cache.truncate(5);
  EXPECT_TENSOR_EQ(by_plan(plan, ids.narrow(0, 5, 7).contiguous(), cache, /*last_only=*/true), all.narrow(0, 11, 1));
}

TEST(DecodePlan, PositionsMayBeGiven) {
  for (const bool rotary : {true, false}) {
    auto stack = make_stack({}, rotary);
    DecodePlan plan(stack);
    KvCache planned(kLayers), modules(kLayers);
    const auto ids = some_ids(6), positions = at::tensor({7, 3, 3, 40, 0, 12}, at::kLong);
    auto logits = at::empty({6, kVocabulary});
    plan.run(ids.const_data_ptr<int64_t>(), positions.const_data_ptr<int64_t>(), 6, planned, false,
             logits.mutable_data_ptr<float>());
    EXPECT_TENSOR_NEAR(logits, by_modules(stack, ids, positions, modules), 2e-5);
  }
}

TEST(DecodePlan, DispatchesNoOperator) {
  for (const bool gated : {false, true}) {
    auto stack = make_stack(gated ? llama_like() : TransformerBlockOptions{});
    DecodePlan plan(stack);
    KvCache cache(kLayers, 64);
    const auto ids = some_ids(20);
    auto logits = at::empty({4, kVocabulary});
    const auto* id = ids.const_data_ptr<int64_t>();
    plan.run(id, nullptr, 1, cache, false, logits.mutable_data_ptr<float>());
    const OpCounter counter;
    for (int64_t i = 1; i < 20; i += 4) plan.run(id, nullptr, 4, cache, false, logits.mutable_data_ptr<float>());
    EXPECT_EQ(counter.counts().dispatches, 0);
  }
}

// Doubles its input.
struct Doubling : FeedForward {
  at::Tensor apply(const at::Tensor& x) override { return 2 * x; }
};

// Keeps a weight in float64.
struct WideStorage : LinearStorage {
  explicit WideStorage(const at::Tensor& w) : weight(w.to(at::kDouble)) {}
  int64_t in() const override { return weight.size(1); }
  int64_t out() const override { return weight.size(0); }
  int64_t bytes() const override { return static_cast<int64_t>(weight.nbytes()); }
  bool trainable() const override { return false; }
  at::Tensor matmul(const at::Tensor& x) override { return at::linear(x.to(at::kDouble), weight).to(x.scalar_type()); }
  at::Tensor dense() const override { return weight.to(at::kFloat); }
  std::vector<std::pair<std::string, at::Tensor>> tensors() const override { return {{"weight", weight}}; }
  at::Tensor weight;
};

TEST(DecodePlan, ForeignFeedForwardModulesAndStoragesTakePart) {
  auto options = llama_like();
  options.custom_mlp = true;
  options.attention.qkv_bias = QkvBias::all;
  auto stack = make_stack(options);
  for (auto& block : stack.blocks) {
    block->set_feed_forward(std::make_shared<Doubling>());
    auto& qkv = block->attn->qkv;
    qkv->set_storage(std::make_shared<WideStorage>(qkv->weight.detach()));
  }
  expect_same_logits(stack);
}

TEST(DecodePlan, SeesAnOptimizersStepAndTellsReplacedTensors) {
  const at::NoGradGuard no_grad;
  auto stack = make_stack({.attention = {.heads = 3, .qkv_bias = QkvBias::query_value}});
  DecodePlan plan(stack);
  const auto ids = some_ids(3);
  for (auto& block : stack.blocks) {
    block->mlp->fc1->weight.mul_(1.5);
    block->norm1->weight.add_(0.3);
  }
  EXPECT_TRUE(plan.current());
  KvCache planned(kLayers), modules(kLayers);
  EXPECT_TENSOR_NEAR(by_plan(plan, ids, planned), by_modules(stack, ids, at::arange(3), modules), 2e-5);

  auto& linear = stack.blocks[1]->mlp->fc2;
  const auto weight = linear->weight.detach().clone();
  linear->set_weight(weight.clone());
  EXPECT_FALSE(plan.current());
  DecodePlan second(stack);
  EXPECT_TRUE(second.current());
  linear->set_storage(std::make_shared<WideStorage>(weight));
  EXPECT_FALSE(second.current());
  DecodePlan third(stack);
  EXPECT_TRUE(third.current());
  stack.blocks[0]->attn->q_bias.add_(1.0);  // the plan has joined it with the other bias
  EXPECT_FALSE(third.current());
}

TEST(DecodePlan, CountsTheBytesOfItsWeights) {
  auto stack = make_stack(llama_like());
  const int64_t block = kDim * kDim + 2 * kDim * 8 + kDim * kDim + 3 * kDim * 40;
  EXPECT_EQ(DecodePlan(stack).weight_bytes(), 4 * (kLayers * block + kVocabulary * kDim + kDim));
}

TEST(DecodePlan, SaysWhatItCannotDo) {
  EXPECT_ERROR_KIND(DecodePlan(make_stack({.order = ResidualOrder::post_norm})), ErrorKind::unsupported,
                    "DecodePlan: blocks.0: order post_norm is not supported");
  EXPECT_EQ(DecodePlan::obstacle(make_stack({.layer_scale = 0.1})), "blocks.0: LayerScale");
  EXPECT_EQ(DecodePlan::obstacle({}), "embedding, norm or head missing");
  auto stack = make_stack({});
  stack.blocks[2]->to(at::kDouble);
  EXPECT_EQ(DecodePlan::obstacle(stack), "blocks.2.norm1: dtype Double");
  auto windows = make_stack({});
  windows.windows = {3};
  EXPECT_EQ(DecodePlan::obstacle(windows), "windows: not one for each block");
}

TEST(DecodePlan, SaysWhatDoesNotFitAndLeavesTheCacheAsItWas) {
  auto stack = make_stack({}, /*rotary=*/false);
  DecodePlan plan(stack);
  KvCache cache(kLayers), short_cache(kLayers - 1), wide(kLayers);
  by_plan(plan, some_ids(4), cache);
  EXPECT_ERROR(by_plan(plan, some_ids(17), cache), "DecodePlan: n must be in [1, 16], got 17");
  EXPECT_ERROR(by_plan(plan, at::tensor({2, 19}, at::kLong), cache), "DecodePlan: ids must be in [0, 19), got 19");
  EXPECT_ERROR(by_plan(plan, some_ids(2), short_cache), "DecodePlan: cache must have 3 layers, got 2");
  wide.append(1, at::ones({2, 3, 1, 8}), at::ones({2, 3, 1, 8}));
  EXPECT_ERROR(by_plan(plan, some_ids(2), wide), "KvCache::reserve: the layer must hold float32 [1, 3, *, 8]");
  EXPECT_EQ(wide.length(0), 0);
  for (int64_t i = 0; i < 3; ++i) by_plan(plan, some_ids(16), cache);
  EXPECT_ERROR(by_plan(plan, some_ids(16), cache), "DecodePlan: positions must be in [0, 60), got 60");
  EXPECT_EQ(cache.length(), 52);
}

}  // namespace
}  // namespace winnow
