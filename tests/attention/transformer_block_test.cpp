#include "winnow/attention/transformer_block.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/nn/checkpoint.h"
#include "winnow/nn/stack.h"
#include "winnow/tensor/generator.h"

namespace winnow {
namespace {

using Names = std::vector<std::string>;

TransformerBlock make(TransformerBlockOptions options, at::ScalarType dtype = at::kDouble) {
  torch::manual_seed(3);
  TransformerBlock block(std::move(options));
  block->to(dtype);
  const at::NoGradGuard no_grad;
  for (auto& p : block->parameters()) p.normal_(0.0, 0.4);
  return block;
}

int64_t parameters_of(const TransformerBlock& block) {
  int64_t count = 0;
  for (const auto& p : block->parameters()) count += p.numel();
  return count;
}

at::Tensor layer_norm_of(const at::Tensor& x, const Norm& norm) {
  const auto centred = x - x.mean(-1, true);
  return centred / (centred.square().mean(-1, true) + norm->options.eps).sqrt() * norm->weight + norm->bias;
}

TEST(ViTBlock, HasTimmsNamesAndTheParametersOfTheTable) {
  EXPECT_EQ(parameters_of(ViTBlock(vit_block_options(768, 12))), 7087872);
  EXPECT_EQ(parameters_of(ViTBlock(vit_block_options(512, 16))), 3152384);
  auto options = vit_block_options(8, 2);
  options.layer_scale = 1e-5;
  EXPECT_EQ(ViTBlock(options)->named_parameters().keys(),
            (Names{"norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight",
                   "attn.proj.bias", "ls1.gamma", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias",
                   "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma"}));
}

TEST(TransformerBlock, PreNormAddsEachSublayerOfTheNormalisedInput) {
  auto options = vit_block_options(8, 2);
  options.layer_scale = 0.5;
  auto block = make(options);
  const auto x = at::randn({2, 5, 8}, at::kDouble);
  const auto middle = x + block->attn->forward(layer_norm_of(x, block->norm1)) * block->ls1->gamma;
  const auto wanted = middle + block->mlp->forward(layer_norm_of(middle, block->norm2)) * block->ls2->gamma;
  EXPECT_TENSOR_NEAR(block->forward(x), wanted, 1e-10);
}

TEST(TransformerBlock, PostNormNormalisesEachSum) {
  auto options = vit_block_options(8, 2);
  options.order = ResidualOrder::post_norm;
  options.eps = 1e-3;
  auto block = make(options);
  const auto x = at::randn({2, 5, 8}, at::kDouble);
  const auto middle = layer_norm_of(x + block->attn->forward(x), block->norm1);
  EXPECT_TENSOR_NEAR(block->forward(x), layer_norm_of(middle + block->mlp->forward(middle), block->norm2), 1e-10);
}

TEST(TransformerBlock, ParallelAddsBothSublayersToTheSameInput) {
  auto options = vit_block_options(8, 2);
  options.order = ResidualOrder::parallel;
  auto two = make(options);
  const auto x = at::randn({2, 5, 8}, at::kDouble);
  EXPECT_TENSOR_NEAR(
      two->forward(x),
      x + two->attn->forward(layer_norm_of(x, two->norm1)) + two->mlp->forward(layer_norm_of(x, two->norm2)), 1e-10);
  options.order = ResidualOrder::parallel_shared_norm;
  auto one = make(options);
  EXPECT_TRUE(one->norm2.is_empty());
  const auto normalized = layer_norm_of(x, one->norm1);
  EXPECT_TENSOR_NEAR(one->forward(x), x + one->attn->forward(normalized) + one->mlp->forward(normalized), 1e-10);
}

TEST(TransformerBlock, CrossAttentionStandsBetweenTheTwoSublayers) {
  auto options = vit_block_options(8, 2);
  options.cross_attention = true;
  options.cross.heads = 4;
  options.cross.context_dim = 6;
  auto block = make(options);
  const auto x = at::randn({2, 3, 8}, at::kDouble), context = at::randn({2, 5, 6}, at::kDouble);
  const BlockArgs args{.self = {.mask = causal_mask()}, .cross = {.context = context}};
  auto y = x + block->attn->forward(layer_norm_of(x, block->norm1), args.self);
  y = y + block->cross_attn->forward(layer_norm_of(y, block->norm_cross), args.cross);
  y = y + block->mlp->forward(layer_norm_of(y, block->norm2));
  EXPECT_TENSOR_NEAR(block->forward(x, args), y, 1e-10);
}

TEST(TransformerBlock, TheFusedFloat32PathAgreesWithFloat64InValueAndGradient) {
  for (const auto order : {ResidualOrder::pre_norm, ResidualOrder::post_norm, ResidualOrder::parallel}) {
    auto options = vit_block_options(16, 4);
    options.order = order;
    auto exact = make(options);
    TransformerBlock block(std::dynamic_pointer_cast<TransformerBlockImpl>(exact->clone()));
    block->to(at::kFloat);
    exact->to(at::kFloat);
    exact->to(at::kDouble);  // the same rounded weights
    const auto x = at::randn({2, 7, 16}), cotangent = at::randn({2, 7, 16});
    const auto got = block->forward(x), wanted = exact->forward(x.to(at::kDouble));
    EXPECT_TENSOR_CLOSE(got.to(at::kDouble), wanted, 1e-5, 2e-5);
    (got * cotangent).sum().backward();
    (wanted * cotangent.to(at::kDouble)).sum().backward();
    for (const auto& p : exact->named_parameters()) {
      EXPECT_TENSOR_CLOSE(block->named_parameters()[p.key()].grad().to(at::kDouble), p.value().grad(), 1e-4, 2e-4)
          << p.key();
    }
  }
}

TEST(TransformerBlock, DropPathDropsBothBranchesOfASampleIndependentlyAndNotInEvaluation) {
  auto options = vit_block_options(8, 2);
  options.drop_path = 0.5;
  options.seed = 1;
  auto block = make(options);
  const auto x = at::randn({200, 2, 8}, at::kDouble);
  const at::NoGradGuard no_grad;
  const auto y = block->forward(x);
  // With both branches dropped, a quarter of the samples, the block is the identity.
  const auto unchanged = (y == x).flatten(1).all(1).to(at::kDouble).sum().item<double>();
  EXPECT_NEAR(unchanged, 50.0, 5 * std::sqrt(200 * 0.25 * 0.75));
  EXPECT_NE(block->drop_path1->options.seed, block->drop_path2->options.seed);
  block->eval();
  TransformerBlock plain = make(vit_block_options(8, 2));
  EXPECT_TENSOR_EQ(block->forward(x), plain->forward(x));
}

TEST(TransformerBlock, HooksSeeEverySublayerAlsoWhereTheirModulesAreFused) {
  auto block = make(vit_block_options(8, 2), at::kFloat);
  const auto x = at::randn({1, 3, 8});
  const auto before = block->forward(x);
  Names seen;
  ForwardHooks hooks(*block);
  for (const auto& name : hooks.names())
    hooks.observe(name, [&seen, name](const at::Tensor&) { seen.push_back(name); });
  EXPECT_TENSOR_NEAR(block->forward(x), before, 1e-5);
  EXPECT_EQ(seen, (Names{"norm1", "attn.qkv", "attn.proj", "attn", "norm2", "mlp.fc1", "mlp.fc2", "mlp", ""}));
}

TEST(TransformerBlock, ADecoderOfRmsNormAndSwiGluDecodesWithACacheLikeOneFullForward) {
  const at::NoGradGuard no_grad;
  TransformerBlockOptions options;
  options.dim = 12;
  options.norm = NormKind::rms;
  options.attention = {.heads = 6, .kv_heads = 2, .qkv_bias = QkvBias::none, .out_bias = false};
  options.mlp = {.hidden = 20, .kind = MlpKind::gated, .activation = Activation::silu, .bias = false};
  Stack<TransformerBlock> stack(3, [&](int64_t) { return TransformerBlock(options); });
  stack->to(at::kDouble);
  RotaryOptions rotary;
  rotary.dim = 2;
  const auto x = at::randn({2, 6, 12}, at::kDouble);
  const auto args = [&](int64_t from, int64_t to, KvCache* cache) {
    BlockArgs block_args;
    block_args.self.mask = causal_mask();
    block_args.self.rotary = rotary_table(rotary, at::arange(from, to), at::kDouble);
    block_args.self.cache = cache;
    return block_args;
  };
  const auto full = stack->forward(x, args(0, 6, nullptr));
  KvCache cache(3, 6);
  std::vector<at::Tensor> parts = {stack->forward(x.slice(1, 0, 2), args(0, 2, &cache))};
  for (int64_t i = 2; i < 6; ++i) parts.push_back(stack->forward(x.slice(1, i, i + 1), args(i, i + 1, &cache)));
  EXPECT_TENSOR_NEAR(at::cat(parts, 1), full, 1e-10);
  for (int64_t layer = 0; layer < 3; ++layer) EXPECT_EQ(cache.length(layer), 6);
}

TEST(TransformerBlock, CheckpointingAStackChangesNoGradient) {
  auto options = vit_block_options(8, 2);
  options.drop_path = 0.3;
  Stack<TransformerBlock> stack(2, [&](int64_t i) {
    options.seed = static_cast<uint64_t>(i);
    return TransformerBlock(options);
  });
  const auto x = at::randn({6, 3, 8});
  auto generator = make_generator(1);
  set_drop_generator(*stack, generator);
  const auto gradients = [&](bool saving) {
    generator.set_current_seed(5);
    stack->zero_grad();
    auto y = x;
    for (auto& block : *stack) {
      y = saving ? checkpoint([&](const at::Tensor& z) { return block->forward(z); }, y, {generator})
                 : block->forward(y);
    }
    y.square().sum().backward();
    std::vector<at::Tensor> all;
    for (const auto& p : stack->parameters()) all.push_back(p.grad().clone());
    return all;
  };
  const auto plain = gradients(false), saved = gradients(true);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TENSOR_EQ(saved[i], plain[i]);
}

TEST(TransformerBlock, EmptyInputCloneAndOptionsAsText) {
  auto options = vit_block_options(8, 2);
  options.layer_scale = 0.1;
  auto block = make(options, at::kFloat);
  EXPECT_EQ(block->forward(at::empty({0, 3, 8})).sizes(), (std::vector<int64_t>{0, 3, 8}));
  TransformerBlock copy(std::dynamic_pointer_cast<TransformerBlockImpl>(block->clone()));
  const auto x = at::randn({1, 3, 8});
  EXPECT_TENSOR_EQ(copy->forward(x), block->forward(x));
  EXPECT_NE(to_yaml(options).find("activation: gelu"), std::string::npos);
}

// 3 x + the sum of a parameter.
struct Tripling : FeedForward {
  Tripling() { shift = register_parameter("shift", at::ones({2})); }
  at::Tensor apply(const at::Tensor& x) override { return 3 * x + shift.sum(); }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>&) const override {
    auto copy = std::make_shared<Tripling>();
    copy->shift.set_data(shift.detach().clone());
    return copy;
  }
  at::Tensor shift;
};

TEST(TransformerBlock, AnotherModuleTakesThePlaceOfTheMlpInEveryOrder) {
  for (const auto& [name, order] : enum_names(ResidualOrder{})) {
    auto options = vit_block_options(8, 2);
    options.order = order;
    options.custom_mlp = true;
    auto block = make(options, at::kFloat);
    const auto x = at::randn({2, 3, 8});
    EXPECT_ERROR(block->forward(x), "TransformerBlock: custom_mlp must be given a module by set_feed_forward");
    block->set_feed_forward(std::make_shared<Tripling>());
    EXPECT_TRUE(block->named_parameters().contains("mlp.shift")) << name;
    const auto n = [&](Norm& norm, const at::Tensor& y) { return norm->forward(y); };
    at::Tensor wanted;
    if (order == ResidualOrder::post_norm) {
      const auto y = n(block->norm1, x + block->attn->forward(x));
      wanted = n(block->norm2, y + 3 * y + 2);
    } else if (order == ResidualOrder::pre_norm) {
      const auto y = x + block->attn->forward(n(block->norm1, x));
      wanted = y + 3 * n(block->norm2, y) + 2;
    } else {
      const auto y = n(block->norm1, x);
      wanted = x + block->attn->forward(y) + 3 * (order == ResidualOrder::parallel ? n(block->norm2, x) : y) + 2;
    }
    EXPECT_TENSOR_NEAR(block->forward(x), wanted, 1e-5) << name;
    TransformerBlock copy(std::dynamic_pointer_cast<TransformerBlockImpl>(block->clone()));
    const auto before = copy->forward(x);
    EXPECT_TENSOR_EQ(before, block->forward(x));
    {
      const at::NoGradGuard no_grad;
      block->named_parameters()["mlp.shift"].zero_();
    }
    EXPECT_TENSOR_EQ(copy->forward(x), before);
  }
  EXPECT_ERROR(make(vit_block_options(8, 2), at::kFloat)->set_feed_forward(std::make_shared<Tripling>()),
               "TransformerBlock: set_feed_forward must only be called with custom_mlp");
}

TEST(TransformerBlock, SaysWhatIsWrong) {
  auto options = vit_block_options(8, 2);
  auto block = make(options, at::kFloat);
  EXPECT_ERROR(block->forward(at::randn({2, 8})), "TransformerBlock: x must have shape [*, *, 8], got [2, 8]");
  EXPECT_ERROR(block->forward(at::randn({1, 2, 8}), {.cross = {.context = at::randn({1, 2, 8})}}),
               "TransformerBlock: cross.context must be undefined without cross_attention");
  options.attention.dim = 6;
  EXPECT_ERROR(make(options), "TransformerBlock: attention.dim must be 0 or dim = 8, got 6");
  options = vit_block_options(8, 2);
  options.mlp.out = 4;
  EXPECT_ERROR(make(options), "TransformerBlock: mlp.out must be 0 or dim = 8, got 4");
  options = vit_block_options(8, 2);
  options.attention.cross = true;
  EXPECT_ERROR(make(options), "TransformerBlock: attention.cross must be false; use cross_attention");
  options = vit_block_options(8, 2);
  options.order = ResidualOrder::parallel;
  options.cross_attention = true;
  EXPECT_ERROR(make(options), "TransformerBlock: cross_attention must be false with order parallel");
  EXPECT_ERROR(make(vit_block_options(0, 2)), "TransformerBlock: dim must be >= 1, got 0");
  EXPECT_ERROR(make(vit_block_options(8, 3)), "MultiHeadAttention: heads must divide dim = 8, got 3");
  options = vit_block_options(8, 2);
  options.drop_path = 1.0;
  EXPECT_ERROR(make(options), "TransformerBlock: drop_path must be in [0, 1), got 1");
}

TEST(TransformerBlock, OnlyTheWantedTokensComeOutAndTheyAreTheSame) {
  auto generator = make_generator(5);
  const auto x = at::randn({2, 7, 12}, generator).requires_grad_();
  const auto ids = at::tensor({6, 0, 3, 2, 2, 5}, at::kLong).view({2, 3});
  for (const auto order : {ResidualOrder::pre_norm, ResidualOrder::post_norm, ResidualOrder::parallel,
                           ResidualOrder::parallel_shared_norm}) {
    SCOPED_TRACE(enum_name(order));
    TransformerBlockOptions options{.dim = 12, .order = order};
    options.attention.heads = 3;
    TransformerBlock block(options);
    BlockArgs args;
    args.self.mask = causal_mask();
    const auto all = block->forward(x, args).gather(1, ids.unsqueeze(2).expand({2, 3, 12}));
    args.self.outputs = ids;
    const auto some = block->forward(x, args);
    EXPECT_TENSOR_NEAR(some, all, 1e-5);
    const auto cotangent = at::randn(all.sizes(), generator);
    EXPECT_TENSOR_NEAR(torch::autograd::grad({some}, {x}, {cotangent})[0],
                       torch::autograd::grad({all}, {x}, {cotangent})[0], 1e-4);
  }
}

}  // namespace
}  // namespace winnow
