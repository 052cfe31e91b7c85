#include "winnow/attention/multi_head_attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

using Names = std::vector<std::string>;

MultiHeadAttention make(AttentionOptions options, at::ScalarType dtype = at::kDouble) {
  torch::manual_seed(5);
  MultiHeadAttention attention(std::move(options));
  attention->to(dtype);
  const at::NoGradGuard no_grad;
  for (auto& p : attention->parameters()) p.normal_(0.0, 0.5);
  return attention;
}

AttentionOptions plain(int64_t dim, int64_t heads, int64_t kv_heads = 0) {
  AttentionOptions options;
  options.dim = dim;
  options.heads = heads;
  options.kv_heads = kv_heads;
  return options;
}

// softmax(scale q k^T) v of one head by sums, [Lq, d]; rows without a key are zero.
at::Tensor one_head(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                    const at::Tensor& allowed, const at::Tensor& bias) {
  auto out = at::zeros({q.size(0), v.size(1)}, at::kDouble);
  for (int64_t i = 0; i < q.size(0); ++i) {
    double total = 0;
    auto sum = at::zeros({v.size(1)}, at::kDouble);
    for (int64_t j = 0; j < k.size(0); ++j) {
      if (allowed.defined() && !allowed[i][j].item<bool>()) continue;
      const double extra = bias.defined() ? bias[i][j].item<double>() : 0.0;
      const double weight = std::exp(scale * (q[i] * k[j]).sum().item<double>() + extra);
      total += weight;
      sum = sum + weight * v[j];
    }
    if (total > 0) out[i] = sum / total;
  }
  return out;
}

// The whole self-attention head by head; allowed [B, Lq, Lk] or undefined, bias [H, Lq, Lk] or undefined.
at::Tensor by_loops(MultiHeadAttention& m, const at::Tensor& x, const at::Tensor& allowed = {},
                    const at::Tensor& bias = {}) {
  const auto& o = m->options;
  const auto d = o.head_dim, width = o.heads * d, kv = o.kv_heads * d;
  auto flat = at::matmul(x, m->qkv->weight.t());
  if (m->qkv->bias.defined()) flat = flat + m->qkv->bias;
  std::vector<at::Tensor> rows;
  for (int64_t b = 0; b < x.size(0); ++b) {
    std::vector<at::Tensor> heads;
    for (int64_t h = 0; h < o.heads; ++h) {
      const auto g = h / (o.heads / o.kv_heads);
      heads.push_back(one_head(flat[b].narrow(1, h * d, d), flat[b].narrow(1, width + g * d, d),
                               flat[b].narrow(1, width + kv + g * d, d), *o.scale,
                               allowed.defined() ? allowed[b] : allowed, bias.defined() ? bias[h] : bias));
    }
    rows.push_back(at::cat(heads, 1));
  }
  auto y = at::matmul(at::stack(rows), m->proj->weight.t());
  return m->proj->bias.defined() ? y + m->proj->bias : y;
}

// A weight that is kept as its negative.
struct NegatedStorage : LinearStorage {
  explicit NegatedStorage(const at::Tensor& weight) { negated = register_buffer("negated", -weight.detach()); }
  int64_t in() const override { return negated.size(1); }
  int64_t out() const override { return negated.size(0); }
  int64_t bytes() const override { return static_cast<int64_t>(negated.nbytes()); }
  bool trainable() const override { return false; }
  at::Tensor matmul(const at::Tensor& x) override { return -at::matmul(x, negated.t()); }
  at::Tensor dense() const override { return -negated; }
  std::vector<std::pair<std::string, at::Tensor>> tensors() const override { return {{"weight", -negated}}; }
  at::Tensor negated;
};

