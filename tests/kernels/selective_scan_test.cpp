#include "winnow/kernels/selective_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/targets.h"

namespace winnow::kernels {
namespace {

struct Sizes {
  int64_t batch, length, channels, states;
};

// Random inputs of one call; dt, b, c and z are parts of wider rows, as projections give them.
template <typename T>
struct Case {
  Sizes n;
  std::vector<T> u, a, d, bias, wide, state;
  int64_t stride;

  explicit Case(Sizes sizes) : n(sizes), stride(2 * sizes.channels + 2 * sizes.states + 3) {
    u = normal_values<T>(n.batch * n.length * n.channels, 1);
    wide = normal_values<T>(n.batch * n.length * stride, 2);
    a = normal_values<T>(n.states * n.channels, 3);
    for (auto& v : a) v = -std::abs(v) - T(0.1);
    d = normal_values<T>(n.channels, 4);
    bias = normal_values<T>(n.channels, 5);
    state = normal_values<T>(n.batch * n.states * n.channels, 6);
  }
  SelectiveScan<T> arguments(bool optional) const {
    const T* row = wide.data();
    return {.u = u.data(),
            .dt = row,
            .a = a.data(),
            .b = row + 2 * n.channels,
            .c = row + 2 * n.channels + n.states,
            .d = optional ? d.data() : nullptr,
            .z = optional ? row + n.channels : nullptr,
            .dt_bias = optional ? bias.data() : nullptr,
            .dt_stride = stride,
            .bc_stride = stride,
            .z_stride = stride,
            .batch = n.batch,
            .length = n.length,
            .channels = n.channels,
            .states = n.states};
  }
};

// One channel of one sample in double, by the definition: y, the last states, and on demand the gradients of
// sum(y * weight) + sum(last state * state_weight).
struct Reference {
  std::vector<double> y, h;
  std::vector<double> grad_u, grad_dt, grad_z, grad_b, grad_c, grad_a, grad_state;  // b and c: [t][n] of this channel
  double grad_d = 0, grad_bias = 0;
};

template <typename T>
Reference run(const SelectiveScan<T>& s, const std::vector<T>& first, int64_t sample, int64_t e,
              const std::vector<T>& weight, const std::vector<T>& state_weight) {
  const auto L = static_cast<size_t>(s.length), N = static_cast<size_t>(s.states);
  Reference r;
  std::vector<double> delta(L), slope(L), u(L), gate(L, 1), gate_slope(L), raw(L), fade(L * N), states((L + 1) * N);
  const auto at = [&](size_t t) { return (sample * s.length + static_cast<int64_t>(t)); };
  const auto value = [](const T* p, int64_t i) { return static_cast<double>(p[i]); };
  const auto b = [&](size_t t, size_t n) { return value(s.b, at(t) * s.bc_stride + static_cast<int64_t>(n)); };
  const auto c = [&](size_t t, size_t n) { return value(s.c, at(t) * s.bc_stride + static_cast<int64_t>(n)); };
  const auto a = [&](size_t n) { return value(s.a, static_cast<int64_t>(n) * s.channels + e); };
  const auto of_state = [&](size_t n) {
    return static_cast<size_t>((sample * s.states + static_cast<int64_t>(n)) * s.channels + e);
  };
  const double skip = s.d != nullptr ? value(s.d, e) : 0;
  for (size_t n = 0; n < N; ++n) states[n] = static_cast<double>(first[of_state(n)]);
  for (size_t t = 0; t < L; ++t) {
    const double x = value(s.dt, at(t) * s.dt_stride + e) + (s.dt_bias != nullptr ? value(s.dt_bias, e) : 0);
    delta[t] = std::log1p(std::exp(x));
    slope[t] = 1 / (1 + std::exp(-x));
    u[t] = value(s.u, at(t) * s.channels + e);
    if (s.z != nullptr) {
      const double z = value(s.z, at(t) * s.z_stride + e), sig = 1 / (1 + std::exp(-z));
      gate[t] = z * sig;
      gate_slope[t] = sig * (1 + z * (1 - sig));
    }
    raw[t] = skip * u[t];
    for (size_t n = 0; n < N; ++n) {
      fade[t * N + n] = std::exp(delta[t] * a(n));
      states[(t + 1) * N + n] = fade[t * N + n] * states[t * N + n] + delta[t] * u[t] * b(t, n);
      raw[t] += states[(t + 1) * N + n] * c(t, n);
    }
    r.y.push_back(raw[t] * gate[t]);
  }
  r.h.assign(states.end() - static_cast<std::ptrdiff_t>(N), states.end());
  r.grad_u.resize(L);
  r.grad_dt.resize(L);
  r.grad_z.resize(L);
  r.grad_b.resize(L * N);
  r.grad_c.resize(L * N);
  r.grad_a.resize(N);
  for (size_t n = 0; n < N; ++n) r.grad_state.push_back(static_cast<double>(state_weight[of_state(n)]));
  for (size_t t = L; t-- > 0;) {
    const double upper = value(weight.data(), at(t) * s.channels + e), inner = upper * gate[t];
    r.grad_z[t] = upper * raw[t] * gate_slope[t];
    r.grad_d += inner * u[t];
    double grad_du = 0, grad_delta = 0;
    for (size_t n = 0; n < N; ++n) {
      double& g = r.grad_state[n];
      g += inner * c(t, n);
      r.grad_c[t * N + n] = inner * states[(t + 1) * N + n];
      r.grad_b[t * N + n] = g * delta[t] * u[t];
      grad_du += g * b(t, n);
      const double exponent = g * states[t * N + n] * fade[t * N + n];
      grad_delta += exponent * a(n);
      r.grad_a[n] += exponent * delta[t];
      g *= fade[t * N + n];
    }
    r.grad_u[t] = grad_du * delta[t] + inner * skip;
    r.grad_dt[t] = (grad_delta + grad_du * u[t]) * slope[t];
    r.grad_bias += r.grad_dt[t];
  }
  return r;
}

template <typename T>
void check(Sizes sizes, bool optional, double tolerance) {
  const Case<T> c(sizes);
  const auto args = c.arguments(optional);
  const auto B = sizes.batch, L = sizes.length, E = sizes.channels, N = sizes.states;
  const auto groups = selective_scan_groups(E), units = B * groups;
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  std::vector<T> y(size(B * L * E)), state(c.state), kept(size(B * selective_scan_chunks(L) * N * E));
  cpu::selective_scan(args, y.data(), state.data(), kept.data(), 0, units);

  const auto weight = normal_values<T>(B * L * E, 7), state_weight = normal_values<T>(B * N * E, 8);
  std::vector<T> u(y.size()), dt(y.size()), z(y.size()), a(size(B * N * E)), b(size(groups * B * L * N)), gc(b),
      d(size(B * E)), bias(d), first(state_weight), scratch(size(cpu::selective_scan_scratch(N)));
  const SelectiveScanGrad<T> grads{.grad_y = weight.data(),
                                   .boundaries = kept.data(),
                                   .u = u.data(),
                                   .dt = dt.data(),
                                   .a = a.data(),
                                   .b = b.data(),
                                   .c = gc.data(),
                                   .d = d.data(),
                                   .z = z.data(),
                                   .dt_bias = bias.data(),
                                   .state = first.data()};
  // In two ranges, the second first: units do not depend on each other.
  cpu::selective_scan_backward(args, grads, scratch.data(), units / 2, units);
  cpu::selective_scan_backward(args, grads, scratch.data(), 0, units / 2);

  const auto near = [&](T got, double wanted) {
    ASSERT_NEAR(static_cast<double>(got), wanted, tolerance * (1 + std::abs(wanted)));
  };
  std::vector<double> sum_b(size(B * L * N)), sum_c(sum_b);
  for (int64_t s = 0; s < B; ++s) {
    for (int64_t e = 0; e < E; ++e) {
      const auto r = run(args, c.state, s, e, weight, state_weight);
      for (int64_t t = 0; t < L; ++t) {
        const auto at = size((s * L + t) * E + e);
        near(y[at], r.y[size(t)]);
        near(u[at], r.grad_u[size(t)]);
        near(dt[at], r.grad_dt[size(t)]);
        if (optional) near(z[at], r.grad_z[size(t)]);
        for (int64_t n = 0; n < N; ++n) {
          sum_b[size((s * L + t) * N + n)] += r.grad_b[size(t * N + n)];
          sum_c[size((s * L + t) * N + n)] += r.grad_c[size(t * N + n)];
        }
      }
      for (int64_t n = 0; n < N; ++n) {
        const auto at = size((s * N + n) * E + e);
        near(state[at], r.h[size(n)]);
        near(first[at], r.grad_state[size(n)]);
        near(a[at], r.grad_a[size(n)]);
      }
      if (!optional) continue;
      near(d[size(s * E + e)], r.grad_d);
      near(bias[size(s * E + e)], r.grad_bias);
    }
  }
  for (int64_t i = 0; i < B * L * N; ++i) {
    T got_b = 0, got_c = 0;
    for (int64_t g = 0; g < groups; ++g) {
      got_b += b[size(g * B * L * N + i)];
      got_c += gc[size(g * B * L * N + i)];
    }
    ASSERT_NEAR(static_cast<double>(got_b), sum_b[size(i)], tolerance * static_cast<double>(10 + E));
    ASSERT_NEAR(static_cast<double>(got_c), sum_c[size(i)], tolerance * static_cast<double>(10 + E));
  }
}

TEST(SelectiveScanKernel, AgreesWithAPlainLoopOnEveryTarget) {
  on_every_target([] {
    for (const Sizes sizes : {Sizes{1, 1, 1, 1}, Sizes{2, 5, 3, 2}, Sizes{1, 33, 65, 5}, Sizes{2, 16, 64, 16},
                              Sizes{1, 17, 7, 17}, Sizes{3, 48, 130, 3}}) {
      SCOPED_TRACE(::testing::Message() << sizes.batch << " x " << sizes.length << " x " << sizes.channels << " x "
                                        << sizes.states);
      for (const bool optional : {false, true}) {
        check<float>(sizes, optional, 3e-5);
        check<double>(sizes, optional, 1e-12);
      }
    }
  });
}

TEST(SelectiveScanKernel, StepByStepGivesTheBitsOfOneCall) {
  on_every_target([] {
    const Case<float> c(Sizes{1, 21, 37, 18});
    auto args = c.arguments(true);
    std::vector<float> whole(c.u.size()), steps(whole), last(c.state), state(c.state);
    cpu::selective_scan(args, whole.data(), last.data(), nullptr, 0, selective_scan_groups(37));
    args.length = 1;
    for (int64_t t = 0; t < 21; ++t) {
      cpu::selective_scan(args, steps.data() + t * 37, state.data(), nullptr, 0, selective_scan_groups(37));
      args.u += 37;
      args.dt += c.stride;
      args.b += c.stride;
      args.c += c.stride;
      args.z += c.stride;
    }
    EXPECT_EQ(whole, steps);
    EXPECT_EQ(last, state);
  });
}

// The largest and smallest inputs that the step size and the decay may see.
TEST(SelectiveScanKernel, ExtremeStepsStayFiniteAndNanStaysInItsChannel) {
  on_every_target([] {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> u(9, 1.0F), dt = {-1e30F, 1e30F, 25.0F, -200.0F, 0, 0, 0, 0, nan}, a(9, -1.0F), y(9), h(9, 2.0F);
    a[5] = nan;
    a[6] = -1e30F;
    u[7] = nan;
    const float b = 1, c = 1;
    const SelectiveScan<float> args{.u = u.data(),
                                    .dt = dt.data(),
                                    .a = a.data(),
                                    .b = &b,
                                    .c = &c,
                                    .d = nullptr,
                                    .z = nullptr,
                                    .dt_bias = nullptr,
                                    .dt_stride = 9,
                                    .bc_stride = 1,
                                    .z_stride = 0,
                                    .batch = 1,
                                    .length = 1,
                                    .channels = 9,
                                    .states = 1};
    cpu::selective_scan(args, y.data(), h.data(), nullptr, 0, 1);
    EXPECT_FLOAT_EQ(y[0], 2.0F);   // no time passes: the state stays
    EXPECT_FLOAT_EQ(y[1], 1e30F);  // the old state is gone, delta u remains
    EXPECT_FLOAT_EQ(y[2], 25.0F);  // softplus is the identity there
    EXPECT_FLOAT_EQ(y[3], 2.0F);
    EXPECT_NEAR(y[4], 2 * 0.5 + std::log(2.0), 1e-6);  // e^(-ln 2) = 1/2
    EXPECT_NEAR(y[6], std::log(2.0), 1e-6);
    for (const size_t i : {5, 7, 8}) EXPECT_TRUE(std::isnan(y[i])) << i;
  });
}

}  // namespace
}  // namespace winnow::kernels
