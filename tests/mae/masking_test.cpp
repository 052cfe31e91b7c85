#include "winnow/mae/masking.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"

namespace winnow::mae {
namespace {

constexpr MaskKind kKinds[] = {MaskKind::random, MaskKind::grid, MaskKind::block, MaskKind::inverse_block};

TEST(Masking, KeptCountIsCountedInBinaryDoubles) {
  EXPECT_EQ(kept_count(196, 0.75), 49);
  EXPECT_EQ(kept_count(196, 0.9), 19);
  EXPECT_EQ(kept_count(196, 0.95), 9);
  EXPECT_EQ(kept_count(196, 0.985), 2);
  EXPECT_EQ(kept_count(10, 0.9), 0);   // the arithmetic value is 1
  EXPECT_EQ(kept_count(20, 0.9), 1);   // 2
  EXPECT_EQ(kept_count(100, 0.9), 9);  // 10
  EXPECT_EQ(kept_count(50, 0.9), 4);   // 5
  EXPECT_EQ(kept_count(7, 0.0), 7);
  EXPECT_ERROR(kept_count(16, 1.0), "kept_count: ratio must be in [0, 1), got 1");
  EXPECT_ERROR(kept_count(16, -0.1), "kept_count: ratio must be in [0, 1), got -0.1");
  EXPECT_ERROR(kept_count(16, std::nan("")), "kept_count: ratio must be in [0, 1), got nan");
}

TEST(Masking, WorkedExampleOfFourPositions) {
  const auto mask = mask_from_ranking(at::tensor({0.7f, 0.1f, 0.9f, 0.4f}).view({1, 4}), 2);
  EXPECT_TENSOR_EQ(mask.ids_keep, at::tensor({1, 3}, at::kLong).view({1, 2}));
  EXPECT_TENSOR_EQ(mask.ids_restore, at::tensor({2, 0, 3, 1}, at::kLong).view({1, 4}));
  EXPECT_TENSOR_EQ(mask.mask, at::tensor({1.f, 0.f, 1.f, 0.f}).view({1, 4}));
}

TEST(Masking, EqualRanksKeepTheLowerPosition) {
  const auto mask = mask_from_ranking(at::zeros({2, 5}), 3);
  EXPECT_TENSOR_EQ(mask.ids_keep, at::tensor({0, 1, 2, 0, 1, 2}, at::kLong).view({2, 3}));
}

TEST(Masking, RestoreIsTheInversePermutationInEveryRow) {
  for (const auto kind : kKinds) {
    const auto mask = draw_mask({.kind = kind, .ratio = 0.6}, 9, 5, 7, make_generator(3));
    const auto K = mask.ids_keep.size(1);
    // Position ids_keep[k] stands at place k of [kept, removed].
    EXPECT_TENSOR_EQ(mask.ids_restore.gather(1, mask.ids_keep), at::arange(K, at::kLong).expand({9, K}));
    EXPECT_TENSOR_EQ(mask.mask, mask.ids_restore.ge(K).to(at::kFloat));
    EXPECT_TENSOR_EQ(std::get<0>(mask.ids_restore.sort(1)), at::arange(35, at::kLong).expand({9, 35}));
  }
}

TEST(Masking, EveryRowRemovesTheSameNumberWhateverTheKind) {
  for (const auto kind : kKinds) {
    for (const auto ratio : {0.0, 0.3, 0.75, 0.9}) {
      const auto mask = draw_mask({.kind = kind, .ratio = ratio}, 32, 6, 9, make_generator(1));
      const auto keep = kept_count(54, ratio);
      EXPECT_EQ(mask.ids_keep.size(1), keep);
      EXPECT_TENSOR_EQ(mask.mask.sum(1), at::full({32}, static_cast<float>(54 - keep)));
    }
  }
}

TEST(Masking, RandomMasksRemoveEachPositionEquallyOften) {
  constexpr int64_t kDraws = 20000, kL = 16, kKeep = 4;
  const auto mask = draw_mask({.ratio = 0.75}, kDraws, 4, 4, make_generator(11));
  const auto removed = mask.mask.sum(0).to(at::kDouble);  // [L]
  const double expected = kDraws * double{kL - kKeep} / kL;
  // Pearson's statistic with both cells of each position; positions of one row are not independent, which makes the
  // sum (L-1)/L smaller than chi-square with L degrees: 37.7 is its 99.9 % point for 15.
  const auto deviation = removed - expected;
  const double statistic =
      (deviation.square() / expected + deviation.square() / (kDraws - expected)).sum().item<double>();
  EXPECT_LT(statistic, 37.7);
  EXPECT_GT(statistic, 2.0);  // draws that never vary would give 0
}

TEST(Masking, RowsOfABatchAndSeedsDiffer) {
  for (const auto kind : kKinds) {
    const auto mask = draw_mask({.kind = kind}, 16, 14, 14, make_generator(5)).mask;
    std::set<std::string> rows;
    for (int64_t b = 0; b < 16; ++b) {
      const auto* row = mask.const_data_ptr<float>() + b * 196;
      rows.emplace(reinterpret_cast<const char*>(row), 196 * sizeof(float));
    }
    EXPECT_GE(rows.size(), kind == MaskKind::grid ? 2u : 16u);
    EXPECT_TENSOR_EQ(draw_mask({.kind = kind}, 16, 14, 14, make_generator(5)).mask, mask);
    EXPECT_FALSE(at::equal(draw_mask({.kind = kind}, 16, 14, 14, make_generator(6)).mask, mask));
  }
}

TEST(Masking, GridKeepsOnePositionOfEachTwoByTwoCell) {
  const auto mask = draw_mask({.kind = MaskKind::grid, .ratio = 0.75}, 64, 6, 8, make_generator(2)).mask;
  const auto kept = (1 - mask).view({64, 3, 2, 4, 2}).permute({0, 2, 4, 1, 3}).reshape({64, 4, 12});
  // In each sample one of the four places is kept in all 12 cells, the other three in none.
  EXPECT_TENSOR_EQ(std::get<0>(kept.sum(2).sort(1)), at::tensor({0.f, 0.f, 0.f, 12.f}).expand({64, 4}));
  EXPECT_TRUE(kept.sum(2).sum(0).gt(0).all().item<bool>()) << "all four places occur in a batch of 64";
}

// Perimeter of the kept region: blocks leave compact shapes, random draws leave dust.
double border(const at::Tensor& mask, int64_t height, int64_t width) {
  const auto m = mask.view({-1, height, width});
  return (m.slice(1, 1).ne(m.slice(1, 0, height - 1)).sum() + m.slice(2, 1).ne(m.slice(2, 0, width - 1)).sum())
      .item<double>();
}

TEST(Masking, BlocksAreCompact) {
  const auto random = draw_mask({.kind = MaskKind::random}, 64, 14, 14, make_generator(4)).mask;
  const auto block = draw_mask({.kind = MaskKind::block}, 64, 14, 14, make_generator(4)).mask;
  const auto inverse = draw_mask({.kind = MaskKind::inverse_block}, 64, 14, 14, make_generator(4)).mask;
  EXPECT_LT(border(block, 14, 14), 0.6 * border(random, 14, 14));
  EXPECT_LT(border(inverse, 14, 14), 0.6 * border(random, 14, 14));
}

TEST(Masking, ARemovedMapKeepsBothGroupsInRasterOrder) {
  const auto mask = mask_from_removed(at::tensor({1, 0, 1, 0, 0, 1}, at::kByte).view({1, 6}));
  EXPECT_TENSOR_EQ(mask.ids_keep, at::tensor({1, 3, 4}, at::kLong).view({1, 3}));
  EXPECT_TENSOR_EQ(mask.ids_restore, at::tensor({3, 0, 4, 1, 2, 5}, at::kLong).view({1, 6}));
  EXPECT_TENSOR_EQ(ids_removed(mask), at::tensor({0, 2, 5}, at::kLong).view({1, 3}));
  EXPECT_ERROR(mask_from_removed(at::tensor({1, 0, 1, 1}, at::kByte).view({2, 2})),
               "mask_from_removed: every row must remove the same number, got 1 to 2");
  EXPECT_ERROR(mask_from_removed(at::ones({1, 3})), "mask_from_removed: every row must keep a position, got 3 of 3");
}

TEST(Masking, RandomMaskingSendsGradientsToKeptTokensOnly) {
  auto tokens = at::randn({2, 8, 3}, make_generator(0)).requires_grad_();
  const auto out = random_masking(tokens, at::rand({2, 8}, make_generator(1)), 0.5);
  out.kept.sum().backward();
  EXPECT_TENSOR_EQ(tokens.grad(), (1 - out.mask.mask).unsqueeze(-1).expand({2, 8, 3}));
}

TEST(Masking, WrongArgumentsAreNamed) {
  EXPECT_ERROR(mask_from_ranking(at::rand({2, 4}), 0), "mask_from_ranking: keep must be in [1, 4], got 0");
  EXPECT_ERROR(mask_from_ranking(at::rand({2, 4}), 5), "mask_from_ranking: keep must be in [1, 4], got 5");
  EXPECT_ERROR(mask_from_ranking(at::full({1, 4}, std::numeric_limits<float>::quiet_NaN()), 2), "NaN");
  EXPECT_ERROR(draw_mask({.ratio = 1.0}, 1, 4, 4, make_generator(0)), "Masking: ratio must be in [0, 1), got 1");
  EXPECT_ERROR(draw_mask({.ratio = 0.9}, 1, 2, 5, make_generator(0)),
               "draw_mask: ratio must leave a patch of 10, got 0.9");
  EXPECT_ERROR(random_masking(at::zeros({2, 8, 3}), at::zeros({2, 7}), 0.5), "random_masking: noise must");
}

}  // namespace
}  // namespace winnow::mae