TEST(MultiHeadAttention, RunsOnLinearLayersWhoseWeightIsKeptInAnotherWay) {
  for (const bool cross : {false, true}) {
    for (const auto bias : {QkvBias::all, QkvBias::query_value, QkvBias::none}) {
      MultiHeadAttention attention(
          AttentionOptions{.dim = 8, .heads = 2, .kv_heads = 1, .cross = cross, .qkv_bias = bias});
      {
        const at::NoGradGuard no_grad;
        for (auto& p : attention->parameters()) p.normal_();
      }
      const auto x = at::randn({2, 5, 8});
      const AttentionArgs args{.context = cross ? at::randn({2, 3, 8}) : at::Tensor()};
      const auto wanted = attention->forward(x, args);
      for (auto* linear : {&attention->qkv, &attention->q, &attention->kv, &attention->proj}) {
        if (*linear) (*linear)->set_storage(std::make_shared<NegatedStorage>((*linear)->weight));
      }
      EXPECT_TENSOR_NEAR(attention->forward(x, args), wanted, 2e-5);
    }
  }
}

TEST(MultiHeadAttention, IsScaledDotProductAttentionHeadByHead) {
  const at::NoGradGuard no_grad;
  struct Size {
    int64_t dim, heads, kv_heads, head_dim, length;
  };
  for (const auto& s : std::vector<Size>{
           {6, 1, 0, 0, 5}, {8, 4, 0, 0, 3}, {12, 6, 2, 0, 4}, {12, 3, 1, 7, 4}, {6, 3, 3, 0, 1}, {10, 5, 1, 3, 2}}) {
    auto options = plain(s.dim, s.heads, s.kv_heads);
    options.head_dim = s.head_dim;
    auto attention = make(options);
    const auto x = at::randn({2, s.length, s.dim}, at::kDouble);
    EXPECT_TENSOR_NEAR(attention->forward(x), by_loops(attention, x), 1e-10);
  }
}

TEST(MultiHeadAttention, EveryMaskIsObeyedAndARowWithoutKeysIsZeroBeforeTheProjection) {
  const at::NoGradGuard no_grad;
  auto attention = make(plain(8, 2));
  const auto x = at::randn({2, 5, 8}, at::kDouble);
  auto allowed = at::rand({2, 5, 5}) < 0.5;
  allowed[1][3].fill_(false);
  const auto wanted = by_loops(attention, x, allowed);
  EXPECT_TENSOR_NEAR(wanted[1][3], attention->proj->bias, 1e-12);
  EXPECT_TENSOR_NEAR(attention->forward(x, {.mask = dense_mask(allowed)}), wanted, 1e-10);
  for (const auto& mask :
       {causal_mask(), window_mask(2), causal_mask() & window_mask(3), tree_mask({-1, 0, 0, 1, 3}, 0)}) {
    const auto rule = materialize_mask(mask, 5, 5, at::kCPU);
    EXPECT_TENSOR_NEAR(attention->forward(x, {.mask = mask}),
                       by_loops(attention, x, rule.reshape({5, 5}).expand({2, 5, 5})), 1e-10);
  }
}

TEST(MultiHeadAttention, BiasIsAddedToTheScoresAlsoUnderAMaskAndGetsItsGradient) {
  auto attention = make(plain(8, 2));
  const auto x = at::randn({1, 4, 8}, at::kDouble);
  auto bias = at::randn({1, 2, 4, 4}, at::kDouble).requires_grad_();
  const auto causal = materialize_mask(causal_mask(), 4, 4, at::kCPU);
  EXPECT_TENSOR_NEAR(attention->forward(x, {.bias = bias}), by_loops(attention, x, {}, bias[0]), 1e-10);
  const auto out = attention->forward(x, {.mask = causal_mask(), .bias = bias});
  EXPECT_TENSOR_NEAR(out, by_loops(attention, x, causal.unsqueeze(0), bias[0]), 1e-10);
  out.sum().backward();
  EXPECT_TENSOR_EQ(bias.grad()[0][0].triu(1), at::zeros({4, 4}, at::kDouble));
  EXPECT_GT(bias.grad().abs().sum().item<double>(), 0.0);
}

