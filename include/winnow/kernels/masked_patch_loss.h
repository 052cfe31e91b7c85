#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// The masked-autoencoder loss (He et al. 2021, arXiv 2111.06377, section 3) read straight from the image: no target
// tensor.
namespace winnow::kernels {

// One call's arguments. T is float or double. Patch number b*L + row*(W/p) + col; within a patch the values are ordered
// (pixel row, pixel column, channel), P = p*p*C of them. Prediction i is of patch i, or of patches[i]. One whose weight
// is 0 is not read, neither image nor prediction.
template <typename T>
struct MaskedPatchLoss {
  const T* image;       // [B, C, H, W], contiguous
  const T* prediction;  // [N, P], contiguous
  const T* weight;      // [N]: 1 = removed, counted; 0 = kept, skipped
  int64_t channels;     // C >= 1
  int64_t height;       // H, a multiple of p
  int64_t width;        // W, a multiple of p
  int64_t patch;        // p >= 1
  bool normalize;       // target <- (t - mean) / sqrt(var + 1e-6) per patch, var divided by P-1 (0 if P = 1)
  const int64_t* patches = nullptr;  // [N] patch numbers; null: 0, 1, 2, ... (N = B*L)
};

// Patches in one unit of work: below this a second thread costs more than it brings.
inline constexpr int64_t kMaskedPatchLossGrain = 16;

namespace cpu {

// For each prediction i in [begin, end): loss[i] = mean over P of (prediction - target)^2, or 0 where weight is 0;
// mean[i] and inverse_deviation[i] (0 and 1 without normalisation) for the backward pass. A NaN in a counted patch
// makes its loss NaN.
void masked_patch_loss(const MaskedPatchLoss<float>& args, float* loss, float* mean, float* inverse_deviation,
                       int64_t begin, int64_t end);
void masked_patch_loss(const MaskedPatchLoss<double>& args, double* loss, double* mean, double* inverse_deviation,
                       int64_t begin, int64_t end);

// gradient[i] = scale * weight[i] * (2 / P) * (prediction - target) for those of [begin, end), exactly 0 where
// weight is 0; mean and inverse_deviation are those of the forward pass.
void masked_patch_loss_backward(const MaskedPatchLoss<float>& args, const float* mean, const float* inverse_deviation,
                                float scale, float* gradient, int64_t begin, int64_t end);
void masked_patch_loss_backward(const MaskedPatchLoss<double>& args, const double* mean,
                                const double* inverse_deviation, double scale, double* gradient, int64_t begin,
                                int64_t end);

}  // namespace cpu

// The CUDA twins: same meaning over the predictions [0, count), all pointers on the device, `scale` read from the
// device.
namespace cuda {

void masked_patch_loss(const MaskedPatchLoss<float>& args, float* loss, float* mean, float* inverse_deviation,
                       int64_t count, cudaStream_t stream);
void masked_patch_loss(const MaskedPatchLoss<double>& args, double* loss, double* mean, double* inverse_deviation,
                       int64_t count, cudaStream_t stream);
void masked_patch_loss_backward(const MaskedPatchLoss<float>& args, const float* mean, const float* inverse_deviation,
                                const float* scale, float* gradient, int64_t count, cudaStream_t stream);
void masked_patch_loss_backward(const MaskedPatchLoss<double>& args, const double* mean,
                                const double* inverse_deviation, const double* scale, double* gradient, int64_t count,
                                cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
