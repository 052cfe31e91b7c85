#include "winnow/mae/masking.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/masking.h"

namespace winnow::mae {

EnumNames<MaskKind> enum_names(MaskKind) {
  return {{"random", MaskKind::random},
          {"grid", MaskKind::grid},
          {"block", MaskKind::block},
          {"inverse_block", MaskKind::inverse_block}};
}

Fields<MaskingOptions> MaskingOptions::fields() {
  return Fields<MaskingOptions>("Masking")
      .add("kind", &MaskingOptions::kind, "which patches are removed")
      .add("ratio", &MaskingOptions::ratio, "share of the patches that is removed",
           in_range(0.0, 1.0, Ends::right_open));
}

int64_t kept_count(int64_t positions, double ratio) {
  WINNOW_CHECK(positions >= 0, "kept_count: positions must be >= 0, got {}", positions);
  WINNOW_CHECK(ratio >= 0.0 && ratio < 1.0, "kept_count: ratio must be in [0, 1), got {}", ratio);
  return static_cast<int64_t>(static_cast<double>(positions) * (1.0 - ratio));
}

TokenMask mask_from_ranking(const at::Tensor& ranking, int64_t keep) {
  check_dim("mask_from_ranking: ranking", ranking, 2);
  check_floating("mask_from_ranking: ranking", ranking);
  WINNOW_CHECK(keep >= 1 && keep <= ranking.size(1), "mask_from_ranking: keep must be in [1, {}], got {}",
               ranking.size(1), keep);
  auto permutation = masking_permutation(ranking.detach(), keep);
  return {.ids_keep = std::move(permutation.ids_keep),
          .ids_restore = std::move(permutation.ids_restore),
          .mask = std::move(permutation.mask)};
}

TokenMask mask_from_removed(const at::Tensor& removed) {
  check_dim("mask_from_removed: removed", removed, 2);
  const auto ranking = removed.ne(0).to(at::kFloat);  // [B, L]; equal ranks keep raster order
  WINNOW_CHECK(ranking.size(0) >= 1, "mask_from_removed: removed must have at least one row, got shape {}",
               removed.sizes());
  const auto counts = ranking.sum(1);  // [B]
  const auto fewest = counts.min().item<int64_t>(), most = counts.max().item<int64_t>();
  WINNOW_CHECK(fewest == most, "mask_from_removed: every row must remove the same number, got {} to {}", fewest, most);
  WINNOW_CHECK(most < ranking.size(1), "mask_from_removed: every row must keep a position, got {} of {} removed", most,
               ranking.size(1));
  return mask_from_ranking(ranking, ranking.size(1) - most);
}

at::Tensor ids_removed(const TokenMask& mask) {
  // Row by row, as many in each as the kept ones leave.
  const auto B = mask.mask.size(0), R = mask.mask.size(1) - mask.ids_keep.size(1);
  return mask.mask.nonzero().select(1, 1).reshape({B, R});
}

namespace {

// All four positions of a 2 x 2 cell in turn, beginning with a drawn one and followed by its diagonal neighbour; inside
// a turn the order is random.
void rank_grid(float* row, int64_t height, int64_t width, Random& random) {
  static constexpr int kTurns[4][4] = {{0, 3, 1, 2}, {1, 2, 0, 3}, {2, 1, 3, 0}, {3, 0, 2, 1}};
  int place[4] = {};  // turn of each position (row % 2) * 2 + column % 2
  const auto* turns = kTurns[random.integer(4)];
  for (int turn = 0; turn < 4; ++turn) place[turns[turn]] = turn;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      row[y * width + x] = static_cast<float>(place[(y % 2) * 2 + x % 2] + random.uniform() * 0.999);
    }
  }
}

