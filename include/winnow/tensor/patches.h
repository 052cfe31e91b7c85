#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// Images as sequences of square patches: L = (H/p)*(W/p), patch number = row*(W/p) + col, P = p*p*C values in the order
// (pixel row, pixel column, channel). Source: He et al. 2021, arXiv 2111.06377, section 3 and its code.
namespace winnow {

// images [B, C, H, W] -> [B, L, P]. Differentiable, any dtype. Throws winnow::Error unless p divides H and W.
at::Tensor patchify(const at::Tensor& images, int64_t patch);

// The inverse: patches [B, L, P] -> [B, C, height, width] with C = P / p^2. Differentiable.
at::Tensor unpatchify(const at::Tensor& patches, int64_t patch, int64_t height, int64_t width);
// Of a square picture: L must be a square number.
at::Tensor unpatchify(const at::Tensor& patches, int64_t patch);

// images [B, C, H, W], ids [B, K] int64 -> [B, K, C*p*p], the pixels of the chosen patches in the order (channel, pixel
// row, pixel column) of a convolution's weight: linear(gather_patches(x, p, ids), weight.flatten(1), bias) is the patch
// embedding of the kept patches alone. Any dtype. images must not require a gradient (winnow::Error).
at::Tensor gather_patches(const at::Tensor& images, int64_t patch, const at::Tensor& ids);

struct MaskedPatchLossOptions {
  int64_t patch = 16;     // p, divides H and W
  bool norm_pix = false;  // compare with (t - mean) / sqrt(var + 1e-6) of each patch, var divided by P - 1
};

// The targets that masked_patch_loss compares with: patchify(images), normalised per patch under norm_pix. [B, L, P]
at::Tensor patch_targets(const at::Tensor& images, const MaskedPatchLossOptions& opts);

// sum_i mask_i * mean((pred_i - target_i)^2) / sum_i mask_i, a scalar, over all patches i of the batch. pred [B, L, P]
// floating, images [B, C, H, W], mask [B, L] of any dtype, 1 = removed, 0 = kept (a kept patch is not read and gets
// exactly zero gradient). With ids [B, R] int64 in [0, L), pred [B, R, P] and mask [B, R] are of those patches alone.
// The result is float32 (float64 if pred is float64); float16 and bfloat16 predictions are
// compared in float32. Gradient for pred only: images and mask must not require one (winnow::Error). No double backward
// (an error). Throws winnow::Error on shapes that do not fit and, for CPU tensors, if the mask counts no patch or holds
// a negative or non-finite weight.
at::Tensor masked_patch_loss(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& mask,
                             const MaskedPatchLossOptions& opts, const at::Tensor& ids = {});

}  // namespace winnow
