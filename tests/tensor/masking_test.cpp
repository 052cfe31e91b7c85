#include "winnow/tensor/masking.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/awkward_sizes.h"
#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/gradcheck.h"

namespace winnow {
namespace {

using testing::case_name;
using testing::DeviceTest;

at::Tensor longs(std::vector<int64_t> values, at::IntArrayRef shape) {
  return at::tensor(values).view(shape);
}

class Masking : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Masking, testing::cpu_cases(), case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, Masking, testing::cuda_cases(), case_name);

TEST_P(Masking, ThePaperExampleOfFourTokens) {
  const auto out = masking_permutation(at::tensor({0.7, 0.1, 0.9, 0.4}).view({1, 4}).to(options()), 2);
  EXPECT_TENSOR_EQ(out.ids_shuffle, longs({1, 3, 0, 2}, {1, 4}));
  EXPECT_TENSOR_EQ(out.ids_restore, longs({2, 0, 3, 1}, {1, 4}));
  EXPECT_TENSOR_EQ(out.ids_keep, longs({1, 3}, {1, 2}));
  EXPECT_TENSOR_EQ(out.mask, at::tensor({1.0F, 0.0F, 1.0F, 0.0F}).view({1, 4}));
}

TEST_P(Masking, ThePermutationIsTheStableArgsortAlsoOfTiesAndOfStridedNoise) {
  for (const auto L : testing::awkward_sizes_and_empty()) {
    const auto noise = (randn({L, 3}, 7) * 2).round().t();  // many ties, not contiguous
    const auto out = masking_permutation(noise, L / 4);
    const auto shuffle = std::get<1>(at::sort(noise.to(at::kDouble), std::optional<bool>(true), 1, false));
    EXPECT_TENSOR_EQ(out.ids_shuffle, shuffle);
    EXPECT_TENSOR_EQ(out.ids_restore, at::argsort(shuffle, int64_t{1}));
    EXPECT_TENSOR_EQ(out.mask, at::ones_like(out.mask).scatter(1, out.ids_keep, 0.0));
    EXPECT_EQ(out.ids_keep.size(1), L / 4);
  }
}

TEST_P(Masking, GatherTakesTheNamedRowsBitForBit) {
  for (const auto D : testing::awkward_sizes_and_empty()) {
    const auto x = randn({D, 4, 2}, 1).permute({2, 1, 0});  // [2, 4, D], not contiguous
    const auto ids = on_device(longs({3, 1, 1, 0, 2, 3}, {2, 3}));
    const auto out = gather_tokens(x, ids);
    for (int64_t b = 0; b < 2; ++b) EXPECT_TENSOR_EQ(out[b], x[b].index_select(0, ids[b]));
  }
}

TEST_P(Masking, GatherReturnsTheGradientToTheRowsItTook) {
  const auto x = randn({2, 4, 5}, 1).requires_grad_();
  const auto ids = on_device(longs({3, 1, 1, 0, 2, 3}, {2, 3}));
  const auto weight = randn({2, 3, 5}, 2);
  (gather_tokens(x, ids) * weight).sum().backward();
  auto wanted = at::zeros({2, 4, 5}, x.options().dtype(at::kDouble).requires_grad(false));
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t k = 0; k < 3; ++k) wanted[b][ids[b][k].item<int64_t>()] += weight[b][k].to(at::kDouble);
  }
  EXPECT_TENSOR_NEAR(x.grad(), wanted, tolerance());
}

TEST_P(Masking, RestorePutsTokensBackAndFillsTheRest) {
  for (const int64_t prefix : {0, 1, 2}) {
    for (const auto D : {1, 7, 16, 33}) {
      const auto noise = randn({3, 9}, 4);
      const auto ids = masking_permutation(noise, 4).ids_restore;
      const auto kept = randn({3, prefix + 4, D}, 1), fill = randn({D}, 2), positions = randn({1, prefix + 9, D}, 3);
      const auto out = restore_tokens(kept, ids, fill, positions, prefix);
      auto wanted = positions.to(at::kDouble).repeat({3, 1, 1});
      for (int64_t b = 0; b < 3; ++b) {
        for (int64_t j = 0; j < prefix + 9; ++j) {
          const auto id = j < prefix ? j - prefix : ids[b][j - prefix].item<int64_t>();
          wanted[b][j] += (id < 4 ? kept[b][prefix + id] : fill).to(at::kDouble);
        }
      }
      EXPECT_TENSOR_NEAR(out, wanted, tolerance());
      EXPECT_EQ(out.scalar_type(), GetParam().dtype);
    }
  }
}

TEST_P(Masking, RestoreUndoesGather) {
  const auto tokens = randn({2, 11, 6}, 1);
  const auto perm = masking_permutation(randn({2, 11}, 2), 11);
  EXPECT_TENSOR_EQ(restore_tokens(gather_tokens(tokens, perm.ids_keep), perm.ids_restore, randn({6}, 3)), tokens);
}

