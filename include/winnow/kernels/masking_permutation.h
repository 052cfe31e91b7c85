#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// The permutation of random masking: the tokens in ascending order of their noise, equal noise in order of index.
namespace winnow::kernels {

// Where the results of one call go. Row b of each belongs to row b of the noise.
struct MaskingPermutation {
  int64_t* ids_shuffle;  // [B, L]: the stable argsort of the noise
  int64_t* ids_restore;  // [B, L]: its inverse
  float* mask;           // [B, L]: 0 for the first `keep` tokens of ids_shuffle, 1 for the others
};

// Rows in one unit of work.
inline constexpr int64_t kMaskingPermutationGrain = 4;

namespace cpu {

// noise [B, length], rows of [begin, end). -0 equals 0. NaN sorts last, in order of index. length < 2^32.
void masking_permutation(const float* noise, int64_t length, int64_t keep, const MaskingPermutation& out, int64_t begin,
                         int64_t end);
void masking_permutation(const double* noise, int64_t length, int64_t keep, const MaskingPermutation& out,
                         int64_t begin, int64_t end);

}  // namespace cpu

// The CUDA twins over the rows [0, batch).
namespace cuda {

void masking_permutation(const float* noise, int64_t batch, int64_t length, int64_t keep, const MaskingPermutation& out,
                         cudaStream_t stream);
void masking_permutation(const double* noise, int64_t batch, int64_t length, int64_t keep,
                         const MaskingPermutation& out, cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
