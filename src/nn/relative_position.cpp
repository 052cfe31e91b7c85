#include "winnow/nn/relative_position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>

#include <cmath>

#include "winnow/core/error.h"
#include "winnow/nn/init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/generator.h"

namespace winnow {

Fields<RelativeBiasOptions> RelativeBiasOptions::fields() {
  return Fields<RelativeBiasOptions>("RelativeBias")
      .add("heads", &RelativeBiasOptions::heads, "attention heads", at_least(1))
      .add("buckets", &RelativeBiasOptions::buckets, "rows of the table", at_least(2))
      .add("max_distance", &RelativeBiasOptions::max_distance, "distances from here on share a bucket", at_least(1))
      .add("two_sided", &RelativeBiasOptions::two_sided, "whether later keys have buckets of their own")
      .rule([](const RelativeBiasOptions& o) {
        WINNOW_CHECK(!o.two_sided || (o.buckets % 2 == 0 && o.buckets >= 4),
                     "RelativeBias: buckets must be even and >= 4 when two-sided, got {}", o.buckets);
        const auto exact = o.buckets / (o.two_sided ? 4 : 2);
        WINNOW_CHECK(o.max_distance > exact, "RelativeBias: max_distance must be above {}, got {}", exact,
                     o.max_distance);
      });
}

at::Tensor relative_position_bucket(const at::Tensor& distance, const RelativeBiasOptions& options) {
  check_defined("relative_position_bucket: distance", distance);
  check_dtype("relative_position_bucket: distance", distance, at::kLong);
  WINNOW_CHECK(options.buckets >= (options.two_sided ? 4 : 2),
               "relative_position_bucket: buckets must be >= {}, got {}", options.two_sided ? 4 : 2, options.buckets);
  const auto buckets = options.two_sided ? options.buckets / 2 : options.buckets;
  const auto exact = buckets / 2;
  const auto reach = options.two_sided ? distance.abs() : (-distance).clamp_min(0);
  // Logarithms in float32, as the published code takes them: a distance at the edge of a bucket falls as it does there.
  const auto ratio = at::log(reach.to(at::kFloat) / static_cast<double>(exact)) /
                     std::log(static_cast<double>(options.max_distance) / static_cast<double>(exact));
  const auto coarse =
      (exact + (ratio.clamp_min(0.0) * static_cast<double>(buckets - exact)).to(at::kLong)).clamp_max(buckets - 1);
  auto bucket = at::where(reach < exact, reach, coarse);
  if (options.two_sided) bucket = bucket + (distance > 0).to(at::kLong) * buckets;
  return bucket;
}

RelativeBiasImpl::RelativeBiasImpl(RelativeBiasOptions opts) : options(opts) {
  check(options);
  reset();
}

void RelativeBiasImpl::reset() {
  weight = register_parameter("weight", at::empty({options.buckets, options.heads}, at::kFloat));
  const at::NoGradGuard no_grad;
  weight.normal_();
}

at::Tensor RelativeBiasImpl::forward(int64_t queries, int64_t keys, int64_t offset) {
  WINNOW_CHECK(queries >= 0 && keys >= 0 && offset >= 0,
               "RelativeBias: queries, keys and offset must be >= 0, got {}, {} and {}", queries, keys, offset);
  const auto ints = at::TensorOptions(at::kLong).device(weight.device());
  const auto distance = at::arange(keys, ints).unsqueeze(0) - at::arange(offset, offset + queries, ints).unsqueeze(1);
  const auto bias = at::embedding(weight, relative_position_bucket(distance, options));  // [Lq, Lk, H]
  return hooked(bias.permute({2, 0, 1}).unsqueeze(0));
}

Fields<GridBiasOptions> GridBiasOptions::fields() {
  return Fields<GridBiasOptions>("GridBias")
      .add("heads", &GridBiasOptions::heads, "attention heads", at_least(1))
      .add("rows", &GridBiasOptions::rows, "rows of the window", at_least(1))
      .add("columns", &GridBiasOptions::columns, "columns of the window", at_least(1));
}

GridBiasImpl::GridBiasImpl(GridBiasOptions opts) : options(opts) {
  check(options);
  reset();
}

void GridBiasImpl::reset() {
  const auto rows = options.rows, columns = options.columns, cells = rows * columns;
  weight = register_parameter("weight", at::empty({(2 * rows - 1) * (2 * columns - 1), options.heads}, at::kFloat));
  const at::NoGradGuard no_grad;
  trunc_normal_(weight, make_generator(0), 0.02, 0.0, -0.04, 0.04);
  const auto cell = at::arange(cells, at::kLong);
  const auto row = cell.floor_divide(columns), column = cell.remainder(columns);
  const auto down = row.unsqueeze(1) - row.unsqueeze(0) + (rows - 1);  // query minus key, from 0
  const auto right = column.unsqueeze(1) - column.unsqueeze(0) + (columns - 1);
  index = (down * (2 * columns - 1) + right).flatten();
}

at::Tensor GridBiasImpl::forward() {
  const auto cells = options.rows * options.columns;
  if (index.device() != weight.device()) index = index.to(weight.device());
  return hooked(at::embedding(weight, index).view({cells, cells, options.heads}).permute({2, 0, 1}).unsqueeze(0));
}

}  // namespace winnow