// Positions in the order in which rectangles cover them, until `wanted` are covered; the rest follows at random.
// Algorithm 1 of BEiT: areas from 16/196 of the grid up to what is missing, aspect ratios log-uniform in [0.3, 1/0.3].
std::vector<int64_t> block_order(int64_t height, int64_t width, int64_t wanted, Random& random) {
  constexpr int kAttempts = 32;  // without a new position, before the rest is taken at random
  const auto L = height * width;
  const auto smallest = std::max(1.0, static_cast<double>(L) * 16.0 / 196.0);
  const auto log_aspect = std::log(1.0 / 0.3);
  std::vector<int64_t> order;
  std::vector<char> covered(static_cast<size_t>(L), 0);
  order.reserve(static_cast<size_t>(L));
  const auto cover = [&](int64_t position) {
    if (covered[static_cast<size_t>(position)]) return;
    covered[static_cast<size_t>(position)] = 1;
    order.push_back(position);
  };
  for (int attempt = 0; attempt < kAttempts && std::ssize(order) < wanted; ++attempt) {
    const auto before = order.size();
    const auto missing = static_cast<double>(wanted - std::ssize(order));
    const auto area = random.uniform(std::min(smallest, missing), std::max(smallest, missing));
    const auto aspect = std::exp(random.uniform(-log_aspect, log_aspect));
    const auto rows = std::clamp<int64_t>(std::llround(std::sqrt(area * aspect)), 1, height);
    const auto columns = std::clamp<int64_t>(std::llround(std::sqrt(area / aspect)), 1, width);
    const auto top = random.integer(height - rows + 1), left = random.integer(width - columns + 1);
    for (int64_t y = top; y < top + rows; ++y) {
      for (int64_t x = left; x < left + columns; ++x) cover(y * width + x);
    }
    if (order.size() > before) attempt = -1;
  }
  for (const auto position : random.permutation(L)) cover(position);
  return order;
}

}  // namespace

at::Tensor draw_ranking(MaskKind kind, int64_t batch, int64_t grid_height, int64_t grid_width, int64_t keep,
                        at::Generator generator) {
  const auto L = grid_height * grid_width;
  WINNOW_CHECK(batch >= 0 && grid_height >= 1 && grid_width >= 1,
               "draw_ranking: batch must be >= 0 and the grid >= 1 x 1, got batch {}, grid {} x {}", batch, grid_height,
               grid_width);
  WINNOW_CHECK(keep >= 1 && keep <= L, "draw_ranking: keep must be in [1, {}], got {}", L, keep);
  if (kind == MaskKind::random) return at::rand({batch, L}, generator, at::kFloat);
  const auto seed = at::randint(std::numeric_limits<int64_t>::max(), {1}, generator, at::kLong).item<int64_t>();
  auto ranking = at::empty({batch, L}, at::kFloat);
  for (int64_t b = 0; b < batch; ++b) {
    Random random(derive_seed(static_cast<uint64_t>(seed), b));
    auto* row = ranking.mutable_data_ptr<float>() + b * L;
    if (kind == MaskKind::grid) {
      rank_grid(row, grid_height, grid_width, random);
      continue;
    }
    const bool keeps = kind == MaskKind::inverse_block;
    const auto order = block_order(grid_height, grid_width, keeps ? keep : L - keep, random);
    for (int64_t i = 0; i < L; ++i) {
      row[order[static_cast<size_t>(i)]] = static_cast<float>(keeps ? i : L - 1 - i);
    }
  }
  return ranking;
}

TokenMask draw_mask(const MaskingOptions& options, int64_t batch, int64_t grid_height, int64_t grid_width,
                    at::Generator generator, at::Device device) {
  check(options);
  const auto L = grid_height * grid_width;
  const auto keep = kept_count(L, options.ratio);
  WINNOW_CHECK(keep >= 1, "draw_mask: ratio must leave a patch of {}, got {}", L, options.ratio);
  return mask_from_ranking(
      draw_ranking(options.kind, batch, grid_height, grid_width, keep, std::move(generator)).to(device), keep);
}

RandomMaskingOutput random_masking(const at::Tensor& tokens, const at::Tensor& noise, double ratio) {
  check_dim("random_masking: tokens", tokens, 3);
  check_shape("random_masking: noise", noise, {tokens.size(0), tokens.size(1)});
  const auto keep = kept_count(tokens.size(1), ratio);
  WINNOW_CHECK(keep >= 1, "random_masking: ratio must leave a token of {}, got {}", tokens.size(1), ratio);
  auto mask = mask_from_ranking(noise, keep);
  return {.kept = gather_tokens(tokens, mask.ids_keep), .mask = std::move(mask)};
}

}  // namespace winnow::mae