TEST(MultiHeadAttention, IsPermutationEquivariant) {
  auto attention = make(plain(12, 3), at::kFloat);
  const auto x = at::randn({2, 7, 12});
  const auto order = at::tensor({3, 0, 6, 1, 5, 2, 4}, at::kLong);
  EXPECT_TENSOR_NEAR(attention->forward(x.index_select(1, order)), attention->forward(x).index_select(1, order), 1e-5);
}

TEST(MultiHeadAttention, CausalMeansThatLaterTokensDoNotMatter) {
  auto attention = make(plain(8, 2), at::kFloat);
  auto x = at::randn({1, 6, 8});
  const auto before = attention->forward(x, {.mask = causal_mask()});
  x.slice(1, 4).normal_();
  const auto after = attention->forward(x, {.mask = causal_mask()});
  EXPECT_TENSOR_NEAR(after.slice(1, 0, 4), before.slice(1, 0, 4), 1e-6);
  EXPECT_FALSE(at::allclose(after.slice(1, 4), before.slice(1, 4)));
}

TEST(MultiHeadAttention, BiasesOfQueriesAndValuesAloneEqualAFusedBiasWithZeroKeys) {
  auto options = plain(8, 4, 2);
  options.qkv_bias = QkvBias::query_value;
  auto attention = make(options);
  EXPECT_EQ(attention->named_parameters().keys(),
            (Names{"q_bias", "v_bias", "qkv.weight", "proj.weight", "proj.bias"}));
  auto fused = make(plain(8, 4, 2));
  {
    const at::NoGradGuard no_grad;
    fused->qkv->weight.copy_(attention->qkv->weight);
    fused->qkv->bias.copy_(at::cat({attention->q_bias, at::zeros({4}, at::kDouble), attention->v_bias}));
    fused->proj->weight.copy_(attention->proj->weight);
    fused->proj->bias.copy_(attention->proj->bias);
  }
  const auto x = at::randn({2, 3, 8}, at::kDouble);
  EXPECT_TENSOR_NEAR(attention->forward(x), fused->forward(x), 1e-12);
  options.qkv_bias = QkvBias::none;
  options.out_bias = false;
  EXPECT_EQ(make(options)->named_parameters().keys(), (Names{"qkv.weight", "proj.weight"}));
}

TEST(MultiHeadAttention, NormsOfQueriesAndKeysAndClampComeBeforeRotary) {
  for (const auto kind : {QkNorm::per_head, QkNorm::whole_projection}) {
    auto options = plain(12, 3, 1);
    options.qk_norm = kind;
    options.clip_qkv = 0.8;
    auto attention = make(options);
    RotaryOptions rotary;
    rotary.dim = 4;
    const auto table = rotary_table(rotary, at::arange(5, at::kLong), at::kDouble);
    const auto x = at::randn({2, 5, 12}, at::kDouble);
    const auto flat = at::matmul(x, attention->qkv->weight.t()) + attention->qkv->bias;
    const auto heads = [&](const at::Tensor& y, Norm& norm) {
      const auto n =
          kind == QkNorm::per_head ? norm->forward(y.unflatten(2, {-1, 4})) : norm->forward(y).unflatten(2, {-1, 4});
      return apply_rotary(n.clamp(-0.8, 0.8).transpose(1, 2), table);
    };
    const auto q = heads(flat.slice(2, 0, 12), attention->q_norm);
    const auto k = heads(flat.slice(2, 12, 16), attention->k_norm).expand({2, 3, 5, 4});
    const auto v = flat.slice(2, 16).clamp(-0.8, 0.8).unsqueeze(1).expand({2, 3, 5, 4});
    const auto z = at::matmul(at::softmax(at::matmul(q, k.transpose(2, 3)) / 2.0, -1), v).transpose(1, 2).flatten(2);
    const auto wanted = at::matmul(z, attention->proj->weight.t()) + attention->proj->bias;
    EXPECT_TENSOR_NEAR(attention->forward(x, {.rotary = table}), wanted, 1e-10);
  }
}

