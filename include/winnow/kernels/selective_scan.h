#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// The recurrence of a selective state space (Gu and Dao 2023, arXiv 2312.00752, algorithm 2), for sample b, step t,
// channel e and state n:
//   d = softplus(dt[b,t,e] + dt_bias[e])
//   h[n] = exp(d A[n,e]) h[n] + d u[b,t,e] B[b,t,n]
//   y[b,t,e] = (sum_n h[n] C[b,t,n] + D[e] u[b,t,e]) silu(z[b,t,e])
// A NaN stays in its channel from its step on (one in B or C reaches every channel); the gradients of B and C join the
// channels.
namespace winnow::kernels {

// The inputs of one call. T is float or double; channels lie next to each other everywhere.
template <typename T>
struct SelectiveScan {
  const T* u;         // [batch, length, channels]
  const T* dt;        // [batch, length, channels], rows dt_stride apart
  const T* a;         // [states, channels]: A, transposed
  const T* b;         // [batch, length, states], rows bc_stride apart
  const T* c;         // [batch, length, states], rows bc_stride apart
  const T* d;         // [channels], or null: no skip
  const T* z;         // [batch, length, channels], rows z_stride apart, or null: no gate
  const T* dt_bias;   // [channels], or null
  int64_t dt_stride;  // elements between two steps
  int64_t bc_stride;  //
  int64_t z_stride;   //
  int64_t batch;
  int64_t length;
  int64_t channels;
  int64_t states;  // >= 1
};

// Where the gradients go: d, z and dt_bias may be null where that input is. Those that sum over channels, samples or
// steps come as partial sums, which the caller adds in order: the same result for any number of threads.
template <typename T>
struct SelectiveScanGrad {
  const T* grad_y;      // [batch, length, channels]
  const T* boundaries;  // as written by the forward pass
  T* u;                 // [batch, length, channels]
  T* dt;                // [batch, length, channels]
  T* a;                 // [batch, states, channels]: one partial sum per sample
  T* b;                 // [groups, batch, length, states]: one per group of channels
  T* c;                 // likewise
  T* d;                 // [batch, channels]
  T* z;                 // [batch, length, channels]
  T* dt_bias;           // [batch, channels]
  T* state;             // [batch, states, channels]: holds the gradient of the last state and gets that of the first
};

// Channels in a group, and steps between two stored states.
inline constexpr int64_t kSelectiveScanGroup = 64;
inline constexpr int64_t kSelectiveScanChunk = 16;
inline int64_t selective_scan_groups(int64_t channels) {
  return (channels + kSelectiveScanGroup - 1) / kSelectiveScanGroup;
}
inline int64_t selective_scan_chunks(int64_t length) {
  return (length + kSelectiveScanChunk - 1) / kSelectiveScanChunk;
}

namespace cpu {

// Units of work are (sample, group), numbered sample * groups + group; those of [begin, end) are run. state
// [batch, states, channels] holds the first state and gets the last. boundaries [batch, chunks, states, channels], if
// not null, gets the state before each chunk of steps, which the backward pass starts from.
void selective_scan(const SelectiveScan<float>& args, float* y, float* state, float* boundaries, int64_t begin,
                    int64_t end);
void selective_scan(const SelectiveScan<double>& args, double* y, double* state, double* boundaries, int64_t begin,
                    int64_t end);

// The gradients for the units of [begin, end). `scratch` holds selective_scan_scratch(states) elements of this range's
// own.
int64_t selective_scan_scratch(int64_t states);
void selective_scan_backward(const SelectiveScan<float>& args, const SelectiveScanGrad<float>& grad, float* scratch,
                             int64_t begin, int64_t end);
void selective_scan_backward(const SelectiveScan<double>& args, const SelectiveScanGrad<double>& grad, double* scratch,
                             int64_t begin, int64_t end);

}  // namespace cpu

// The CUDA twins over all units.
namespace cuda {

void selective_scan(const SelectiveScan<float>& args, float* y, float* state, float* boundaries, cudaStream_t stream);
void selective_scan(const SelectiveScan<double>& args, double* y, double* state, double* boundaries,
                    cudaStream_t stream);
void selective_scan_backward(const SelectiveScan<float>& args, const SelectiveScanGrad<float>& grad,
                             cudaStream_t stream);
void selective_scan_backward(const SelectiveScan<double>& args, const SelectiveScanGrad<double>& grad,
                             cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
