#include "winnow/tensor/selective_scan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "support/devices.h"
#include "support/error.h"
#include "support/tensor_near.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/gradcheck.h"

namespace winnow {
namespace {

using testing::case_name;
using testing::DeviceTest;

// The definition, step by step, in float64.
SelectiveScanOutput by_definition(const SelectiveScanInput& in) {
  const auto wide = [](const at::Tensor& x) { return x.defined() ? x.detach().cpu().to(at::kDouble) : x; };
  const auto u = wide(in.u), a = wide(in.a), b = wide(in.b), c = wide(in.c);
  auto dt = wide(in.dt);
  if (in.dt_bias.defined()) dt = dt + wide(in.dt_bias);
  const auto delta = at::softplus(dt);
  auto h = in.state.defined() ? wide(in.state) : at::zeros({u.size(0), a.size(1), a.size(0)}, at::kDouble);
  std::vector<at::Tensor> ys;
  for (int64_t t = 0; t < u.size(1); ++t) {
    const auto d = delta.select(1, t).unsqueeze(1);  // [B, 1, E]
    h = (d * a.t()).exp() * h + d * u.select(1, t).unsqueeze(1) * b.select(1, t).unsqueeze(2);
    ys.push_back((h * c.select(1, t).unsqueeze(2)).sum(1));
  }
  auto y = ys.empty() ? at::zeros_like(u) : at::stack(ys, 1);
  if (in.d.defined()) y = y + wide(in.d) * u;
  if (in.z.defined()) y = y * at::silu(wide(in.z));
  return {.y = y, .state = h};
}

class SelectiveScanOp : public DeviceTest {
 protected:
  SelectiveScanInput input(int64_t B, int64_t L, int64_t E, int64_t N, bool optional) const {
    const auto wide = randn({B, L, 2 * E + 2 * N}, 1);  // parts of one projection, not contiguous
    SelectiveScanInput in{.u = randn({B, L, E}, 2),
                          .dt = wide.narrow(2, 0, E),
                          .a = -randn({E, N}, 3).abs(),
                          .b = wide.narrow(2, 2 * E, N),
                          .c = wide.narrow(2, 2 * E + N, N)};
    if (!optional) return in;
    in.d = randn({E}, 4);
    in.z = wide.narrow(2, E, E);
    in.dt_bias = randn({E}, 5);
    in.state = randn({B, N, E}, 6);
    return in;
  }
};
INSTANTIATE_TEST_SUITE_P(Cpu, SelectiveScanOp, testing::cpu_cases(), case_name);
INSTANTIATE_TEST_SUITE_P(Cuda, SelectiveScanOp, testing::cuda_cases(), case_name);

TEST_P(SelectiveScanOp, AgreesWithItsDefinition) {
  for (const bool optional : {false, true}) {
    for (const auto& [B, L, E, N] : {std::array<int64_t, 4>{2, 19, 70, 3}, {1, 1, 5, 17}, {3, 32, 8, 1}}) {
      const auto in = input(B, L, E, N, optional);
      const auto out = selective_scan(in), wanted = by_definition(in);
      EXPECT_EQ(out.y.scalar_type(), GetParam().dtype);
      EXPECT_TENSOR_CLOSE(out.y.cpu(), wanted.y, 8 * tolerance(), 30 * tolerance());
      EXPECT_TENSOR_CLOSE(out.state.cpu(), wanted.state, 8 * tolerance(), 30 * tolerance());
    }
  }
}

TEST_P(SelectiveScanOp, EmptySequencesGiveTheStateBackAndEmptyBatchesNothing) {
  const auto in = input(2, 0, 4, 3, true);
  EXPECT_TENSOR_NEAR(selective_scan(in).state, in.state, 0);
  EXPECT_EQ(selective_scan(in).y.sizes(), (std::vector<int64_t>{2, 0, 4}));
  const auto none = selective_scan(input(0, 3, 4, 3, true));
  EXPECT_EQ(none.y.sizes(), (std::vector<int64_t>{0, 3, 4}));
  EXPECT_EQ(none.state.sizes(), (std::vector<int64_t>{0, 3, 4}));
}

// A = 0 and B = C = 1: the state is the sum of delta u, which is (1, 3, 6) log 2 for u = (1, 2, 3), dt = 0.
TEST_P(SelectiveScanOp, WithoutDecayIsARunningSum) {
  const auto ones = at::ones({1, 3, 1}, options());
  const auto u = at::tensor({1.0, 2.0, 3.0}, at::kDouble).view({1, 3, 1}).to(options());
  const auto out = selective_scan(
      {.u = u, .dt = at::zeros({1, 3, 1}, options()), .a = at::zeros({1, 1}, options()), .b = ones, .c = ones});
  const auto sums = at::tensor({1.0, 3.0, 6.0}, at::kDouble).view({1, 3, 1}) * std::log(2.0);
  EXPECT_TENSOR_CLOSE(out.y.cpu(), sums, 4 * tolerance(), tolerance());
}

TEST_P(SelectiveScanOp, ContinuesFromItsState) {
  const auto in = input(2, 20, 9, 4, true);
  const auto whole = selective_scan(in);
  auto part = in;
  std::vector<at::Tensor> ys;
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 7}, {7, 1}, {8, 12}}) {
    const auto cut = [&](const at::Tensor& x) { return x.narrow(1, begin, count); };
    part.u = cut(in.u);
    part.dt = cut(in.dt);
    part.b = cut(in.b);
    part.c = cut(in.c);
    part.z = cut(in.z);
    const auto out = selective_scan(part);
    ys.push_back(out.y);
    part.state = out.state;
  }
  EXPECT_TENSOR_NEAR(at::cat(ys, 1), whole.y, tolerance());
  EXPECT_TENSOR_NEAR(part.state, whole.state, tolerance());
}