TEST(MultiHeadAttention, DecodingTokenByTokenWithACacheEqualsOneFullForward) {
  const at::NoGradGuard no_grad;
  for (const int64_t window : {0, 3}) {
    auto attention = make(plain(12, 6, 2));
    RotaryOptions rotary;
    rotary.dim = 2;
    const auto x = at::randn({2, 7, 12}, at::kDouble);
    const auto mask = window > 0 ? causal_mask() & window_mask(window) : causal_mask();
    const auto table = [&](int64_t from, int64_t to) {
      return rotary_table(rotary, at::arange(from, to), at::kDouble);
    };
    const auto full = attention->forward(x, {.mask = mask, .rotary = table(0, 7)});
    KvCache cache(3);
    std::vector<at::Tensor> parts;
    for (const auto& [from, to] : std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 4}, {4, 6}, {6, 7}}) {
      parts.push_back(attention->forward(x.slice(1, from, to),
                                         {.mask = mask, .rotary = table(from, to), .cache = &cache, .layer = 1}));
    }
    EXPECT_TENSOR_NEAR(at::cat(parts, 1), full, 1e-10);
    EXPECT_EQ(cache.length(1), 7);
    EXPECT_EQ(cache.get(1).keys.size(1), 2);
  }
}

TEST(MultiHeadAttention, ATreeOfDraftsGivesEachPathWhatItWouldGiveAlone) {
  const at::NoGradGuard no_grad;
  auto attention = make(plain(8, 2));
  const auto x = at::randn({1, 3 + 4, 8}, at::kDouble);
  KvCache cache(1);
  attention->forward(x.slice(1, 0, 3), {.mask = causal_mask(), .cache = &cache});
  // Nodes 0 and 1 behind the context, 2 behind 0, 3 behind 2.
  const auto tree = attention->forward(x.slice(1, 3), {.mask = tree_mask({-1, -1, 0, 2}, 3), .cache = &cache});
  const auto path = x.index_select(1, at::tensor({0, 1, 2, 3, 5, 6}, at::kLong));
  const auto alone = attention->forward(path, {.mask = causal_mask()});
  EXPECT_TENSOR_NEAR(tree.index_select(1, at::tensor({0, 2, 3}, at::kLong)), alone.slice(1, 3), 1e-10);
  // The accepted path stays: the next token sees what it would see without drafts.
  cache.compact(3, {3, 5, 6});
  const auto next = at::randn({1, 1, 8}, at::kDouble);
  EXPECT_TENSOR_NEAR(attention->forward(next, {.mask = causal_mask(), .cache = &cache}),
                     attention->forward(at::cat({path, next}, 1), {.mask = causal_mask()}).slice(1, 6), 1e-10);
}

TEST(MultiHeadAttention, CrossAttentionReadsItsContextAndReusesItsKeys) {
  const at::NoGradGuard no_grad;
  auto options = plain(8, 4, 2);
  options.cross = true;
  options.context_dim = 5;
  auto attention = make(options);
  EXPECT_EQ(attention->named_parameters().keys(),
            (Names{"q.weight", "q.bias", "kv.weight", "kv.bias", "proj.weight", "proj.bias"}));
  const auto x = at::randn({2, 3, 8}, at::kDouble), context = at::randn({2, 6, 5}, at::kDouble);
  const auto q = at::matmul(x, attention->q->weight.t()) + attention->q->bias;
  const auto kv = at::matmul(context, attention->kv->weight.t()) + attention->kv->bias;
  std::vector<at::Tensor> rows;
  for (int64_t b = 0; b < 2; ++b) {
    std::vector<at::Tensor> heads;
    for (int64_t h = 0; h < 4; ++h) {
      heads.push_back(one_head(q[b].narrow(1, 2 * h, 2), kv[b].narrow(1, h / 2 * 2, 2),
                               kv[b].narrow(1, 4 + h / 2 * 2, 2), 1 / std::sqrt(2.0), {}, {}));
    }
    rows.push_back(at::cat(heads, 1));
  }
  const auto wanted = at::matmul(at::stack(rows), attention->proj->weight.t()) + attention->proj->bias;
  EXPECT_TENSOR_NEAR(attention->forward(x, {.context = context}), wanted, 1e-10);
  KvCache cache(1);
  EXPECT_TENSOR_NEAR(attention->forward(x.slice(1, 0, 1), {.cache = &cache, .context = context}), wanted.slice(1, 0, 1),
                     1e-10);
  EXPECT_TENSOR_NEAR(attention->forward(x.slice(1, 1), {.cache = &cache}), wanted.slice(1, 1), 1e-10);
  EXPECT_ERROR(attention->forward(x, {.cache = &cache, .context = context}),
               "MultiHeadAttention: context must be undefined (the cache holds keys for layer 0)");
  EXPECT_ERROR(attention->forward(x),
               "MultiHeadAttention: context must be defined (the cache holds no keys for layer 0)");
  EXPECT_ERROR(attention->forward(x, {.context = x}), "MultiHeadAttention: context must have shape [2, *, 5]");
  EXPECT_ERROR(attention->forward(x, {.rotary = {.cos = x, .sin = x}, .context = context}),
               "MultiHeadAttention: rotary must be undefined for a cross-attention");
}

