#include "winnow/nn/position.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "support/error.h"
#include "support/golden.h"
#include "support/tensor_near.h"
#include "winnow/nn/relative_position.h"

namespace winnow {
namespace {

namespace golden = testing::golden;

// The definition, entry by entry: channel c of one axis of `dim` channels at `place`, sines first.
double axis_entry(int64_t dim, int64_t c, double place) {
  const int64_t half = dim / 2, i = c % half;
  const double angle = place * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
  return c < half ? std::sin(angle) : std::cos(angle);
}

TEST(SincosPositions, TheWorkedExampleOfWidthEightOnATwoByTwoGrid) {
  const auto table = sincos_2d_pos_embed(8, 2, 2, 1);
  ASSERT_EQ(table.sizes(), (std::vector<int64_t>{5, 8}));
  EXPECT_TENSOR_NEAR(table[0], at::zeros({8}), 0.0);  // class row
  EXPECT_TENSOR_NEAR(table[2], at::tensor({0.841471, 0.0099998, 0.540302, 0.99995, 0., 0., 1., 1.}, at::kFloat), 1e-6);
  EXPECT_TENSOR_NEAR(table[3], at::tensor({0., 0., 1., 1., 0.841471, 0.0099998, 0.540302, 0.99995}, at::kFloat), 1e-6);
}

TEST(SincosPositions, EveryEntryFollowsItsDefinitionInBothOrders) {
  const int64_t dim = 12, rows = 3, columns = 5;
  const auto by_column = sincos_2d_pos_embed(dim, rows, columns, 0, GridOrder::column_first, at::kDouble);
  const auto by_row = sincos_2d_pos_embed(dim, rows, columns, 0, GridOrder::row_first, at::kDouble);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t k = 0; k < dim; ++k) {
        const bool first = k < dim / 2;
        const auto token = r * columns + c;
        EXPECT_NEAR(by_column[token][k].item<double>(),
                    axis_entry(dim / 2, k % (dim / 2), static_cast<double>(first ? c : r)), 1e-12);
        EXPECT_NEAR(by_row[token][k].item<double>(),
                    axis_entry(dim / 2, k % (dim / 2), static_cast<double>(first ? r : c)), 1e-12);
      }
    }
  }
}

TEST(SincosPositions, ThreeAxesShareTheChannelsDepthFirst) {
  const int64_t dim = 18, depth = 2, rows = 3, columns = 4, third = dim / 3;
  const auto table = sincos_3d_pos_embed(dim, depth, rows, columns, 0, GridOrder::row_first, at::kDouble);
  const auto swapped = sincos_3d_pos_embed(dim, depth, rows, columns, 2, GridOrder::column_first, at::kDouble);
  ASSERT_EQ(swapped.size(0), 2 + depth * rows * columns);
  EXPECT_TENSOR_NEAR(swapped.narrow(0, 0, 2), at::zeros({2, dim}), 0.0);
  for (int64_t t = 0; t < depth; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        const auto token = (t * rows + r) * columns + c;
        for (int64_t k = 0; k < third; ++k) {
          const double along_t = axis_entry(third, k, static_cast<double>(t));
          const double along_r = axis_entry(third, k, static_cast<double>(r));
          const double along_c = axis_entry(third, k, static_cast<double>(c));
          EXPECT_NEAR(table[token][k].item<double>(), along_t, 1e-12);
          EXPECT_NEAR(table[token][third + k].item<double>(), along_r, 1e-12);
          EXPECT_NEAR(table[token][2 * third + k].item<double>(), along_c, 1e-12);
          EXPECT_NEAR(swapped[2 + token][third + k].item<double>(), along_c, 1e-12);
          EXPECT_NEAR(swapped[2 + token][2 * third + k].item<double>(), along_r, 1e-12);
        }
      }
    }
  }
}

TEST(SincosPositions, InterleavedHasTheSameEntriesInTurns) {
  const auto halves = sincos_1d_pos_embed(10, 7, SincosLayout::halves, at::kDouble);
  const auto turns = sincos_1d_pos_embed(10, 7, SincosLayout::interleaved, at::kDouble);
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_TENSOR_EQ(turns.select(1, 2 * i), halves.select(1, i));
    EXPECT_TENSOR_EQ(turns.select(1, 2 * i + 1), halves.select(1, 5 + i));
  }
}

TEST(SincosPositions, FractionalPositionsAreAllowed) {
  const auto table = sincos_1d_pos_embed(4, at::tensor({0.5, -2.25}, at::kDouble), SincosLayout::halves, at::kDouble);
  for (int64_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(table[0][k].item<double>(), axis_entry(4, k, 0.5), 1e-12);
    EXPECT_NEAR(table[1][k].item<double>(), axis_entry(4, k, -2.25), 1e-12);
  }
  EXPECT_EQ(sincos_1d_pos_embed(4, 0).sizes(), (std::vector<int64_t>{0, 4}));
}

