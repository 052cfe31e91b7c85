// What the CUDA kernels share: sums over a block, sizes of a grid.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace winnow::kernels::cuda {

// Blocks for `count` independent pieces of work; kernels stride over the rest.
inline unsigned grid_for(int64_t count) {
  constexpr int64_t kMost = 65535;
  return static_cast<unsigned>(count < 1 ? 1 : (count < kMost ? count : kMost));
}

// The sum over the block of kThreads threads, in double, the same in every thread and in every run. All threads must
// call it.
template <int kThreads>
__device__ double block_sum(double value) {
  static_assert(kThreads % 32 == 0);
  __shared__ double sums[kThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffU, value, offset);
  __syncthreads();  // the sums of an earlier call have been read
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  double total = 0;
  for (int i = 0; i < kThreads / 32; ++i) total += sums[i];
  return total;
}

}  // namespace winnow::kernels::cuda
