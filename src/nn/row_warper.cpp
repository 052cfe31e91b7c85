#include "row_warper.h"

#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "winnow/core/error.h"

namespace winnow::detail {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 16;

// The k-th largest entry, 1 <= k <= size; -infinity if fewer entries are finite. Blocks below what is surely among the
// k largest are passed over.
float kth_largest(std::span<const float> row, size_t k, std::vector<float>& heap) {
  const auto falling = std::greater<float>();
  const auto kth = [&] { return heap.begin() + static_cast<ptrdiff_t>(k - 1); };
  if (4 * k >= row.size()) {
    heap.assign(row.begin(), row.end());
    std::nth_element(heap.begin(), kth(), heap.end(), falling);
    return *kth();
  }
  heap.clear();
  float bar = kNever;
  const size_t room = 2 * k + 64;
  for (size_t begin = 0; begin < row.size(); begin += 4 * kLanes) {
    const auto block = row.subspan(begin, std::min(4 * kLanes, row.size() - begin));
    float above = kNever;
    for (const auto x : block) above = x > above ? x : above;
    if (above <= bar) continue;
    for (const auto x : block) {
      if (x > bar) heap.push_back(x);
    }
    if (heap.size() < room) continue;
    std::nth_element(heap.begin(), kth(), heap.end(), falling);
    bar = *kth();
    heap.resize(k);
  }
  if (heap.size() < k) return kNever;
  std::nth_element(heap.begin(), kth(), heap.end(), falling);
  return *kth();
}

// Rearranges items so that the first n come before all others in the order, where n is the least number >= at_least
// whose weights sum to `target` or more; returns n. Like quickselect: nothing but the neighbourhood of the cut is
// sorted.
template <typename T, typename Before>
size_t prefix_with_mass(std::vector<T>& items, double target, size_t at_least, Before before) {
  size_t low = 0, high = items.size();  // [0, low) is in, [high, end) is out
  double mass = 0;                      // of [0, low)
  const auto at = [&](size_t i) { return items.begin() + static_cast<ptrdiff_t>(i); };
  while (high - low > 32) {
    std::array<T, 3> three{items[low], items[low + (high - low) / 2], items[high - 1]};
    std::sort(three.begin(), three.end(), before);
    // At least `low`'s smallest of three and the pivot stand on either side, so that the range always shrinks.
    const auto middle = std::partition(at(low), at(high), [&](const T& item) { return before(item, three[1]); });
    const auto cut = static_cast<size_t>(middle - items.begin());
    double left = 0;
    for (size_t i = low; i < cut; ++i) left += items[i].weight;
    if (mass + left >= target && cut >= at_least) {
      high = cut;
    } else {
      low = cut;
      mass += left;
    }
  }
  std::sort(at(low), at(high), before);
  while (low < high && (mass < target || low < at_least)) mass += items[low++].weight;
  return low;
}

}  // namespace

float check_row(std::span<const float> row, const char* what, int64_t index) {
  std::array<float, kLanes> largest{};
  std::array<int32_t, kLanes> wrong{};
  largest.fill(kNever);
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const auto x = row[i + lane];
      largest[lane] = x > largest[lane] ? x : largest[lane];
      wrong[lane] |= !(x <= std::numeric_limits<float>::max());
    }
  }
  for (; i < row.size(); ++i) {
    largest[0] = std::max(largest[0], row[i]);
    wrong[0] |= !(row[i] <= std::numeric_limits<float>::max());
  }
  const bool any_wrong = std::any_of(wrong.begin(), wrong.end(), [](int32_t w) { return w != 0; });
  WINNOW_CHECK(!any_wrong, "{}: logits of row {} must hold no NaN and no +infinity", what, index);
  const auto top = *std::max_element(largest.begin(), largest.end());
  WINNOW_CHECK(top > kNever, "{}: logits of row {} must have a finite entry, all {} are -infinity", what, index,
               row.size());
  return top;
}