TEST(SincosPositions, SayWhatIsWrong) {
  EXPECT_ERROR(sincos_1d_pos_embed(5, 3), "sincos_1d_pos_embed: dim must be even and >= 2, got 5");
  EXPECT_ERROR(sincos_1d_pos_embed(4, -1), "sincos_1d_pos_embed: length must be >= 0, got -1");
  EXPECT_ERROR(sincos_2d_pos_embed(6, 2, 2), "sincos_2d_pos_embed: dim must be divisible by 4, got 6");
  EXPECT_ERROR(sincos_2d_pos_embed(8, 0, 2), "sincos_2d_pos_embed: rows and columns must be >= 1, got 0 and 2");
  EXPECT_ERROR(sincos_2d_pos_embed(8, 2, 2, -1), "sincos_2d_pos_embed: prefix must be >= 0, got -1");
  EXPECT_ERROR(sincos_3d_pos_embed(8, 2, 2, 2), "sincos_3d_pos_embed: dim must be divisible by 6, got 8");
  EXPECT_ERROR(sincos_3d_pos_embed(6, 2, 0, 2), "depth, rows and columns must be >= 1, got 2, 0 and 2");
  EXPECT_ERROR(sincos_3d_pos_embed(6, 2, 1, 2, -3), "sincos_3d_pos_embed: prefix must be >= 0, got -3");
}

// Cubic convolution with a = -0.75 at output position i of `to`, clamped at the ends: weights of each source row.
std::vector<double> cubic_weights(int64_t from, int64_t to, int64_t i) {
  const double a = -0.75, scale = static_cast<double>(from) / static_cast<double>(to);
  const double place = (static_cast<double>(i) + 0.5) * scale - 0.5;
  const auto floor = static_cast<int64_t>(std::floor(place));
  std::vector<double> weights(static_cast<size_t>(from), 0.0);
  for (int64_t k = floor - 1; k <= floor + 2; ++k) {
    const double t = std::abs(place - static_cast<double>(k));
    const double w = t <= 1.0 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
    weights[static_cast<size_t>(std::clamp<int64_t>(k, 0, from - 1))] += w;
  }
  return weights;
}

at::Tensor resized_by_loops(const at::Tensor& rows, GridSize from, GridSize to) {
  auto out = at::zeros({to.rows * to.columns, rows.size(1)}, at::kDouble);
  for (int64_t y = 0; y < to.rows; ++y) {
    for (int64_t x = 0; x < to.columns; ++x) {
      const auto wy = cubic_weights(from.rows, to.rows, y), wx = cubic_weights(from.columns, to.columns, x);
      for (int64_t r = 0; r < from.rows; ++r) {
        for (int64_t c = 0; c < from.columns; ++c) {
          out[y * to.columns + x] +=
              rows[r * from.columns + c] * (wy[static_cast<size_t>(r)] * wx[static_cast<size_t>(c)]);
        }
      }
    }
  }
  return out;
}

TEST(InterpolatePositions, IsCubicConvolutionWithClampedEndsOnAnyGrid) {
  for (const auto& [from, to] : std::vector<std::pair<GridSize, GridSize>>{
           {{3, 3}, {5, 5}}, {{4, 2}, {3, 7}}, {{1, 5}, {1, 8}}, {{5, 4}, {2, 2}}, {{1, 1}, {3, 2}}}) {
    const auto table = at::randn({2 + from.rows * from.columns, 3}, at::kDouble);
    const auto got = interpolate_pos_embed(table, from, to, 2);
    EXPECT_TENSOR_EQ(got.narrow(0, 0, 2), table.narrow(0, 0, 2));
    EXPECT_TENSOR_NEAR(got.slice(0, 2), resized_by_loops(table.slice(0, 2), from, to), 1e-10);
  }
}

TEST(InterpolatePositions, AlongALineOnlyTheLineIsResized) {
  const auto table = at::randn({1, 1 + 9, 4}, at::kDouble);
  const auto got = interpolate_pos_embed_line(table, 14, 1);
  ASSERT_EQ(got.sizes(), (std::vector<int64_t>{1, 15, 4}));
  EXPECT_TENSOR_EQ(got[0][0], table[0][0]);
  EXPECT_TENSOR_NEAR(got[0].slice(0, 1), resized_by_loops(table[0].slice(0, 1), {1, 9}, {1, 14}), 1e-10);
}

TEST(InterpolatePositions, TheSameGridReturnsTheTableItself) {
  const auto table = at::randn({7, 4});
  EXPECT_TRUE(interpolate_pos_embed(table, {2, 3}, {2, 3}, 1).is_same(table));
  EXPECT_TRUE(interpolate_pos_embed_line(table, 6, 1).is_same(table));
}

