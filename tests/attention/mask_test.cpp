#include "winnow/attention/mask.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow {
namespace {

// The whole mask [Lq, Lk] by a rule on positions; queries are the last ones.
template <class Rule>
at::Tensor by_rule(int64_t queries, int64_t keys, Rule&& rule) {
  auto allowed = at::zeros({queries, keys}, at::kBool);
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) allowed[i][j] = static_cast<bool>(rule(keys - queries + i, j));
  }
  return allowed;
}

TEST(AttentionMask, CausalAndWindowsFollowTheirRulesForAnyLengths) {
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{{5, 5}, {1, 7}, {3, 8}, {6, 2}, {1, 1}}) {
    const auto causal = [](int64_t i, int64_t j) { return j <= i; };
    EXPECT_TENSOR_EQ(materialize_mask(causal_mask(), queries, keys, at::kCPU), by_rule(queries, keys, causal));
    for (const int64_t window : {1, 2, 3, 20}) {
      const auto band = [&](int64_t i, int64_t j) { return std::abs(i - j) < window; };
      EXPECT_TENSOR_EQ(materialize_mask(window_mask(window), queries, keys, at::kCPU), by_rule(queries, keys, band));
      const auto sliding = [&](int64_t i, int64_t j) { return i - window < j && j <= i; };
      EXPECT_TENSOR_EQ(materialize_mask(causal_mask() & window_mask(window), queries, keys, at::kCPU),
                       by_rule(queries, keys, sliding));
    }
  }
}

TEST(AttentionMask, NoTensorIsMadeWhereNoneIsNeeded) {
  const auto resolve = [](const AttentionMask& mask, int64_t queries, int64_t keys) {
    return resolve_mask(mask, queries, keys, at::kCPU);
  };
  EXPECT_FALSE(resolve({}, 4, 4).allowed.defined());
  EXPECT_FALSE(resolve({}, 4, 4).is_causal);
  EXPECT_TRUE(resolve(causal_mask(), 4, 4).is_causal);
  EXPECT_FALSE(resolve(causal_mask(), 4, 4).allowed.defined());
  // One query with a cache sees every key; is_causal would show it the first key only.
  EXPECT_FALSE(resolve(causal_mask(), 1, 9).is_causal);
  EXPECT_FALSE(resolve(causal_mask(), 1, 9).allowed.defined());
  EXPECT_FALSE(resolve(causal_mask(), 3, 9).is_causal);
  EXPECT_TRUE(resolve(causal_mask(), 3, 9).allowed.defined());
  EXPECT_TRUE(resolve(causal_mask() & window_mask(9), 9, 9).is_causal);
  EXPECT_FALSE(resolve(causal_mask() & window_mask(8), 9, 9).is_causal);
  EXPECT_TENSOR_EQ(resolve(causal_mask() & window_mask(2), 1, 4).allowed,
                   at::tensor({0, 0, 1, 1}, at::kLong).to(at::kBool).view({1, 4}));
}

TEST(AttentionMask, PaddingHidesKeysOfItsRowsAndCombines) {
  const auto keep = at::tensor({1, 1, 0, 0, 1, 1}, at::kLong).view({2, 3});
  const auto got = materialize_mask(padding_mask(keep) & causal_mask(), 3, 3, at::kCPU).expand({2, 1, 3, 3});
  for (int64_t b = 0; b < 2; ++b) {
    const auto wanted = by_rule(3, 3, [&](int64_t i, int64_t j) { return j <= i && keep[b][j].item<int64_t>() != 0; });
    EXPECT_TENSOR_EQ(got[b][0], wanted);
  }
}

