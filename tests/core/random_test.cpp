#include "winnow/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "support/error.h"

namespace winnow {
namespace {

constexpr int kDraws = 40'000;

struct Moments {
  double mean = 0, variance = 0;
};

template <typename Draw>
Moments moments(Draw draw) {
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const auto x = draw();
    sum += x;
    squares += x * x;
  }
  const auto mean = sum / kDraws;
  return {.mean = mean, .variance = squares / kDraws - mean * mean};
}

// Chi square of counts that should be equal, in deviations from its mean (k - 1, variance 2 (k - 1)).
double chi_square_deviations(const std::vector<int>& counts) {
  double total = 0, chi = 0;
  for (const auto count : counts) total += count;
  const auto expected = total / static_cast<double>(counts.size());
  for (const auto count : counts) chi += (count - expected) * (count - expected) / expected;
  const auto freedom = static_cast<double>(counts.size() - 1);
  return (chi - freedom) / std::sqrt(2 * freedom);
}

TEST(MixBits, IsTheFinaliserOfSplitMix64) {
  // The first outputs of the published generator with seed 0 and with seed 1234567.
  EXPECT_EQ(mix_bits(0x9E3779B97F4A7C15u), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(mix_bits(0x9E3779B97F4A7C15u * 2), 0x6E789E6AA1B965F4u);
  EXPECT_EQ(mix_bits(1234567 + 0x9E3779B97F4A7C15u), 6457827717110365317u);
  EXPECT_EQ(mix_bits(1234567 + 0x9E3779B97F4A7C15u * 2), 3203168211198807973u);
}

TEST(DeriveSeed, DiffersInEveryArgumentTheirOrderAndTheirNumber) {
  std::set<uint64_t> seeds;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    seeds.insert(derive_seed(seed));
    for (uint64_t a = 0; a < 20; ++a) {
      seeds.insert(derive_seed(seed, a));
      for (uint64_t b = 0; b < 20; ++b) seeds.insert(derive_seed(seed, a, b));
    }
  }
  EXPECT_EQ(seeds.size(), 20u + 400u + 8000u);
  EXPECT_EQ(derive_seed(7, 1, 2), derive_seed(7, 1, 2));
}

TEST(DeriveSeed, OneInputBitMovesAboutHalfOfTheOutputBits) {
  double flipped = 0;
  for (int bit = 0; bit < 64; ++bit) {
    flipped += std::popcount(derive_seed(42, 5) ^ derive_seed(42, uint64_t{5} ^ (uint64_t{1} << bit)));
    flipped += std::popcount(derive_seed(42, 5) ^ derive_seed(uint64_t{42} ^ (uint64_t{1} << bit), 5));
  }
  EXPECT_NEAR(flipped / 128, 32, 1.5);  // 4 deviations of a mean of 128 binomials: 4 * 4 / sqrt(128) = 1.41
}

TEST(Random, NumberNDependsOnlyOnSeedAndN) {
  Random first(3), second(3);
  for (int i = 0; i < 10; ++i) first();
  second.set_count(10);
  EXPECT_EQ(first(), second());
  EXPECT_EQ(first.count(), 11u);
  EXPECT_NE(Random(3)(), Random(4)());
}

TEST(Random, UniformLiesInItsRangeWithTheRightMoments) {
  Random random(5);
  const auto unit = moments([&] {
    const auto x = random.uniform();
    EXPECT_TRUE(x >= 0 && x < 1);
    return x;
  });
  EXPECT_NEAR(unit.mean, 0.5, 0.006);  // 4 deviations: 4 * sqrt(1 / 12 / 40000)
  EXPECT_NEAR(unit.variance, 1.0 / 12, 0.002);
  EXPECT_NEAR(moments([&] { return random.uniform(-3, 5); }).mean, 1, 0.05);
  EXPECT_EQ(random.uniform(2, 2), 2);
  EXPECT_ERROR(random.uniform(1, 0), "Random::uniform: low must be <= high and both finite, got 1 and 0");
}

TEST(Random, IntegersAreEquallyLikely) {
  Random random(6);
  std::vector<int> counts(7), shifted(7);
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(random.integer(7))];
    ++shifted[static_cast<size_t>(random.integer(-3, 3) + 3)];
  }
  EXPECT_LT(std::abs(chi_square_deviations(counts)), 4);
  EXPECT_LT(std::abs(chi_square_deviations(shifted)), 4);
}

// With n = 3 * 2^61 a plain remainder of 64 bits would make the lower third twice as likely.
TEST(Random, IntegersOfAHugeRangeHaveNoBias) {
  Random random(7);
  const auto n = int64_t{3} << 61;
  std::vector<int> thirds(3);
  for (int i = 0; i < kDraws; ++i) ++thirds[static_cast<size_t>(random.integer(n) / (n / 3))];
  EXPECT_LT(std::abs(chi_square_deviations(thirds)), 4);
}