TEST(InterpolatePositions, AConstantTableStaysConstantAlsoInHalfPrecision) {
  for (const auto dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const auto got = interpolate_pos_embed(at::full({9, 2}, 0.5, dtype), {3, 3}, {4, 5}, 0);
    EXPECT_TENSOR_NEAR(got, at::full({20, 2}, 0.5, dtype), 1e-6);
  }
}

TEST(InterpolatePositions, TheGradientReachesTheTable) {
  const auto table = at::randn({5, 2}, at::kDouble).requires_grad_();
  interpolate_pos_embed(table, {2, 2}, {3, 3}, 1).sum().backward();
  EXPECT_TENSOR_NEAR(table.grad()[0], at::ones({2}, at::kDouble), 0.0);
  EXPECT_NEAR(table.grad().slice(0, 1).sum().item<double>(), 18.0, 1e-9);  // the weights of each new cell sum to 1
}

TEST(InterpolatePositions, SayWhatIsWrong) {
  const auto table = at::randn({10, 4});
  EXPECT_ERROR(interpolate_pos_embed(table, {2, 4}, {3, 3}, 1),
               "interpolate_pos_embed: table must have 1 + 2 x 4 rows, got 10");
  EXPECT_ERROR(interpolate_pos_embed(table, {3, 3}, {0, 3}, 1), "grid sizes must be >= 1, got 3 x 3 to 0 x 3");
  EXPECT_ERROR(interpolate_pos_embed(table, {3, 3}, {4, 4}, 10), "prefix must be in [0, 10), got 10");
  EXPECT_ERROR(interpolate_pos_embed(at::randn({2, 10, 4}), {3, 3}, {4, 4}, 1),
               "table must have shape [N, D] or [1, N, D], got [2, 10, 4]");
  EXPECT_ERROR(interpolate_pos_embed({}, {3, 3}, {4, 4}, 1), "interpolate_pos_embed: table must be defined");
}

TEST(LearnedPositions, RowsAreTakenByRangeAndByNumber) {
  LearnedPositions positions(LearnedPositionsOptions{.length = 6, .dim = 3});
  const auto ids = at::tensor({5, 0, 5}, at::kLong);
  EXPECT_TENSOR_EQ(positions->forward(2, 3), positions->weight.slice(0, 3, 5));
  EXPECT_TENSOR_EQ(positions->forward(ids), positions->weight.index_select(0, ids));
  EXPECT_EQ(positions->named_parameters().keys(), std::vector<std::string>{"weight"});
  positions->forward(ids).sum().backward();
  EXPECT_TENSOR_EQ(positions->weight.grad().select(1, 0), at::tensor({1, 0, 0, 0, 0, 2}, at::kFloat));
  const auto copy = std::dynamic_pointer_cast<LearnedPositionsImpl>(positions->clone());
  EXPECT_TENSOR_EQ(copy->forward(6), positions->forward(6));
  EXPECT_ERROR(positions->forward(3, 4), "LearnedPositions: rows 4 to 7 must lie in the table of 6");
  EXPECT_ERROR(positions->forward(at::tensor({6}, at::kLong)), "LearnedPositions: ids must");
  EXPECT_ERROR(LearnedPositions(LearnedPositionsOptions{.length = 0, .dim = 3}),
               "LearnedPositions: length must be >= 1, got 0");
}

TEST(SincosGolden, TablesAxesAndResizesMatchTheOfficialCode) {
  golden::for_each("mae", "sincos", [](const golden::Case& c) {
    for (const auto& table : c.options()["tables"]) {
      const auto dim = table[0].get<int64_t>(), grid = table[1].get<int64_t>();
      const auto cls = table[2].get<bool>() ? 1 : 0;
      c.expect(fmt::format("out.table.d{}.g{}.cls{}", dim, grid, cls),
               sincos_2d_pos_embed(dim, grid, grid, cls, GridOrder::column_first, at::kDouble),
               {.rtol = 0, .atol = 1e-6});
    }
    for (const auto& axis : c.options()["axes"]) {
      const auto dim = axis[0].get<int64_t>(), length = axis[1].get<int64_t>();
      c.expect(fmt::format("out.axis.d{}.n{}", dim, length),
               sincos_1d_pos_embed(dim, length, SincosLayout::halves, at::kDouble), {.rtol = 0, .atol = 1e-6});
    }
    for (const auto& resize : c.options()["resize"]) {
      const auto dim = resize[0].get<int64_t>(), from = resize[1].get<int64_t>(), to = resize[2].get<int64_t>();
      const auto name = fmt::format("resize.d{}.from{}.to{}", dim, from, to);
      c.expect("out." + name, interpolate_pos_embed(c["in." + name], {from, from}, {to, to}, 1),
               {.rtol = 0, .atol = 1e-5});
    }
  });
}

}  // namespace
}  // namespace winnow