std::vector<at::Tensor> leaves(int64_t B, int64_t L, int64_t E, int64_t N) {
  auto generator = make_generator(9);
  const auto make = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::kDouble).requires_grad_(); };
  const auto a = (-at::randn({E, N}, generator, at::kDouble).abs()).requires_grad_();
  return {make({B, L, E}), make({B, L, E}), a,         make({B, L, N}), make({B, L, N}),
          make({E}),       make({B, L, E}), make({E}), make({B, N, E})};
}

SelectiveScanOutput scan_of(const std::vector<at::Tensor>& in) {
  return selective_scan({in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], in[8]});
}

TEST(SelectiveScanGradients, AgreeWithDifferencesInEveryInputAndThroughBothResults) {
  for (const auto& [L, E] : {std::pair<int64_t, int64_t>{5, 3}, {18, 2}}) {
    const auto both = gradcheck(
        [](const auto& in) {
          const auto out = scan_of(in);
          return std::vector{out.y, out.state};
        },
        leaves(2, L, E, 3));
    EXPECT_TRUE(both.passed) << both.message;
  }
  const auto in = leaves(1, 4, 2, 2);
  const auto bare = gradcheck(
      [](const auto& x) {
        return std::vector{selective_scan({.u = x[0], .dt = x[1], .a = x[2], .b = x[3], .c = x[4]}).y};
      },
      {in.begin(), in.begin() + 5});
  EXPECT_TRUE(bare.passed) << bare.message;
  const auto state_only = gradcheck([](const auto& x) { return std::vector{scan_of(x).state}; }, in);
  EXPECT_TRUE(state_only.passed) << state_only.message;
}

TEST(SelectiveScanGradients, DoNotDependOnTheThreadsAndRefuseDoubleBackward) {
  auto in = leaves(3, 40, 100, 4);
  const auto gradients = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto grads = torch::autograd::grad({scan_of(in).y.square().sum()}, in);
    at::set_num_threads(before);
    return grads;
  };
  const auto one = gradients(1), two = gradients(2);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TENSOR_EQ(one[i], two[i]);
  EXPECT_ERROR(torch::autograd::grad({scan_of(in).y.square().sum()}, {in[0]}, {}, std::nullopt, /*create_graph=*/true),
               "selective_scan: double backward is not supported");
}

TEST(SelectiveScanErrors, NameTheArgumentTheWantedAndTheFound) {
  const auto x = at::zeros({2, 3, 4}), a = at::zeros({4, 5}), b = at::zeros({2, 3, 5});
  const SelectiveScanInput right{.u = x, .dt = x, .a = a, .b = b, .c = b};
  const auto with = [&](auto change) {
    auto in = right;
    change(in);
    return in;
  };
  EXPECT_ERROR(selective_scan({}), "selective_scan: u must be a tensor, got none");
  EXPECT_ERROR(selective_scan(with([](auto& in) { in.dt = at::zeros({2, 3, 5}); })),
               "selective_scan: dt must have shape [2, 3, 4], got [2, 3, 5]");
  EXPECT_ERROR(selective_scan(with([](auto& in) { in.a = at::zeros({4, 0}); })),
               "selective_scan: a must have at least one channel and one state, got shape [4, 0]");
  EXPECT_ERROR(selective_scan(with([](auto& in) { in.c = at::zeros({2, 3, 4}); })),
               "selective_scan: c must have shape [2, 3, 5], got [2, 3, 4]");
  EXPECT_ERROR(selective_scan(with([](auto& in) { in.state = at::zeros({2, 4, 5}); })),
               "selective_scan: state must have shape [2, 5, 4], got [2, 4, 5]");
  EXPECT_ERROR(selective_scan(with([](auto& in) { in.z = at::zeros({2, 3, 4}, at::kDouble); })),
               "selective_scan: z must");
}

}  // namespace
}  // namespace winnow