double exp_row(std::span<const float> row, float temperature, float largest, std::vector<float>& weights) {
  weights.resize(row.size());
  for (size_t i = 0; i < row.size(); ++i) weights[i] = row[i] / temperature - largest;
  if (row.size() >= 1024) {  // LibTorch's is vectorised; its call costs as much as some hundred entries
    auto tensor = at::from_blob(weights.data(), {static_cast<int64_t>(weights.size())}, at::kFloat);
    at::exp_(tensor);
  } else {
    for (auto& w : weights) w = std::exp(w);
  }
  std::array<double, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= weights.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += weights[i + lane];
  }
  double sum = 0;
  for (; i < weights.size(); ++i) sum += weights[i];
  for (const auto s : sums) sum += s;
  return sum;
}

void RowWarper::collect(std::span<const float> row, float lowest) {
  kept_.clear();
  mass_ = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const auto x = row[i] / temperature_;
    if (x < lowest || x == kNever) continue;
    const auto weight = std::exp(x - largest_);
    kept_.push_back({.logit = x, .weight = weight, .id = static_cast<int64_t>(i)});
    mass_ += weight;
  }
}

// The largest tokens, enough of them for top-p, and as mass_ that of all tokens.
void RowWarper::collect_nucleus(std::span<const float> row, const WarpOptions& options) {
  const auto everything = exp_row(row, temperature_, largest_, weights_);
  const auto enough = static_cast<size_t>(options.min_tokens);
  for (float bar = 1e-3F;; bar *= 1e-3F) {
    if (bar < 1e-12F) bar = 0;
    kept_.clear();
    double mass = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      if (weights_[i] < bar || row[i] == kNever) continue;
      kept_.push_back({.logit = row[i] / temperature_, .weight = weights_[i], .id = static_cast<int64_t>(i)});
      mass += weights_[i];
    }
    if (bar == 0 || (kept_.size() >= enough && mass >= options.top_p * everything)) break;
  }
  mass_ = everything;
}

void RowWarper::keep_first(size_t count) {
  kept_.resize(count);
  mass_ = 0;
  for (const auto& c : kept_) mass_ += c.weight;
}

