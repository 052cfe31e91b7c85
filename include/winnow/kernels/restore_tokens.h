#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// The decoder's input of a masked autoencoder in one pass: kept tokens back in their places, the mask token in the
// others, the position row added.
namespace winnow::kernels {

// One call's arguments. T is float or double. The first `prefix` rows of a sample (class token, registers) stay in
// front.
template <typename T>
struct RestoreTokens {
  const int64_t*
      ids_restore;  // [B, length]: a permutation of 0..length-1 in each row; a value < kept names a kept token
  int64_t length;   // L
  int64_t kept;     // K <= L
  int64_t prefix;   // rows in front of the tokens, >= 0
  int64_t width;    // D
};

// Samples in one unit of work.
inline constexpr int64_t kRestoreTokensGrain = 1;

namespace cpu {

// out[b, j] = tokens[b, j] for j < prefix; out[b, prefix + l] = tokens[b, prefix + ids_restore[b, l]] or, where that is
// >= kept, mask_token. positions [prefix + L, D] is added, or nothing if null. tokens [B, prefix + K, D], out
// [B, prefix + L, D]; samples b of [begin, end). NaN passes through.
void restore_tokens(const RestoreTokens<float>& args, const float* tokens, const float* mask_token,
                    const float* positions, float* out, int64_t begin, int64_t end);
void restore_tokens(const RestoreTokens<double>& args, const double* tokens, const double* mask_token,
                    const double* positions, double* out, int64_t begin, int64_t end);

// grad_tokens takes the gradient of each token's place; grad_mask[b] [B, D] the sum over the masked places of sample b
// in order of l (the caller adds the B rows in order: the same sum for any number of threads).
void restore_tokens_backward(const RestoreTokens<float>& args, const float* grad, float* grad_tokens, float* grad_mask,
                             int64_t begin, int64_t end);
void restore_tokens_backward(const RestoreTokens<double>& args, const double* grad, double* grad_tokens,
                             double* grad_mask, int64_t begin, int64_t end);

}  // namespace cpu

// The CUDA twins over the samples [0, batch). An id out of range counts as a masked place.
namespace cuda {

void restore_tokens(const RestoreTokens<float>& args, const float* tokens, const float* mask_token,
                    const float* positions, float* out, int64_t batch, cudaStream_t stream);
void restore_tokens(const RestoreTokens<double>& args, const double* tokens, const double* mask_token,
                    const double* positions, double* out, int64_t batch, cudaStream_t stream);
void restore_tokens_backward(const RestoreTokens<float>& args, const float* grad, float* grad_tokens, float* grad_mask,
                             int64_t batch, cudaStream_t stream);
void restore_tokens_backward(const RestoreTokens<double>& args, const double* grad, double* grad_tokens,
                             double* grad_mask, int64_t batch, cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
