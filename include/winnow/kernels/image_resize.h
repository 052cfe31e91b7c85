// Crop + antialiased resize + flip + normalise of one uint8 picture, fused.
//
// Meaning (the separable filter of PIL and of torchvision's uint8 path): the box is resized to out_height x out_width
// as if nothing lay outside it. Horizontal pass first, its values rounded half up and clipped to uint8; then the
// vertical pass, clipped to [0, 255], not rounded; then out = value * scale[c] + shift[c]. Weights are int16 with
// kResizeBits fraction bits whose sum is exactly one, sums are int32: the CPU and the CUDA kernel agree to the bit but
// for the last multiply-add. Integers hold no NaN.
#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

namespace winnow::kernels {

enum class ResizeFilter { bilinear, bicubic };  // triangle of half-width 1; cubic convolution a = -0.5 of half-width 2

inline constexpr int kResizeBits = 14;

// The weights of one axis. Output o reads inputs first[o] .. first[o] + taps - 1 (relative to the box; always inside it
// where the box has at least `taps` pixels, else the weights past its end are zero) with weights[o * taps ...].
struct ResizeAxis {
  int32_t* first = nullptr;    // [out]
  int16_t* weights = nullptr;  // [out, taps]
  int64_t taps = 0;            // a multiple of 4
};

// Taps that an axis from `in` to `out` pixels needs (the caller allocates by it): a multiple of 4.
int64_t resize_taps(ResizeFilter filter, int64_t in, int64_t out);

// Fills axis.first and axis.weights (axis.taps from resize_taps) for in -> out pixels; `reversed` mirrors the output.
void resize_weights(ResizeFilter filter, int64_t in, int64_t out, bool reversed, const ResizeAxis& axis);

struct ImageResize {
  const uint8_t* image =
      nullptr;  // first byte of the decoded window; rows of `stride` bytes, pixels of `channels` bytes
  int64_t height = 0, width = 0, stride = 0;                 // of the window: no byte outside it is read
  int64_t channels = 3;                                      // 1 to 4
  int64_t top = 0, left = 0, box_height = 0, box_width = 0;  // inside the window
  ResizeAxis rows;                                           // box_height -> out_height
  ResizeAxis columns;                                        // box_width -> out_width; reversed for a flip
  int64_t out_height = 0, out_width = 0;
  float scale[4] = {1, 1, 1, 1};
  float shift[4] = {0, 0, 0, 0};
  float* out = nullptr;        // [channels, out_height, out_width]
  uint8_t* scratch = nullptr;  // image_resize_scratch(...) bytes; CPU only
};

// Bytes of scratch that cpu::image_resize needs for a whole picture (or for any range of its rows).
int64_t image_resize_scratch(const ImageResize& job);

namespace cpu {
inline constexpr int64_t kImageResizeGrain = 32;  // output rows worth a thread

// Output rows [begin, end). Each range needs its own scratch and redoes the input rows that it shares with its
// neighbours.
void image_resize(const ImageResize& job, int64_t begin, int64_t end);
}  // namespace cpu

namespace cuda {
// All output rows; every pointer of the job (first, weights, image, out) is on the device; no scratch.
void image_resize(const ImageResize& job, cudaStream_t stream);
}  // namespace cuda

}  // namespace winnow::kernels