TEST(MultiHeadAttention, DropoutDropsProbabilitiesInTrainingOnly) {
  auto options = plain(8, 2, 1);
  options.dropout = 0.5;
  options.seed = 3;
  auto attention = make(options);
  const auto x = at::randn({1, 4, 8}, at::kDouble);
  const auto trained = attention->forward(x, {.mask = causal_mask()});
  EXPECT_FALSE(at::allclose(trained, attention->forward(x, {.mask = causal_mask()})));
  // The mean over many draws is the output without dropout: the projection is linear.
  auto mean = at::zeros_like(trained);
  const at::NoGradGuard no_grad;
  for (int i = 0; i < 4000; ++i) mean += attention->forward(x, {.mask = causal_mask()}) / 4000;
  attention->eval();
  const auto exact = attention->forward(x, {.mask = causal_mask()});
  EXPECT_TENSOR_NEAR(exact, by_loops(attention, x, materialize_mask(causal_mask(), 4, 4, at::kCPU).unsqueeze(0)),
                     1e-10);
  EXPECT_TENSOR_NEAR(mean, exact, 0.25);
}

TEST(MultiHeadAttention, TakesEmptyAndStridedInputAndHalfPrecision) {
  auto attention = make(plain(8, 2), at::kFloat);
  EXPECT_EQ(attention->forward(at::empty({0, 3, 8})).sizes(), (std::vector<int64_t>{0, 3, 8}));
  EXPECT_EQ(attention->forward(at::empty({2, 0, 8})).sizes(), (std::vector<int64_t>{2, 0, 8}));
  const auto x = at::randn({2, 5, 8});
  const auto wanted = attention->forward(x);
  EXPECT_TENSOR_NEAR(attention->forward(at::empty({8, 5, 2}).permute({2, 1, 0}).copy_(x)), wanted, 1e-5);
  attention->to(at::kBFloat16);
  EXPECT_TENSOR_CLOSE(attention->forward(x.to(at::kBFloat16)).to(at::kFloat), wanted, 0.1, 0.15);
}

TEST(MultiHeadAttention, GradientsOfTheFusedPathAreThoseOfTheExplicitOne) {
  auto attention = make(plain(8, 2));
  const auto x = at::randn({2, 5, 8}, at::kDouble).requires_grad_();
  const auto weight = attention->qkv->weight, cotangent = at::randn({2, 5, 8}, at::kDouble);
  const auto fused = torch::autograd::grad({(attention->forward(x) * cotangent).sum()}, {x, weight});
  const auto flat = at::matmul(x, weight.t()) + attention->qkv->bias;
  const auto head = [&](int64_t part, int64_t h) { return flat.narrow(2, part * 8 + h * 4, 4); };
  std::vector<at::Tensor> heads;
  for (int64_t h = 0; h < 2; ++h) {
    heads.push_back(at::matmul(at::softmax(at::matmul(head(0, h), head(1, h).transpose(1, 2)) / 2.0, -1), head(2, h)));
  }
  const auto out = at::matmul(at::cat(heads, 2), attention->proj->weight.t());
  const auto wanted = torch::autograd::grad({(out * cotangent).sum()}, {x, weight});
  EXPECT_TENSOR_NEAR(fused[0], wanted[0], 1e-10);
  EXPECT_TENSOR_NEAR(fused[1], wanted[1], 1e-10);
}