TEST(AttentionMask, BlocksSeeThemselvesOrAlsoEarlierOnes) {
  const auto blocks = at::tensor({0, 0, 1, 1, 2}, at::kLong);
  const auto number = [&](int64_t i) { return blocks[i].item<int64_t>(); };
  EXPECT_TENSOR_EQ(materialize_mask(block_mask(blocks, blocks, BlockRelation::same), 5, 5, at::kCPU),
                   by_rule(5, 5, [&](int64_t i, int64_t j) { return number(i) == number(j); }));
  EXPECT_TENSOR_EQ(materialize_mask(block_mask(blocks, blocks, BlockRelation::not_later), 5, 5, at::kCPU),
                   by_rule(5, 5, [&](int64_t i, int64_t j) { return number(j) <= number(i); }));
  const auto batched = at::stack({blocks, blocks.flip(0)});
  EXPECT_EQ(block_mask(batched, batched, BlockRelation::same).allowed.sizes(), (std::vector<int64_t>{2, 1, 5, 5}));
}

TEST(TreeMask, ANodeSeesTheContextItselfAndItsAncestors) {
  // More than one word of bits: a random tree of 150 nodes, ancestors walked one by one.
  std::vector<int64_t> parents;
  torch::manual_seed(1);
  for (int64_t i = 0; i < 150; ++i) parents.push_back(at::randint(-1, std::max<int64_t>(i, 0), {1}).item<int64_t>());
  const int64_t context = 4;
  const auto got = materialize_mask(tree_mask(parents, context), 150, 154, at::kCPU).squeeze(0).squeeze(0);
  int wrong = 0;
  const auto cells = got.reshape({150, 154}).contiguous();
  for (int64_t i = 0; i < 150; ++i) {
    std::vector<bool> seen(150, false);
    for (int64_t node = i; node >= 0; node = parents[static_cast<size_t>(node)]) seen[static_cast<size_t>(node)] = true;
    for (int64_t j = 0; j < 154; ++j) {
      const bool wanted = j < context || seen[static_cast<size_t>(j - context)];
      wrong += cells.const_data_ptr<bool>()[i * 154 + j] != wanted;
    }
  }
  EXPECT_EQ(wrong, 0);
}

TEST(TreeMask, AChainIsCausalAndBitsAreByHand) {
  EXPECT_TENSOR_EQ(materialize_mask(tree_mask({-1, 0, 1, 2}, 3), 4, 7, at::kCPU),
                   materialize_mask(causal_mask(), 4, 7, at::kCPU));
  // 0 and 1 are roots, 2 a child of 0, 3 a child of 2, 4 a child of 1.
  EXPECT_EQ(ancestor_bits({-1, -1, 0, 2, 1}), (std::vector<uint64_t>{0b00001, 0b00010, 0b00101, 0b01101, 0b10010}));
  EXPECT_TRUE(ancestor_bits({}).empty());
}

TEST(AttentionMask, SaysWhatIsWrong) {
  EXPECT_ERROR(window_mask(0), "window_mask: window must be >= 1, got 0");
  EXPECT_ERROR(padding_mask(at::ones({3})), "padding_mask: keep must");
  EXPECT_ERROR(dense_mask(at::ones({3, 3})), "dense_mask: allowed must");
  EXPECT_ERROR(dense_mask(at::ones({3}, at::kBool)), "dense_mask: allowed must have 2 to 4 dimensions, got 1");
  EXPECT_ERROR(block_mask(at::zeros({3}), at::zeros({3}), BlockRelation::same),
               "block_mask: query_blocks must be integers, got Float");
  EXPECT_ERROR(block_mask(at::zeros({3}, at::kLong), {}, BlockRelation::same), "block_mask: key_blocks must be [L]");
  EXPECT_ERROR(tree_mask({-1, 1}, 0), "ancestor_bits: parent of node 1 must be in [-1, 1), got 1");
  EXPECT_ERROR(tree_mask({-1}, -1), "tree_mask: context must be >= 0, got -1");
  EXPECT_ERROR(resolve_mask(dense_mask(at::ones({3, 4}, at::kBool)), 3, 5, at::kCPU),
               "AttentionMask: allowed must fit 3 queries and 5 keys, got shape [3, 4]");
}

}  // namespace
}  // namespace winnow
