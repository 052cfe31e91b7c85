#include <gtest/gtest.h>

#include <limits>

#include "kernels/targets.h"
#include "support/awkward_sizes.h"
#include "winnow/kernels/gather_tokens.h"
#include "winnow/kernels/masking_permutation.h"
#include "winnow/kernels/restore_tokens.h"

namespace winnow::kernels {
namespace {

TEST(GatherTokensKernel, BackwardAddsRepeatedIdsOnEveryTarget) {
  on_every_target([] {
    for (const auto width : testing::awkward_sizes()) {
      const std::vector<int64_t> ids{2, 0, 2, 0, 2, 1};  // two samples of three
      const auto grad = normal_values<float>(6 * width, 1);
      std::vector<float> out(static_cast<size_t>(2 * 4 * width), -1.0F), wanted(out.size(), 0.0F);
      for (int64_t r = 0; r < 6; ++r) {
        for (int64_t j = 0; j < width; ++j) {
          wanted[static_cast<size_t>((r / 3 * 4 + ids[static_cast<size_t>(r)]) * width + j)] +=
              grad[static_cast<size_t>(r * width + j)];
        }
      }
      cpu::gather_tokens_backward(grad.data(), ids.data(), 4, 3, width, out.data(), 0, 2);
      EXPECT_EQ(out, wanted) << width;
    }
  });
}

template <typename T>
void check_restore(int64_t prefix, int64_t width, bool with_positions) {
  constexpr int64_t kBatch = 2, kLength = 5, kKept = 2;
  const std::vector<int64_t> ids{3, 0, 4, 1, 2, 0, 1, 2, 3, 4};
  const RestoreTokens<T> args{ids.data(), kLength, kKept, prefix, width};
  const auto tokens = normal_values<T>(kBatch * (prefix + kKept) * width, 1), mask = normal_values<T>(width, 2);
  const auto positions = normal_values<T>((prefix + kLength) * width, 3);
  std::vector<T> out(static_cast<size_t>(kBatch * (prefix + kLength) * width));
  cpu::restore_tokens(args, tokens.data(), mask.data(), with_positions ? positions.data() : nullptr, out.data(), 0,
                      kBatch);
  const auto grad = normal_values<T>(kBatch * (prefix + kLength) * width, 4);
  std::vector<T> grad_tokens(tokens.size()), grad_mask(static_cast<size_t>(kBatch * width)),
      wanted_mask(grad_mask.size(), T{0});
  cpu::restore_tokens_backward(args, grad.data(), grad_tokens.data(), grad_mask.data(), 0, kBatch);
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t row = 0; row < prefix + kLength; ++row) {
      int64_t from = row;
      if (row >= prefix) {
        const auto id = ids[static_cast<size_t>(b * kLength + row - prefix)];
        from = id < kKept ? prefix + id : -1;
      }
      for (int64_t j = 0; j < width; ++j) {
        const auto at = static_cast<size_t>((b * (prefix + kLength) + row) * width + j);
        const auto token = static_cast<size_t>((b * (prefix + kKept) + from) * width + j);
        const T value = from < 0 ? mask[static_cast<size_t>(j)] : tokens[token];
        ASSERT_EQ(out[at], with_positions ? value + positions[static_cast<size_t>(row * width + j)] : value);
        if (from < 0) {
          wanted_mask[static_cast<size_t>(b * width + j)] += grad[at];
        } else {
          ASSERT_EQ(grad_tokens[token], grad[at]);
        }
      }
    }
  }
  EXPECT_EQ(grad_mask, wanted_mask);
}

TEST(RestoreTokensKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    for (const auto width : testing::awkward_sizes()) {
      for (const int64_t prefix : {0, 1, 3}) {
        check_restore<float>(prefix, width, true);
        check_restore<double>(prefix, width, false);
      }
    }
  });
}

template <typename T>
void expect_stable_argsort(const std::vector<T>& noise, int64_t keep) {
  const auto length = noise.size();
  std::vector<int64_t> shuffle(length), restore(length), wanted(length);
  std::vector<float> mask(length);
  cpu::masking_permutation(noise.data(), static_cast<int64_t>(length), keep,
                           {shuffle.data(), restore.data(), mask.data()}, 0, 1);
  // By insertion: each index goes behind all that are not greater.
  for (size_t i = 0; i < length; ++i) {
    size_t k = i;
    for (; k > 0 && noise[i] < noise[static_cast<size_t>(wanted[k - 1])]; --k) wanted[k] = wanted[k - 1];
    wanted[k] = static_cast<int64_t>(i);
  }
  EXPECT_EQ(shuffle, wanted);
  for (size_t k = 0; k < length; ++k) {
    EXPECT_EQ(restore[static_cast<size_t>(shuffle[k])], static_cast<int64_t>(k));
    EXPECT_EQ(mask[static_cast<size_t>(shuffle[k])], static_cast<int64_t>(k) < keep ? 0.0F : 1.0F);
  }
}

TEST(MaskingPermutationKernel, IsTheStableArgsort) {
  for (const auto length : testing::awkward_sizes()) {
    expect_stable_argsort(normal_values<float>(length, 1), length / 4);
    expect_stable_argsort(normal_values<double>(length, 2), length / 2);
    auto ties = normal_values<float>(length, 3);
    for (auto& v : ties) v = static_cast<float>(static_cast<int>(v));  // -2 .. 2, zeros of both signs
    expect_stable_argsort(ties, length);
    expect_stable_argsort(std::vector<double>(ties.begin(), ties.end()), 0);
  }
}

TEST(MaskingPermutationKernel, SignedZerosTieAndInfinitiesAndNanStandAtTheEnds) {
  constexpr auto kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> noise{0.0F, -0.0F, kInf, std::numeric_limits<float>::quiet_NaN(), -kInf, 0.0F};
  const std::vector<int64_t> wanted{4, 0, 1, 5, 2, 3};
  std::vector<int64_t> shuffle(6), restore(6);
  std::vector<float> mask(6);
  cpu::masking_permutation(noise.data(), 6, 2, {shuffle.data(), restore.data(), mask.data()}, 0, 1);
  EXPECT_EQ(shuffle, wanted);
  const std::vector<double> wide(noise.begin(), noise.end());
  cpu::masking_permutation(wide.data(), 6, 2, {shuffle.data(), restore.data(), mask.data()}, 0, 1);
  EXPECT_EQ(shuffle, wanted);
}

}  // namespace
}  // namespace winnow::kernels