TEST(Random, IntegerRangesMayBeTheWholeType) {
  Random random(8);
  int negative = 0;
  for (int i = 0; i < 1000; ++i) {
    negative += random.integer(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()) < 0 ? 1 : 0;
  }
  EXPECT_NEAR(negative, 500, 64);
  EXPECT_EQ(random.integer(9, 9), 9);
  EXPECT_EQ(random.integer(1), 0);
  EXPECT_ERROR(random.integer(0), "Random::integer: n must be >= 1, got 0");
  EXPECT_ERROR(random.integer(2, 1), "Random::integer: low must be <= high, got 2 and 1");
}

TEST(Random, ChanceKeepsItsProbability) {
  Random random(9);
  int hits = 0;
  for (int i = 0; i < kDraws; ++i) {
    hits += random.chance(0.3) ? 1 : 0;
    EXPECT_FALSE(random.chance(0));
    EXPECT_TRUE(random.chance(1));
  }
  EXPECT_NEAR(hits, 0.3 * kDraws, 4 * std::sqrt(0.21 * kDraws));
  EXPECT_ERROR(random.chance(1.5), "Random::chance: p must be in [0, 1], got 1.5");
}

TEST(Random, NormalHasItsMomentsAndTails) {
  Random random(10);
  int beyond_two = 0;
  const auto m = moments([&] {
    const auto x = random.normal();
    beyond_two += std::abs(x) > 2 ? 1 : 0;
    return x;
  });
  EXPECT_NEAR(m.mean, 0, 0.02);
  EXPECT_NEAR(m.variance, 1, 0.03);
  EXPECT_NEAR(beyond_two, 0.0455 * kDraws, 4 * std::sqrt(0.0455 * kDraws));
  EXPECT_NEAR(moments([&] { return random.normal(3, 0.5); }).mean, 3, 0.01);
}

TEST(Random, GammaAndBetaHaveTheirMoments) {
  Random random(11);
  for (const auto shape : {0.3, 1.0, 4.5}) {
    const auto m = moments([&] { return random.gamma(shape); });
    EXPECT_NEAR(m.mean, shape, 4 * std::sqrt(shape / kDraws)) << shape;
    EXPECT_NEAR(m.variance, shape, 0.1 * shape + 0.02) << shape;
  }
  for (const auto& parameters : {std::pair(0.8, 0.8), std::pair(0.2, 0.2), std::pair(2.0, 5.0)}) {
    const double a = parameters.first, b = parameters.second;
    const auto m = moments([&] {
      const auto x = random.beta(a, b);
      EXPECT_TRUE(x >= 0 && x <= 1);
      return x;
    });
    const auto variance = a * b / ((a + b) * (a + b) * (a + b + 1));
    EXPECT_NEAR(m.mean, a / (a + b), 4 * std::sqrt(variance / kDraws));
    EXPECT_NEAR(m.variance, variance, 0.05 * variance);
  }
}

// As its parameters fall to 0, Beta(a, a) becomes a fair coin; a quotient of two gamma draws would be 0 / 0.
TEST(Random, BetaOfTinyParametersIsACoin) {
  Random random(12);
  int heads = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto x = random.beta(1e-4, 1e-4);
    ASSERT_FALSE(std::isnan(x));
    heads += x > 0.5 ? 1 : 0;
  }
  EXPECT_NEAR(heads, 1000, 4 * std::sqrt(500.0));
  EXPECT_ERROR(random.beta(0, 1), "Random::beta: a and b must be > 0 and finite, got 0 and 1");
  EXPECT_ERROR(random.gamma(-1), "Random::gamma: shape must be > 0 and finite, got -1");
}

TEST(Random, EveryPermutationIsEquallyLikely) {
  Random random(13);
  std::vector<int> counts(24);
  for (int i = 0; i < kDraws; ++i) {
    const auto order = random.permutation(4);
    int rank = 0;  // in the lexicographic order
    for (size_t a = 0; a < 4; ++a) {
      int smaller = 0;
      for (size_t b = a + 1; b < 4; ++b) smaller += order[b] < order[a] ? 1 : 0;
      rank = rank * static_cast<int>(4 - a) + smaller;
    }
    ++counts[static_cast<size_t>(rank)];
  }
  EXPECT_LT(std::abs(chi_square_deviations(counts)), 4);
  EXPECT_TRUE(random.permutation(0).empty());
  EXPECT_ERROR(random.permutation(-1), "Random::permutation: n must be >= 0, got -1");
}

TEST(Random, WorksWithTheStandardAlgorithms) {
  std::vector<int> items = {1, 2, 3, 4, 5};
  auto shuffled = items;
  std::shuffle(shuffled.begin(), shuffled.end(), Random(1));
  EXPECT_TRUE(std::is_permutation(items.begin(), items.end(), shuffled.begin()));
}

}  // namespace
}  // namespace winnow
