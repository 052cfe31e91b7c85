#include "winnow/core/random.h"

#include <cmath>
#include <numbers>
#include <numeric>

#include "winnow/core/error.h"

namespace winnow {

double Random::uniform(double low, double high) {
  WINNOW_CHECK(low <= high && std::isfinite(low) && std::isfinite(high),
               "Random::uniform: low must be <= high and both finite, got {} and {}", low, high);
  return std::lerp(low, high, uniform());
}

uint64_t Random::below(uint64_t n) {
  // Lemire 2019, arXiv 1805.10941: the high half of a product, redrawn where the low half would bias it.
  auto product = static_cast<unsigned __int128>((*this)()) * n;
  if (static_cast<uint64_t>(product) < n) {
    const auto threshold = (0 - n) % n;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<unsigned __int128>((*this)()) * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

int64_t Random::integer(int64_t n) {
  WINNOW_CHECK(n >= 1, "Random::integer: n must be >= 1, got {}", n);
  return static_cast<int64_t>(below(static_cast<uint64_t>(n)));
}

int64_t Random::integer(int64_t low, int64_t high) {
  WINNOW_CHECK(low <= high, "Random::integer: low must be <= high, got {} and {}", low, high);
  const auto count = static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1;  // 0: every int64
  const auto offset = count == 0 ? (*this)() : below(count);
  return static_cast<int64_t>(static_cast<uint64_t>(low) + offset);
}

bool Random::chance(double p) {
  WINNOW_CHECK(p >= 0 && p <= 1, "Random::chance: p must be in [0, 1], got {}", p);
  return uniform() < p;
}

double Random::normal() {
  const auto radius = std::sqrt(-2 * std::log1p(-uniform()));  // 1 - u is in (0, 1]: the logarithm is finite
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

double Random::log_gamma_draw(double shape) {
  // Below 1, G(shape) = G(shape + 1) * U^(1 / shape), taken as a logarithm because the power underflows.
  if (shape < 1) {
    const auto boost = std::log1p(-uniform()) / shape;
    return log_gamma_draw(shape + 1) + boost;
  }
  const auto d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const auto x = normal();
    const auto root = 1 + c * x;
    if (root <= 0) continue;
    const auto v = root * root * root;
    if (std::log1p(-uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return std::log(d * v);
  }
}

double Random::gamma(double shape) {
  WINNOW_CHECK(shape > 0 && std::isfinite(shape), "Random::gamma: shape must be > 0 and finite, got {}", shape);
  return std::exp(log_gamma_draw(shape));
}

double Random::beta(double a, double b) {
  WINNOW_CHECK(a > 0 && b > 0 && std::isfinite(a) && std::isfinite(b),
               "Random::beta: a and b must be > 0 and finite, got {} and {}", a, b);
  const auto x = log_gamma_draw(a), y = log_gamma_draw(b);
  return 1 / (1 + std::exp(y - x));
}

std::vector<int64_t> Random::permutation(int64_t n) {
  WINNOW_CHECK(n >= 0, "Random::permutation: n must be >= 0, got {}", n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  shuffle(std::span(order));
  return order;
}

}  // namespace winnow