TEST_P(Masking, RestoreGivesEachArgumentItsGradient) {
  const auto ids = masking_permutation(randn({2, 6}, 4), 2).ids_restore;
  auto kept = randn({2, 3, 5}, 1).requires_grad_(), fill = randn({1, 1, 5}, 2).requires_grad_();
  auto positions = randn({7, 5}, 3).requires_grad_();
  const auto weight = randn({2, 7, 5}, 5);
  (restore_tokens(kept, ids, fill, positions, 1) * weight).sum().backward();
  const auto w = weight.to(at::kDouble);
  auto wanted_kept = at::zeros({2, 3, 5}, w.options()), wanted_fill = at::zeros({1, 1, 5}, w.options());
  for (int64_t b = 0; b < 2; ++b) {
    wanted_kept[b][0] = w[b][0];
    for (int64_t l = 0; l < 6; ++l) {
      const auto id = ids[b][l].item<int64_t>();
      (id < 2 ? wanted_kept[b][1 + id] : wanted_fill[0][0]) += w[b][1 + l];
    }
  }
  EXPECT_TENSOR_NEAR(kept.grad(), wanted_kept, tolerance());
  EXPECT_TENSOR_NEAR(fill.grad(), wanted_fill, 8 * tolerance());
  EXPECT_TENSOR_NEAR(positions.grad(), w.sum(0), 2 * tolerance());
}

TEST_P(Masking, EmptyBatchesGiveEmptyResultsAndZeroGradients) {
  const auto ids = on_device(at::empty({0, 4}, at::kLong));
  auto fill = randn({3}).requires_grad_();
  const auto out = restore_tokens(randn({0, 2, 3}), ids, fill);
  EXPECT_EQ(out.sizes(), at::IntArrayRef({0, 4, 3}));
  out.sum().backward();
  EXPECT_TENSOR_NEAR(fill.grad(), at::zeros({3}), 0);
  EXPECT_EQ(gather_tokens(randn({0, 5, 3}), ids).sizes(), at::IntArrayRef({0, 4, 3}));
  EXPECT_EQ(gather_tokens(randn({2, 5, 3}), on_device(at::empty({2, 0}, at::kLong))).numel(), 0);
  EXPECT_EQ(masking_permutation(randn({0, 4}), 2).ids_keep.sizes(), at::IntArrayRef({0, 2}));
}

TEST(MaskingGradients, AgreeWithDifferences) {
  auto generator = make_generator(3);
  const auto x = at::randn({2, 4, 3}, generator, at::kDouble).requires_grad_();
  const auto ids = longs({3, 1, 1, 0, 2, 3}, {2, 3});
  const auto gather = gradcheck([&](const auto& in) { return std::vector{gather_tokens(in[0], ids)}; }, {x});
  EXPECT_TRUE(gather.passed) << gather.message;
  const auto restore_ids = longs({2, 0, 3, 1, 0, 1, 2, 3}, {2, 4});
  const auto fill = at::randn({3}, generator, at::kDouble).requires_grad_();
  const auto positions = at::randn({5, 3}, generator, at::kDouble).requires_grad_();
  const auto restore =
      gradcheck([&](const auto& in) { return std::vector{restore_tokens(in[0], restore_ids, in[1], in[2], 1)}; },
                {at::randn({2, 3, 3}, generator, at::kDouble).requires_grad_(), fill, positions});
  EXPECT_TRUE(restore.passed) << restore.message;
}

TEST(MaskingGradients, DoubleBackwardIsRefused) {
  const auto x = at::randn({1, 2, 3}).requires_grad_();
  const auto ids = longs({1, 0}, {1, 2});
  const auto differentiate = [](const at::Tensor& y, const at::Tensor& of) {
    torch::autograd::grad({y.square().sum()}, {of}, {}, std::nullopt, /*create_graph=*/true);
  };
  EXPECT_ERROR(differentiate(gather_tokens(x, ids), x), "gather_tokens: double backward is not supported");
  const auto fill = at::randn({3}).requires_grad_();
  EXPECT_ERROR(differentiate(restore_tokens(x, ids, fill), x), "restore_tokens: double backward is not supported");
}

TEST(MaskingFrequency, EveryPlaceIsRemovedEquallyOften) {
  constexpr int64_t kDraws = 4000, kLength = 16, kKeep = 4;
  const auto noise = at::rand({kDraws, kLength}, make_generator(11));
  const auto out = masking_permutation(noise, kKeep);
  EXPECT_TENSOR_EQ(out.mask.sum(1), at::full({kDraws}, static_cast<float>(kLength - kKeep)));
  const auto counts = out.mask.to(at::kDouble).sum(0);
  const double expected = kDraws * 0.75, variance = kDraws * 0.75 * 0.25;
  // Chi-square with 15 degrees of freedom, scaled for draws without replacement; 0.1 % lies above 37.7.
  const auto chi = ((counts - expected).square() / variance).sum().item<double>() * (kLength - 1.0) / kLength;
  EXPECT_LT(chi, 37.7);
}

