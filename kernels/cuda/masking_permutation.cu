#include "winnow/kernels/masking_permutation.h"

#include "block.cuh"

// The rank of a token is the number of tokens that come before it: no sort, no workspace, any length. A row of L tokens
// costs L^2 comparisons, which for the sequence lengths of masked pre-training is less than a sort's passes over
// memory.
namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// Whether value a at index i stands before b at index j: ascending, NaN last, ties by index.
template <typename T>
__device__ bool before(T a, int64_t i, T b, int64_t j) {
  const bool a_nan = a != a, b_nan = b != b;
  if (a_nan || b_nan) return a_nan == b_nan ? i < j : b_nan;
  return a < b || (a == b && i < j);
}

template <typename T>
__global__ void permutation_kernel(const T* noise, int64_t batch, int64_t length, int64_t keep,
                                   MaskingPermutation out) {
  __shared__ T tile[kThreads];
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    const T* row = noise + b * length;
    const T mine = i < length ? row[i] : T{0};
    int64_t rank = 0;
    for (int64_t start = 0; start < length; start += kThreads) {
      __syncthreads();
      if (start + threadIdx.x < length) tile[threadIdx.x] = row[start + threadIdx.x];
      __syncthreads();
      const int64_t count = length - start < kThreads ? length - start : int64_t{kThreads};
      for (int64_t k = 0; k < count; ++k) rank += before(tile[k], start + k, mine, i) ? 1 : 0;
    }
    if (i < length) {
      out.ids_shuffle[b * length + rank] = i;
      out.ids_restore[b * length + i] = rank;
      out.mask[b * length + i] = rank < keep ? 0.0F : 1.0F;
    }
  }
}

template <typename T>
void launch(const T* noise, int64_t batch, int64_t length, int64_t keep, const MaskingPermutation& out,
            cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((length + kThreads - 1) / kThreads), grid_for(batch));
  permutation_kernel<<<grid, kThreads, 0, stream>>>(noise, batch, length, keep, out);
}

}  // namespace

void masking_permutation(const float* noise, int64_t batch, int64_t length, int64_t keep, const MaskingPermutation& out,
                         cudaStream_t stream) {
  launch(noise, batch, length, keep, out, stream);
}
void masking_permutation(const double* noise, int64_t batch, int64_t length, int64_t keep,
                         const MaskingPermutation& out, cudaStream_t stream) {
  launch(noise, batch, length, keep, out, stream);
}

}  // namespace winnow::kernels::cuda
