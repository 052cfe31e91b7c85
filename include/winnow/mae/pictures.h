#pragma once

// Pictures of a masked autoencoder at work.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "winnow/mae/masked_autoencoder.h"

namespace winnow::mae {

// pred [B, L, p*p*C] -> images [B, C, H, W] in the value range of `images`. Where norm_pix is on, each patch is scaled
// back by the true mean and deviation of that patch of `images`.
at::Tensor predicted_pixels(const at::Tensor& pred, const at::Tensor& images, int64_t patch, bool norm_pix);

struct SheetOptions {
  int64_t patch = 16;
  bool norm_pix = false;
  std::vector<double> mean = {};  // normalisation of the images, one value per channel; empty: none
  std::vector<double> std = {};
  int64_t scale = 1;    // every pixel becomes a square of this side
  int64_t columns = 1;  // samples beside each other
};
// One strip per sample: original, masked (removed patches grey), prediction of the removed patches set into the kept
// ones. images [B, C, H, W], normalised as said, C = 1 or 3 -> uint8 [height, width, C] for io::write_png.
at::Tensor picture_sheet(const at::Tensor& images, const MaeOutput& output, const SheetOptions& options);

}  // namespace winnow::mae
