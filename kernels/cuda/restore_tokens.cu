#include "winnow/kernels/restore_tokens.h"

#include "block.cuh"

namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// The row of the kept tokens that output row j of sample b takes, or a value >= prefix + kept for the mask token.
template <typename T>
__device__ int64_t source_row(const RestoreTokens<T>& a, int64_t b, int64_t j) {
  if (j < a.prefix) return j;
  const int64_t id = a.ids_restore[b * a.length + j - a.prefix];
  return a.prefix + (id >= 0 && id < a.kept ? id : a.kept);
}

template <typename T>
__global__ void restore_kernel(RestoreTokens<T> a, const T* tokens, const T* mask_token, const T* positions, T* out,
                               int64_t rows) {
  const int64_t rows_in = a.prefix + a.kept, rows_out = a.prefix + a.length;
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const int64_t b = r / rows_out, j = r % rows_out, from = source_row(a, b, j);
    const T* row = from < rows_in ? tokens + (b * rows_in + from) * a.width : mask_token;
    for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
      out[r * a.width + i] = positions == nullptr ? row[i] : row[i] + positions[j * a.width + i];
    }
  }
}

// One thread owns column i of sample b: the sum over the masked places is made in order, without atomics.
template <typename T>
__global__ void restore_backward_kernel(RestoreTokens<T> a, const T* grad, T* grad_tokens, T* grad_mask,
                                        int64_t batch) {
  const int64_t rows_in = a.prefix + a.kept, rows_out = a.prefix + a.length;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < a.width; i += gridDim.x * int64_t{kThreads}) {
      T sum = 0;
      for (int64_t j = 0; j < rows_out; ++j) {
        const int64_t from = source_row(a, b, j);
        const T g = grad[(b * rows_out + j) * a.width + i];
        if (from < rows_in) {
          grad_tokens[(b * rows_in + from) * a.width + i] = g;
        } else {
          sum += g;
        }
      }
      grad_mask[b * a.width + i] = sum;
    }
  }
}

template <typename T>
void launch(const RestoreTokens<T>& args, const T* tokens, const T* mask_token, const T* positions, T* out,
            int64_t batch, cudaStream_t stream) {
  const int64_t rows = batch * (args.prefix + args.length);
  restore_kernel<<<grid_for(rows), kThreads, 0, stream>>>(args, tokens, mask_token, positions, out, rows);
}

template <typename T>
void launch_backward(const RestoreTokens<T>& args, const T* grad, T* grad_tokens, T* grad_mask, int64_t batch,
                     cudaStream_t stream) {
  const dim3 grid(grid_for((args.width + kThreads - 1) / kThreads), grid_for(batch));
  restore_backward_kernel<<<grid, kThreads, 0, stream>>>(args, grad, grad_tokens, grad_mask, batch);
}

}  // namespace

void restore_tokens(const RestoreTokens<float>& args, const float* tokens, const float* mask_token,
                    const float* positions, float* out, int64_t batch, cudaStream_t stream) {
  launch(args, tokens, mask_token, positions, out, batch, stream);
}
void restore_tokens(const RestoreTokens<double>& args, const double* tokens, const double* mask_token,
                    const double* positions, double* out, int64_t batch, cudaStream_t stream) {
  launch(args, tokens, mask_token, positions, out, batch, stream);
}
void restore_tokens_backward(const RestoreTokens<float>& args, const float* grad, float* grad_tokens, float* grad_mask,
                             int64_t batch, cudaStream_t stream) {
  launch_backward(args, grad, grad_tokens, grad_mask, batch, stream);
}
void restore_tokens_backward(const RestoreTokens<double>& args, const double* grad, double* grad_tokens,
                             double* grad_mask, int64_t batch, cudaStream_t stream) {
  launch_backward(args, grad, grad_tokens, grad_mask, batch, stream);
}

}  // namespace winnow::kernels::cuda