TEST(MultiHeadAttention, CaptureLeavesHeadsValuesPatternAndColumnSums) {
  auto attention = make(plain(12, 6, 2));
  const auto x = at::randn({2, 5, 12}, at::kDouble);
  AttentionCapture seen{.want_heads = true, .want_values = true, .want_pattern = true, .want_column_sums = true};
  const auto out = attention->forward(x, {.mask = causal_mask(), .capture = &seen});
  EXPECT_TENSOR_EQ(out, attention->forward(x, {.mask = causal_mask()}));
  EXPECT_TENSOR_NEAR(seen.pattern.sum(-1), at::ones({2, 6, 5}, at::kDouble), 1e-12);
  EXPECT_TENSOR_EQ(seen.pattern.triu(1), at::zeros({2, 6, 5, 5}, at::kDouble));
  EXPECT_TENSOR_NEAR(at::matmul(seen.pattern, seen.v.repeat_interleave(3, 1)), seen.z, 1e-10);
  EXPECT_TENSOR_NEAR(seen.column_sums, seen.pattern.sum(2), 1e-12);
  const auto projected = at::matmul(seen.z.transpose(1, 2).flatten(2), attention->proj->weight.t());
  EXPECT_TENSOR_NEAR(projected + attention->proj->bias, out, 1e-10);
}

TEST(MultiHeadAttention, ACloneComputesTheSameAndSharesNothing) {
  auto options = plain(8, 2);
  options.qk_norm = QkNorm::per_head;
  options.qkv_bias = QkvBias::query_value;
  auto attention = make(options);
  MultiHeadAttention copy(std::dynamic_pointer_cast<MultiHeadAttentionImpl>(attention->clone()));
  const auto x = at::randn({1, 3, 8}, at::kDouble);
  const auto before = attention->forward(x);
  EXPECT_TENSOR_EQ(copy->forward(x), before);
  const at::NoGradGuard no_grad;
  for (auto& p : copy->parameters()) p.zero_();
  EXPECT_TENSOR_EQ(attention->forward(x), before);
  EXPECT_TENSOR_EQ(copy->forward(x), at::zeros({1, 3, 8}, at::kDouble));
}

TEST(MultiHeadAttention, SaysWhatIsWrong) {
  EXPECT_ERROR(MultiHeadAttention(plain(0, 1)), "MultiHeadAttention: dim must be >= 1, got 0");
  EXPECT_ERROR(MultiHeadAttention(plain(8, 3)), "MultiHeadAttention: heads must divide dim = 8, got 3");
  EXPECT_ERROR(MultiHeadAttention(plain(8, 4, 3)), "MultiHeadAttention: kv_heads must divide heads = 4, got 3");
  EXPECT_ERROR(MultiHeadAttention(plain(8, 0)), "MultiHeadAttention: heads must be >= 1, got 0");
  auto attention = make(plain(8, 2), at::kFloat);
  EXPECT_ERROR(attention->forward(at::randn({2, 7})), "MultiHeadAttention: x must have shape [*, *, 8], got [2, 7]");
  EXPECT_ERROR(attention->forward(at::randn({1, 2, 7})),
               "MultiHeadAttention: x must have shape [*, *, 8], got [1, 2, 7]");
  EXPECT_ERROR(attention->forward(at::randn({1, 2, 8}), {.context = at::randn({1, 2, 8})}),
               "MultiHeadAttention: context must be undefined unless options.cross is set");
}

}  // namespace
}  // namespace winnow
