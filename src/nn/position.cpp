#include "winnow/nn/position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/zeros.h>

#include "winnow/core/error.h"
#include "winnow/nn/skip_init.h"
#include "winnow/tensor/check.h"

namespace winnow {

EnumNames<SincosLayout> enum_names(SincosLayout) {
  return {{"halves", SincosLayout::halves}, {"interleaved", SincosLayout::interleaved}};
}

EnumNames<GridOrder> enum_names(GridOrder) {
  return {{"column_first", GridOrder::column_first}, {"row_first", GridOrder::row_first}};
}

at::Tensor sincos_1d_pos_embed(int64_t dim, const at::Tensor& positions, SincosLayout layout, at::ScalarType dtype) {
  WINNOW_CHECK(dim >= 2 && dim % 2 == 0, "sincos_1d_pos_embed: dim must be even and >= 2, got {}", dim);
  check_defined("sincos_1d_pos_embed: positions", positions);
  check_dim("sincos_1d_pos_embed: positions", positions, 1);
  const auto half = dim / 2;
  const auto place = positions.detach().to(at::kCPU, at::kDouble);
  const auto exponent = at::arange(half, at::kDouble) / static_cast<double>(half);
  const auto angles = at::outer(place, 1.0 / at::pow(10000.0, exponent));  // [N, dim/2]
  const auto table = layout == SincosLayout::halves ? at::cat({angles.sin(), angles.cos()}, 1)
                                                    : at::stack({angles.sin(), angles.cos()}, 2).flatten(1);
  return table.to(dtype);
}

at::Tensor sincos_1d_pos_embed(int64_t dim, int64_t length, SincosLayout layout, at::ScalarType dtype) {
  WINNOW_CHECK(length >= 0, "sincos_1d_pos_embed: length must be >= 0, got {}", length);
  return sincos_1d_pos_embed(dim, at::arange(length, at::kDouble), layout, dtype);
}

namespace {

at::Tensor with_prefix(const at::Tensor& table, int64_t prefix) {
  return prefix == 0 ? table : at::cat({at::zeros({prefix, table.size(1)}, table.options()), table});
}

// The table of one axis, [size, channels], spread over the cells of a grid of `before` x size x `after`.
at::Tensor axis_over_grid(int64_t channels, int64_t before, int64_t size, int64_t after) {
  return sincos_1d_pos_embed(channels, size, SincosLayout::halves, at::kDouble)
      .view({1, size, 1, channels})
      .expand({before, size, after, channels})
      .reshape({before * size * after, channels});
}

}  // namespace

at::Tensor sincos_2d_pos_embed(int64_t dim, int64_t rows, int64_t columns, int64_t prefix, GridOrder order,
                               at::ScalarType dtype) {
  WINNOW_CHECK(dim >= 4 && dim % 4 == 0, "sincos_2d_pos_embed: dim must be divisible by 4, got {}", dim);
  WINNOW_CHECK(rows >= 1 && columns >= 1, "sincos_2d_pos_embed: rows and columns must be >= 1, got {} and {}", rows,
               columns);
  WINNOW_CHECK(prefix >= 0, "sincos_2d_pos_embed: prefix must be >= 0, got {}", prefix);
  const auto row = axis_over_grid(dim / 2, 1, rows, columns);
  const auto column = axis_over_grid(dim / 2, rows, columns, 1);
  const auto table = order == GridOrder::column_first ? at::cat({column, row}, 1) : at::cat({row, column}, 1);
  return with_prefix(table, prefix).to(dtype);
}

at::Tensor sincos_3d_pos_embed(int64_t dim, int64_t depth, int64_t rows, int64_t columns, int64_t prefix,
                               GridOrder order, at::ScalarType dtype) {
  WINNOW_CHECK(dim >= 6 && dim % 6 == 0, "sincos_3d_pos_embed: dim must be divisible by 6, got {}", dim);
  WINNOW_CHECK(depth >= 1 && rows >= 1 && columns >= 1,
               "sincos_3d_pos_embed: depth, rows and columns must be >= 1, got {}, {} and {}", depth, rows, columns);
  WINNOW_CHECK(prefix >= 0, "sincos_3d_pos_embed: prefix must be >= 0, got {}", prefix);
  const auto layer = axis_over_grid(dim / 3, 1, depth, rows * columns);
  const auto row = axis_over_grid(dim / 3, depth, rows, columns);
  const auto column = axis_over_grid(dim / 3, depth * rows, columns, 1);
  const auto table =
      order == GridOrder::column_first ? at::cat({layer, column, row}, 1) : at::cat({layer, row, column}, 1);
  return with_prefix(table, prefix).to(dtype);
}

Fields<LearnedPositionsOptions> LearnedPositionsOptions::fields() {
  return Fields<LearnedPositionsOptions>("LearnedPositions")
      .add("length", &LearnedPositionsOptions::length, "positions in the table", at_least(1))
      .add("dim", &LearnedPositionsOptions::dim, "width of a row", at_least(1));
}

LearnedPositionsImpl::LearnedPositionsImpl(LearnedPositionsOptions opts) : options(opts) {
  check(options);
  reset();
}

void LearnedPositionsImpl::reset() {
  weight = register_parameter("weight", at::empty({options.length, options.dim}, at::kFloat));
  if (SkipRandomInit::active()) return;
  const at::NoGradGuard no_grad;
  weight.normal_(0.0, 0.02);
}

at::Tensor LearnedPositionsImpl::forward(int64_t length, int64_t offset) {
  WINNOW_CHECK(length >= 0 && offset >= 0 && offset + length <= options.length,
               "LearnedPositions: rows {} to {} must lie in the table of {}", offset, offset + length, options.length);
  return hooked(weight.narrow(0, offset, length));
}

at::Tensor LearnedPositionsImpl::forward(const at::Tensor& ids) {
  check_dtype("LearnedPositions: ids", ids, at::kLong);
  check_device("LearnedPositions: ids", ids, weight.device());
  check_indices("LearnedPositions: ids", ids, options.length);
  return hooked(at::embedding(weight, ids));
}

namespace {

// [N, D] as an image [1, D, h, w], resized, and back to [h' w', D].
at::Tensor resize(const at::Tensor& rows, GridSize from, GridSize to) {
  const auto dim = rows.size(-1);
  const auto dtype = rows.scalar_type();
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;
  const auto image = rows.view({from.rows, from.columns, dim}).permute({2, 0, 1}).unsqueeze(0);
  const auto resized = at::upsample_bicubic2d(half ? image.to(at::kFloat) : image, {to.rows, to.columns},
                                              /*align_corners=*/false);
  return resized.squeeze(0).permute({1, 2, 0}).reshape({to.rows * to.columns, dim}).to(dtype);
}

at::Tensor interpolate(const char* name, const at::Tensor& table, GridSize from, GridSize to, int64_t prefix) {
  const bool batched = table.dim() == 3;
  const auto rows = batched ? table.squeeze(0) : table;  // [prefix + N, D]
  WINNOW_CHECK(from.rows >= 1 && from.columns >= 1 && to.rows >= 1 && to.columns >= 1,
               "{}: grid sizes must be >= 1, got {} x {} to {} x {}", name, from.rows, from.columns, to.rows,
               to.columns);
  WINNOW_CHECK(rows.size(0) == prefix + from.rows * from.columns, "{}: table must have {} + {} x {} rows, got {}", name,
               prefix, from.rows, from.columns, rows.size(0));
  if (from.rows == to.rows && from.columns == to.columns) return table;
  auto resized = resize(rows.narrow(0, prefix, rows.size(0) - prefix).contiguous(), from, to);
  if (prefix > 0) resized = at::cat({rows.narrow(0, 0, prefix), resized});
  return batched ? resized.unsqueeze(0) : resized;
}

void check_table(const char* name, const at::Tensor& table, int64_t prefix) {
  WINNOW_CHECK(table.defined(), "{}: table must be defined", name);
  WINNOW_CHECK(table.dim() == 2 || (table.dim() == 3 && table.size(0) == 1),
               "{}: table must have shape [N, D] or [1, N, D], got [{}]", name, fmt::join(table.sizes(), ", "));
  check_floating(fmt::format("{}: table", name), table);
  WINNOW_CHECK(prefix >= 0 && prefix < table.size(-2), "{}: prefix must be in [0, {}), got {}", name, table.size(-2),
               prefix);
}

}  // namespace

at::Tensor interpolate_pos_embed(const at::Tensor& table, GridSize from, GridSize to, int64_t prefix) {
  check_table("interpolate_pos_embed", table, prefix);
  return interpolate("interpolate_pos_embed", table, from, to, prefix);
}

at::Tensor interpolate_pos_embed_line(const at::Tensor& table, int64_t length, int64_t prefix) {
  check_table("interpolate_pos_embed_line", table, prefix);
  const GridSize from{.rows = 1, .columns = table.size(-2) - prefix};
  return interpolate("interpolate_pos_embed_line", table, from, {.rows = 1, .columns = length}, prefix);
}

}  // namespace winnow
