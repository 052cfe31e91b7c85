#include "winnow/nn/logit_rules.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "winnow/core/error.h"

namespace winnow::logit_row {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool inside(std::span<const float> row, int64_t token) {
  return token >= 0 && token < static_cast<int64_t>(row.size());
}

// The distinct tokens of the history that have a logit, ascending.
std::vector<int64_t> distinct(std::span<const float> row, TokenSpan history) {
  std::vector<int64_t> tokens(history.begin(), history.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  std::erase_if(tokens, [&](int64_t token) { return !inside(row, token); });
  return tokens;
}

// log(sum(exp(row))) in float64.
double log_sum_exp(std::span<const float> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  if (!std::isfinite(largest)) return largest;
  double sum = 0;
  for (const auto x : row) sum += std::exp(static_cast<double>(x) - largest);
  return largest + std::log(sum);
}

}  // namespace

void penalize_repetition(std::span<float> row, TokenSpan history, double penalty) {
  WINNOW_CHECK(penalty > 0 && std::isfinite(penalty), "penalize_repetition: penalty must be > 0, got {}", penalty);
  if (penalty == 1) return;
  const auto factor = static_cast<float>(penalty);
  for (const auto token : distinct(row, history)) {
    auto& x = row[static_cast<size_t>(token)];
    x = x < 0 ? x * factor : x / factor;
  }
}

void penalize_presence(std::span<float> row, TokenSpan history, double presence, double frequency) {
  WINNOW_CHECK(std::isfinite(presence) && std::isfinite(frequency),
               "penalize_presence: penalties must be finite, got {} and {}", presence, frequency);
  if (presence != 0) {
    for (const auto token : distinct(row, history)) row[static_cast<size_t>(token)] -= static_cast<float>(presence);
  }
  if (frequency != 0) {
    for (const auto token : history) {
      if (inside(row, token)) row[static_cast<size_t>(token)] -= static_cast<float>(frequency);
    }
  }
}

void forbid_ngrams(std::span<float> row, TokenSpan history, TokenSpan earlier, int64_t n) {
  WINNOW_CHECK(n >= 1, "forbid_ngrams: n must be >= 1, got {}", n);
  const auto known = static_cast<size_t>(n - 1);
  if (history.size() < known || earlier.size() < static_cast<size_t>(n)) return;
  const auto last = history.last(known);
  for (size_t begin = 0; begin + known < earlier.size(); ++begin) {
    const auto next = earlier[begin + known];
    if (inside(row, next) && std::equal(last.begin(), last.end(), earlier.begin() + static_cast<ptrdiff_t>(begin))) {
      row[static_cast<size_t>(next)] = kNever;
    }
  }
}

void forbid(std::span<float> row, TokenSpan tokens) {
  for (const auto token : tokens) {
    if (inside(row, token)) row[static_cast<size_t>(token)] = kNever;
  }
}

void force(std::span<float> row, TokenSpan tokens) {
  std::fill(row.begin(), row.end(), kNever);
  for (const auto token : tokens) {
    if (inside(row, token)) row[static_cast<size_t>(token)] = 0;
  }
}

void add_bias(std::span<float> row, TokenSpan history, const SequenceBias& bias) {
  WINNOW_CHECK(!bias.tokens.empty(), "add_bias: a sequence must have at least one token");
  WINNOW_CHECK(bias.bias < std::numeric_limits<double>::infinity(), "add_bias: a bias must be finite or -inf, got {}",
               bias.bias);
  const auto before = TokenSpan(bias.tokens).first(bias.tokens.size() - 1);
  const auto token = bias.tokens.back();
  if (!inside(row, token) || history.size() < before.size()) return;
  const auto end = history.last(before.size());
  if (std::equal(end.begin(), end.end(), before.begin())) {
    row[static_cast<size_t>(token)] += static_cast<float>(bias.bias);
  }
}

void guide(std::span<float> row, std::span<const float> unconditional, double scale) {
  WINNOW_CHECK(row.size() == unconditional.size(), "guide: both rows must have the same length, got {} and {}",
               row.size(), unconditional.size());
  WINNOW_CHECK(std::isfinite(scale) && scale >= 0, "guide: scale must be >= 0 and finite, got {}", scale);
  if (row.empty()) return;
  const auto row_norm = log_sum_exp(row), other_norm = log_sum_exp(unconditional);
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] == kNever) continue;
    const double c = row[i] - row_norm, u = unconditional[i] - other_norm;
    row[i] = static_cast<float>(unconditional[i] == kNever ? c : u + scale * (c - u));
  }
}

}  // namespace winnow::logit_row
