// Random numbers without LibTorch: seeds derived from seeds, and a small generator whose n-th number depends only on
// the seed and n. The same seed gives the same integers everywhere, and the same reals on machines with the same libm.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace winnow {

// The finaliser of SplitMix64: a bijection of 64-bit numbers in which every input bit moves about half of the output
// bits. Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
constexpr uint64_t mix_bits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// A seed for one purpose: derive_seed(run_seed, epoch, sample). Different arguments, also in another order or number,
// give unrelated seeds; derive_seed(s) is not s.
template <typename... Streams>
constexpr uint64_t derive_seed(uint64_t seed, Streams... streams) {
  uint64_t hash = mix_bits(seed + 0x9E3779B97F4A7C15u);
  ((hash = mix_bits(hash + 0x9E3779B97F4A7C15u + mix_bits(static_cast<uint64_t>(streams) + 0xD1B54A32D192ED03u))), ...);
  return hash;
}

// SplitMix64 as a counter: number n is mix_bits(key + (n + 1) * golden). Period 2^64. Meets the standard's
// UniformRandomBitGenerator. Not for secrets. A value: copy it to repeat, give each thread its own.
class Random {
 public:
  using result_type = uint64_t;
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }

  explicit Random(uint64_t seed = 0) : key_(derive_seed(seed)) {}

  uint64_t operator()() { return mix_bits(key_ + ++count_ * 0x9E3779B97F4A7C15u); }

  // Numbers drawn so far; set it to go there at once.
  [[nodiscard]] uint64_t count() const { return count_; }
  void set_count(uint64_t count) { count_ = count; }

  // In [0, 1), a multiple of 2^-53. Takes one number.
  double uniform() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }
  // In [low, high]; low <= high and both finite, else Error (argument).
  double uniform(double low, double high);
  // In [0, n), each equally likely (no modulo bias); n >= 1, else Error (argument).
  int64_t integer(int64_t n);
  // In [low, high], both included; low <= high, else Error (argument).
  int64_t integer(int64_t low, int64_t high);
  // True with probability p; p in [0, 1], else Error (argument).
  bool chance(double p);
  // Mean 0, variance 1 (Box and Muller; takes two numbers).
  double normal();
  double normal(double mean, double deviation) { return mean + deviation * normal(); }
  // Gamma with this shape > 0 and scale 1 (Marsaglia and Tsang 2000), else Error (argument).
  double gamma(double shape);
  // Beta(a, b) for a, b > 0, else Error (argument). Safe down to shapes at which each gamma underflows.
  double beta(double a, double b);

  // Fisher and Yates: every order equally likely.
  template <typename T>
  void shuffle(std::span<T> items) {
    for (auto i = static_cast<int64_t>(items.size()) - 1; i > 0; --i) {
      std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(integer(i + 1))]);
    }
  }
  // 0 ... n-1 in random order; n >= 0, else Error (argument).
  std::vector<int64_t> permutation(int64_t n);

 private:
  uint64_t below(uint64_t n);           // in [0, n), n >= 1
  double log_gamma_draw(double shape);  // the logarithm of a gamma draw

  uint64_t key_;
  uint64_t count_ = 0;
};

}  // namespace winnow
