#include "winnow/kernels/selective_scan.h"

#include "block.cuh"

namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = static_cast<int>(kSelectiveScanGroup);  // a block is a group, a thread a channel
constexpr int kChunk = static_cast<int>(kSelectiveScanChunk);
constexpr int kStateBlock = 16;  // states that a thread keeps in registers

__host__ __device__ inline int64_t groups_of(int64_t channels) {
  return (channels + kThreads - 1) / kThreads;
}

__device__ inline int64_t chunks_of(int64_t length) {
  return (length + kChunk - 1) / kChunk;
}

template <typename T>
__device__ T sigmoid(T x) {
  return T{1} / (T{1} + exp(-x));
}

template <typename T>
__device__ T softplus(T x) {
  return x < T{20} ? log1p(exp(x)) : x;
}

template <typename T>
__device__ T step_input(const SelectiveScan<T>& a, int64_t row, int64_t e) {
  return a.dt[row * a.dt_stride + e] + (a.dt_bias != nullptr ? a.dt_bias[e] : T{0});
}

// All steps of one channel with up to kStateBlock states from n0 on. The first block starts y, the last one adds skip
// and gate.
template <typename T>
__device__ void scan_states(const SelectiveScan<T>& a, int64_t s, int64_t e, int64_t n0, T* y, T* state,
                            T* boundaries) {
  const int states = static_cast<int>(a.states - n0 < kStateBlock ? a.states - n0 : kStateBlock);
  const int64_t first = (s * a.states + n0) * a.channels + e;
  T h[kStateBlock], decay[kStateBlock];
#pragma unroll
  for (int n = 0; n < kStateBlock; ++n) {
    h[n] = n < states ? state[first + n * a.channels] : T{0};
    decay[n] = n < states ? a.a[(n0 + n) * a.channels + e] : T{0};
  }
  for (int64_t t = 0; t < a.length; ++t) {
    const int64_t row = s * a.length + t;
    if (boundaries != nullptr && t % kChunk == 0) {
      T* to = boundaries + ((s * chunks_of(a.length) + t / kChunk) * a.states + n0) * a.channels + e;
#pragma unroll
      for (int n = 0; n < kStateBlock; ++n) {
        if (n < states) to[n * a.channels] = h[n];
      }
    }
    const T delta = softplus(step_input(a, row, e)), u = a.u[row * a.channels + e];
    const T* b = a.b + row * a.bc_stride + n0;
    const T* c = a.c + row * a.bc_stride + n0;
    T sum = n0 > 0 ? y[row * a.channels + e] : T{0};
#pragma unroll
    for (int n = 0; n < kStateBlock; ++n) {
      if (n < states) {
        h[n] = exp(delta * decay[n]) * h[n] + delta * u * b[n];
        sum += h[n] * c[n];
      }
    }
    if (n0 + states == a.states) {
      if (a.d != nullptr) sum += a.d[e] * u;
      if (a.z != nullptr) {
        const T z = a.z[row * a.z_stride + e];
        sum *= z * sigmoid(z);
      }
    }
    y[row * a.channels + e] = sum;
  }
#pragma unroll
  for (int n = 0; n < kStateBlock; ++n) {
    if (n < states) state[first + n * a.channels] = h[n];
  }
}

template <typename T>
__global__ void scan_kernel(SelectiveScan<T> a, T* y, T* state, T* boundaries) {
  const int64_t groups = groups_of(a.channels);
  for (int64_t unit = blockIdx.x; unit < a.batch * groups; unit += gridDim.x) {
    const int64_t s = unit / groups, e = unit % groups * kThreads + threadIdx.x;
    if (e >= a.channels) continue;
    for (int64_t n0 = 0; n0 < a.states; n0 += kStateBlock) scan_states(a, s, e, n0, y, state, boundaries);
  }
}

// What a thread holds of one chunk of steps. grad_y and y are those before the gate.
template <typename T>
struct ChunkValues {
  T delta[kChunk], slope[kChunk], u[kChunk], grad_y[kChunk], y[kChunk], grad_du[kChunk], grad_delta[kChunk];
};

template <typename T>
__device__ void open_chunk(const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, int64_t s, int64_t e, int64_t t0,
                           int steps, bool real, ChunkValues<T>& v) {
  for (int t = 0; t < kChunk; ++t) {
    v.delta[t] = v.slope[t] = v.u[t] = v.grad_y[t] = v.y[t] = v.grad_du[t] = v.grad_delta[t] = T{0};
    if (t >= steps || !real) continue;
    const int64_t row = s * a.length + t0 + t;
    const T x = step_input(a, row, e);
    v.delta[t] = softplus(x);
    v.slope[t] = sigmoid(x);
    v.u[t] = a.u[row * a.channels + e];
    v.grad_y[t] = g.grad_y[row * a.channels + e];
    if (a.z != nullptr) {
      const T z = a.z[row * a.z_stride + e];
      v.grad_y[t] *= z * sigmoid(z);
    }
    if (a.d != nullptr) v.y[t] = a.d[e] * v.u[t];
  }
}