TEST(MaskingDeterminism, GradientsDoNotDependOnTheThreads) {
  const auto ids = masking_permutation(at::rand({16, 64}, make_generator(1)), 16).ids_restore;
  const auto kept = at::randn({16, 16, 32}, make_generator(2)).requires_grad_();
  const auto fill = at::randn({32}, make_generator(3)).requires_grad_();
  const auto weight = at::randn({16, 64, 32}, make_generator(4));
  const auto gradient = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto grads = torch::autograd::grad({(restore_tokens(kept, ids, fill) * weight).sum()}, {kept, fill});
    at::set_num_threads(before);
    return grads;
  };
  const auto one = gradient(1), two = gradient(2);
  EXPECT_TENSOR_EQ(one[0], two[0]);
  EXPECT_TENSOR_EQ(one[1], two[1]);
}

TEST(MaskingErrors, NameTheArgumentTheWantedAndTheFound) {
  const auto x = at::zeros({2, 4, 3}), ids = at::zeros({2, 2}, at::kLong);
  EXPECT_ERROR(gather_tokens({}, ids), "gather_tokens: x must be a tensor, got none");
  EXPECT_ERROR(gather_tokens(x, {}), "gather_tokens: ids must be a tensor, got none");
  EXPECT_ERROR(gather_tokens(x[0], ids), "gather_tokens: x must have 3 dimensions, got shape [4, 3]");
  EXPECT_ERROR(gather_tokens(x, ids.to(at::kInt)), "gather_tokens: ids must be int64, got int32");
  EXPECT_ERROR(gather_tokens(x, ids.narrow(0, 0, 1)), "gather_tokens: ids must have shape [2, *], got [1, 2]");
  EXPECT_ERROR(gather_tokens(x, ids + 4), "gather_tokens: ids must be in [0, 4), got 4");
  EXPECT_ERROR(gather_tokens(x, ids - 1), "gather_tokens: ids must be in [0, 4), got -1");
  EXPECT_ERROR(gather_tokens(x, ids.to(at::kMeta)), "gather_tokens: ids must be on cpu, got meta");

  const auto order = longs({0, 1, 2, 3, 3, 2, 1, 0}, {2, 4});
  const auto fill = at::zeros({3});
  EXPECT_ERROR(restore_tokens({}, order, fill), "restore_tokens: kept must be a tensor, got none");
  EXPECT_ERROR(restore_tokens(x.to(at::kInt), order, fill),
               "restore_tokens: kept must be float64, float32, float16 or bfloat16, got int32");
  EXPECT_ERROR(restore_tokens(x, {}, fill), "restore_tokens: ids_restore must be a tensor, got none");
  EXPECT_ERROR(restore_tokens(x, order, fill.to(at::kDouble)),
               "restore_tokens: mask_token must be float32 on cpu, got float64 on cpu");
  EXPECT_ERROR(restore_tokens(x, order, at::zeros({4})),
               "restore_tokens: mask_token must have 3 elements, got shape [4]");
  EXPECT_ERROR(restore_tokens(x, order, fill, at::zeros({5, 3})),
               "restore_tokens: positions must have shape [4, 3], got [5, 3]");
  EXPECT_ERROR(restore_tokens(x, order, fill, {}, 5), "restore_tokens: prefix must be in [0, 4], got 5");
  EXPECT_ERROR(restore_tokens(x, order.narrow(1, 0, 2), fill),
               "restore_tokens: kept must hold at most 2 tokens after the prefix, got 4");
  EXPECT_ERROR(restore_tokens(x, order * 2, fill), "restore_tokens: ids_restore must be in [0, 4), got 4");
  EXPECT_ERROR(restore_tokens(x, order.clamp_min(1), fill),
               "restore_tokens: ids_restore must be a permutation in each row, got 1 twice in row 0");

  const auto noise = at::zeros({2, 4});
  EXPECT_ERROR(masking_permutation({}, 1), "masking_permutation: noise must be a tensor, got none");
  EXPECT_ERROR(masking_permutation(noise, 5), "masking_permutation: keep must be in [0, 4], got 5");
  EXPECT_ERROR(masking_permutation(noise, -1), "masking_permutation: keep must be in [0, 4], got -1");
  EXPECT_ERROR(masking_permutation(noise[0], 1), "masking_permutation: noise must have 2 dimensions, got shape [4]");
  EXPECT_ERROR(masking_permutation(noise.to(at::kLong), 1),
               "masking_permutation: noise must be float64, float32, float16 or bfloat16, got int64");
  EXPECT_ERROR(masking_permutation(noise / 0, 1), "masking_permutation: noise must hold no NaN, got one");
}

}  // namespace
}  // namespace winnow
