// Seeded draws of the data layer: small, portable, the same on every machine and for any number of threads.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

namespace winnow::data {

// A seed for one place in a tree of seeds, for example derive_seed(seed, {epoch, index}). Two different paths give
// unrelated seeds; an empty path gives a seed that is a fixed function of `seed`.
uint64_t derive_seed(uint64_t seed, std::initializer_list<uint64_t> path);

// A stream of random numbers (splitmix64): every value is a pure function of the seed and of the number of draws
// before it. Not for cryptography. Not thread safe: give each sample its own.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits();                        // 64 uniform bits
  double uniform();                       // in [0, 1), 53 bits
  double uniform(double low, double high);  // in [low, high)
  int64_t below(int64_t n);               // uniform in 0 .. n - 1, without bias; n >= 1
  bool chance(double probability);        // true with that probability; always one draw
  double normal();                        // mean 0, variance 1 (Box-Muller, one value of the pair)
  double gamma(double shape);             // scale 1, shape > 0 (Marsaglia and Tsang 2000)
  double beta(double a, double b);        // a, b > 0

 private:
  uint64_t state_;
};

// The numbers 0 .. n - 1 in an order drawn by the seed (Fisher-Yates).
std::vector<int64_t> permutation(int64_t n, uint64_t seed);

}  // namespace winnow::data
