#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// Gathering of kept tokens and of the pixels of kept patches. Values are copied bit for bit, NaN included.
namespace winnow::kernels {

// Pixels of chosen patches, ordered (channel, pixel row, pixel column) as a convolution's weight is.
struct GatherPatches {
  const void* image;   // [B, C, H, W], contiguous, elements of `element_size` bytes
  const int64_t* ids;  // [B, kept], each in [0, (H/p)*(W/p)), row-major patch numbers
  int64_t kept;
  int64_t channels;
  int64_t height;
  int64_t width;
  int64_t patch;
  int64_t element_size;  // 1, 2, 4 or 8
};

// Rows (tokens, patches) in one unit of work.
inline constexpr int64_t kGatherTokensGrain = 256;
inline constexpr int64_t kGatherPatchesGrain = 32;

namespace cpu {

// out[r] = x[b, ids[r]] for the rows r = b*kept + k of [begin, end). x [B, length, row_bytes], ids [B, kept] in [0,
// length).
void gather_tokens(const void* x, const int64_t* ids, int64_t length, int64_t kept, int64_t row_bytes, void* out,
                   int64_t begin, int64_t end);

// grad_x[b] = 0, then grad_x[b, ids[b, k]] += grad[b, k] in order of k, for the samples b of [begin, end): one worker
// owns a whole sample, so that repeated ids add up without atomics and always in the same order. width = D.
void gather_tokens_backward(const float* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width,
                            float* grad_x, int64_t begin, int64_t end);
void gather_tokens_backward(const double* grad, const int64_t* ids, int64_t length, int64_t kept, int64_t width,
                            double* grad_x, int64_t begin, int64_t end);

// out[r] = the C*p*p values of patch ids[r] of image b, for the rows r = b*kept + k of [begin, end).
void gather_patches(const GatherPatches& args, void* out, int64_t begin, int64_t end);

}  // namespace cpu

// The CUDA twins; an id out of range is skipped (its row of the result is zero).
namespace cuda {

void gather_tokens(const void* x, const int64_t* ids, int64_t batch, int64_t length, int64_t kept, int64_t row_bytes,
                   void* out, cudaStream_t stream);
void gather_tokens_backward(const float* grad, const int64_t* ids, int64_t batch, int64_t length, int64_t kept,
                            int64_t width, float* grad_x, cudaStream_t stream);
void gather_tokens_backward(const double* grad, const int64_t* ids, int64_t batch, int64_t length, int64_t kept,
                            int64_t width, double* grad_x, cudaStream_t stream);
void gather_patches(const GatherPatches& args, int64_t batch, void* out, cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