// One state through the chunk, forward again and back. All threads of the block take part in the sums over channels.
template <typename T>
__device__ void state_backward(const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, int64_t s, int64_t group,
                               int64_t e, int64_t t0, int steps, int64_t n, bool real, ChunkValues<T>& v) {
  const T* b = a.b + (s * a.length + t0) * a.bc_stride + n;
  const T* c = a.c + (s * a.length + t0) * a.bc_stride + n;
  const int64_t at = (s * a.states + n) * a.channels + e;
  const T decay = real ? a.a[n * a.channels + e] : T{0};
  T h[kChunk + 1], fade[kChunk];
  h[0] = real ? g.boundaries[((s * chunks_of(a.length) + t0 / kChunk) * a.states + n) * a.channels + e] : T{0};
  for (int t = 0; t < steps; ++t) {
    fade[t] = exp(v.delta[t] * decay);
    h[t + 1] = fade[t] * h[t] + v.delta[t] * v.u[t] * b[t * a.bc_stride];
    v.y[t] += h[t + 1] * c[t * a.bc_stride];
  }
  T grad_h = real ? g.state[at] : T{0}, grad_decay = 0;
  for (int t = steps - 1; t >= 0; --t) {
    grad_h += v.grad_y[t] * c[t * a.bc_stride];
    const double grad_c = block_sum<kThreads>(static_cast<double>(v.grad_y[t] * h[t + 1]));
    const double grad_b = block_sum<kThreads>(static_cast<double>(grad_h * v.delta[t] * v.u[t]));
    if (threadIdx.x == 0) {
      const int64_t to = ((group * a.batch + s) * a.length + t0 + t) * a.states + n;
      g.c[to] = static_cast<T>(grad_c);
      g.b[to] = static_cast<T>(grad_b);
    }
    const T faded = grad_h * fade[t], slope = faded * h[t];
    grad_decay += slope * v.delta[t];
    v.grad_delta[t] += slope * decay;
    v.grad_du[t] += grad_h * b[t * a.bc_stride];
    grad_h = faded;
  }
  if (real) {
    g.state[at] = grad_h;
    g.a[at] += grad_decay;
  }
}

template <typename T>
__device__ void close_chunk(const SelectiveScan<T>& a, const SelectiveScanGrad<T>& g, int64_t s, int64_t e, int64_t t0,
                            int steps, const ChunkValues<T>& v) {
  T grad_bias = 0, grad_skip = 0;
  for (int t = 0; t < steps; ++t) {
    const int64_t row = s * a.length + t0 + t, at = row * a.channels + e;
    T grad_u = v.grad_du[t] * v.delta[t];
    if (a.d != nullptr) {
      grad_u += v.grad_y[t] * a.d[e];
      grad_skip += v.grad_y[t] * v.u[t];
    }
    g.u[at] = grad_u;
    const T grad_x = (v.grad_du[t] * v.u[t] + v.grad_delta[t]) * v.slope[t];
    g.dt[at] = grad_x;
    grad_bias += grad_x;
    if (a.z != nullptr) {
      const T z = a.z[row * a.z_stride + e], gate = sigmoid(z);
      g.z[at] = g.grad_y[at] * v.y[t] * gate * (T{1} + z * (T{1} - gate));
    }
  }
  if (a.dt_bias != nullptr) g.dt_bias[s * a.channels + e] += grad_bias;
  if (a.d != nullptr) g.d[s * a.channels + e] += grad_skip;
}

template <typename T>
__global__ void backward_kernel(SelectiveScan<T> a, SelectiveScanGrad<T> g) {
  const int64_t groups = groups_of(a.channels);
  ChunkValues<T> values;
  for (int64_t unit = blockIdx.x; unit < a.batch * groups; unit += gridDim.x) {
    const int64_t s = unit / groups, group = unit % groups, e = group * kThreads + threadIdx.x;
    const bool real = e < a.channels;
    if (real) {
      for (int64_t n = 0; n < a.states; ++n) g.a[(s * a.states + n) * a.channels + e] = T{0};
      if (a.d != nullptr) g.d[s * a.channels + e] = T{0};
      if (a.dt_bias != nullptr) g.dt_bias[s * a.channels + e] = T{0};
    }
    for (int64_t chunk = chunks_of(a.length) - 1; chunk >= 0; --chunk) {
      const int64_t t0 = chunk * kChunk;
      const int steps = static_cast<int>(a.length - t0 < kChunk ? a.length - t0 : kChunk);
      open_chunk(a, g, s, e, t0, steps, real, values);
      for (int64_t n = 0; n < a.states; ++n) state_backward(a, g, s, group, e, t0, steps, n, real, values);
      if (real) close_chunk(a, g, s, e, t0, steps, values);
    }
  }
}

template <typename T>
void launch(const SelectiveScan<T>& args, T* y, T* state, T* boundaries, cudaStream_t stream) {
  const auto grid = grid_for(args.batch * groups_of(args.channels));
  scan_kernel<<<grid, kThreads, 0, stream>>>(args, y, state, boundaries);
}

template <typename T>
void launch_backward(const SelectiveScan<T>& args, const SelectiveScanGrad<T>& grad, cudaStream_t stream) {
  const auto grid = grid_for(args.batch * groups_of(args.channels));
  backward_kernel<<<grid, kThreads, 0, stream>>>(args, grad);
}

}  // namespace

void selective_scan(const SelectiveScan<float>& args, float* y, float* state, float* boundaries, cudaStream_t stream) {
  launch(args, y, state, boundaries, stream);
}
void selective_scan(const SelectiveScan<double>& args, double* y, double* state, double* boundaries,
                    cudaStream_t stream) {
  launch(args, y, state, boundaries, stream);
}
void selective_scan_backward(const SelectiveScan<float>& args, const SelectiveScanGrad<float>& grad,
                             cudaStream_t stream) {
  launch_backward(args, grad, stream);
}
void selective_scan_backward(const SelectiveScan<double>& args, const SelectiveScanGrad<double>& grad,
                             cudaStream_t stream) {
  launch_backward(args, grad, stream);
}

}  // namespace winnow::kernels::cuda