constexpr auto kLarger = [](const auto& a, const auto& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

void RowWarper::keep_top_p(double p, size_t min_tokens) {
  keep_first(prefix_with_mass(kept_, p * mass_, min_tokens, kLarger));
}

void RowWarper::keep_min_p(double p, size_t min_tokens) {
  const double bar = largest_ + std::log(p);
  const auto end = std::partition(kept_.begin(), kept_.end(), [&](const Candidate& c) { return c.logit >= bar; });
  auto count = static_cast<size_t>(end - kept_.begin());
  if (count < min_tokens) count = prefix_with_mass(kept_, 0, std::min(min_tokens, kept_.size()), kLarger);
  keep_first(count);
}

double RowWarper::entropy() const {
  double sum = 0;
  for (const auto& c : kept_) sum += c.weight * (c.logit - static_cast<double>(largest_));
  return std::log(mass_) - sum / mass_;
}

void RowWarper::keep_typical(double p, size_t min_tokens) {
  const auto expected = entropy(), norm = largest_ + std::log(mass_);
  for (auto& c : kept_) c.key = std::abs(norm - c.logit - expected);
  const auto nearer = [](const Candidate& a, const Candidate& b) {
    return a.key < b.key || (a.key == b.key && a.id < b.id);
  };
  auto count = prefix_with_mass(kept_, p * mass_, 1, nearer);
  double farthest = 0;
  for (size_t i = 0; i < count; ++i) farthest = std::max(farthest, kept_[i].key);
  const auto end = std::partition(kept_.begin(), kept_.end(), [&](const Candidate& c) { return c.key <= farthest; });
  count = static_cast<size_t>(end - kept_.begin());
  if (count < min_tokens) count = prefix_with_mass(kept_, 0, std::min(min_tokens, kept_.size()), nearer);
  keep_first(count);
}

void RowWarper::keep_probable(double least, size_t min_tokens) {
  const auto bar = least * mass_;
  float tie = std::numeric_limits<float>::infinity();  // the min_tokens-th largest logit
  if (min_tokens >= kept_.size()) return;
  const auto nth = kept_.begin() + static_cast<ptrdiff_t>(min_tokens - 1);
  std::nth_element(kept_.begin(), nth, kept_.end(), kLarger);
  tie = nth->logit;
  const auto end =
      std::partition(kept_.begin(), kept_.end(), [&](const Candidate& c) { return c.weight >= bar || c.logit >= tie; });
  keep_first(static_cast<size_t>(end - kept_.begin()));
}

// The tokens that are left by the rules which need no sorting; true if no other rule is on.
bool RowWarper::find_candidates(std::span<const float> row, const WarpOptions& options) {
  const bool others = options.typical_p < 1 || options.epsilon_cutoff > 0 || options.eta_cutoff > 0;
  const auto k = static_cast<size_t>(std::max(options.top_k, options.min_tokens));
  if (options.top_k > 0 && k < row.size()) {
    collect(row, kth_largest(row, k, heap_) / temperature_);
  } else if (options.top_p < 1) {
    collect_nucleus(row, options);
  } else if (others || options.min_p > 0) {
    collect(row, kNever);
  } else {
    all_ = true;
    mass_ = exp_row(row, temperature_, largest_, weights_);
  }
  return all_;
}

void RowWarper::load(std::span<const float> row, const WarpOptions& options, const char* what, int64_t index) {
  row_ = row;
  all_ = false;
  const auto top = check_row(row, what, index);
  temperature_ = static_cast<float>(options.temperature);
  if (temperature_ == 0 || !std::isfinite(top / temperature_)) {  // an overflow is the limit of temperature 0
    const auto first = std::find(row.begin(), row.end(), top) - row.begin();
    kept_.assign(1, {.logit = 0, .weight = 1, .id = first});
    mass_ = 1;
    return;
  }
  largest_ = top / temperature_;
  if (find_candidates(row, options)) return;
  const auto least = static_cast<size_t>(options.min_tokens);
  if (options.top_p < 1) keep_top_p(options.top_p, std::min(least, kept_.size()));
  if (options.min_p > 0) keep_min_p(options.min_p, least);
  if (options.typical_p < 1) keep_typical(options.typical_p, least);
  if (options.epsilon_cutoff > 0) keep_probable(options.epsilon_cutoff, least);
  if (options.eta_cutoff > 0) {
    keep_probable(std::min(options.eta_cutoff, std::sqrt(options.eta_cutoff) * std::exp(-entropy())), least);
  }
  std::sort(kept_.begin(), kept_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

DrawnToken RowWarper::draw(double uniform) const {
  const auto target = uniform * mass_;
  double sum = 0;
  DrawnToken last;  // the last token that can be drawn, should rounding leave the sum below the target
  if (all_) {
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (weights_[i] == 0) continue;
      sum += weights_[i];
      last = {.token = static_cast<int64_t>(i), .probability = weights_[i] / mass_};
      if (sum > target) break;
    }
    return last;
  }
  for (const auto& c : kept_) {
    if (c.weight == 0) continue;
    sum += c.weight;
    last = {.token = c.id, .probability = c.weight / mass_};
    if (sum > target) break;
  }
  return last;
}

void RowWarper::write_logits(std::span<float> out) const {
  if (all_) {
    for (size_t i = 0; i < row_.size(); ++i) out[i] = row_[i] / temperature_;
    return;
  }
  std::fill(out.begin(), out.end(), kNever);
  for (const auto& c : kept_) out[static_cast<size_t>(c.id)] = c.logit;
}

void RowWarper::write_probabilities(std::span<float> out) const {
  if (all_) {
    for (size_t i = 0; i < row_.size(); ++i) out[i] = static_cast<float>(weights_[i] / mass_);
    return;
  }
  std::fill(out.begin(), out.end(), 0.0F);
  for (const auto& c : kept_) out[static_cast<size_t>(c.id)] = static_cast<float>(c.weight / mass_);
}

}  // namespace winnow::detail
