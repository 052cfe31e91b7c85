#include <cuda_runtime.h>

#include "winnow/kernels/image_resize.h"

// One block makes kColumns x kRows output pixels. It walks over the input rows that they need, kRows at a time: each
// thread makes one pixel of the horizontal pass, all share them, each adds those that its own output row weighs. The
// integer sums are those of the CPU kernel.
namespace winnow::kernels::cuda {
namespace {

constexpr int kColumns = 32;
constexpr int kRows = 8;

template <int kChannels>
__global__ void resize_kernel(ImageResize job) {
  __shared__ uint8_t narrow[kChannels][kRows][kColumns];
  const int64_t x = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t top = static_cast<int64_t>(blockIdx.y) * kRows;
  const int64_t y = top + threadIdx.y;
  const int64_t bottom = min(top + kRows, job.out_height) - 1;
  const int64_t last = min(job.rows.first[bottom] + job.rows.taps, job.box_height);
  const bool inside = x < job.out_width && y < job.out_height;

  const int64_t column = x < job.out_width ? job.columns.first[x] : 0;
  const int64_t columns = min(job.columns.taps, job.box_width - column);
  const int64_t first = inside ? job.rows.first[y] : 0;
  int32_t sums[kChannels] = {};
  for (int64_t start = job.rows.first[top]; start < last; start += kRows) {
    const int64_t row = start + threadIdx.y;
    if (x < job.out_width && row < last) {
      const uint8_t* from = job.image + (job.top + row) * job.stride + (job.left + column) * kChannels;
      const int16_t* weights = job.columns.weights + x * job.columns.taps;
      for (int c = 0; c < kChannels; ++c) {
        int32_t sum = 1 << (kResizeBits - 1);
        for (int64_t t = 0; t < columns; ++t) sum += weights[t] * from[t * kChannels + c];
        narrow[c][threadIdx.y][threadIdx.x] = static_cast<uint8_t>(min(max(sum >> kResizeBits, 0), 255));
      }
    }
    __syncthreads();
    if (inside) {
      for (int64_t k = 0; k < kRows; ++k) {
        const int64_t tap = start + k - first;
        if (start + k >= last || tap < 0 || tap >= job.rows.taps) continue;
        const int32_t weight = job.rows.weights[y * job.rows.taps + tap];
        for (int c = 0; c < kChannels; ++c) sums[c] += weight * narrow[c][k][threadIdx.x];
      }
    }
    __syncthreads();
  }
  if (!inside) return;
  for (int c = 0; c < kChannels; ++c) {
    const float value = static_cast<float>(sums[c]) * (1.0F / (1 << kResizeBits));
    job.out[(c * job.out_height + y) * job.out_width + x] =
        fmaf(fminf(fmaxf(value, 0.0F), 255.0F), job.scale[c], job.shift[c]);
  }
}

}  // namespace

void image_resize(const ImageResize& job, cudaStream_t stream) {
  const dim3 block(kColumns, kRows);
  const dim3 grid(static_cast<unsigned>((job.out_width + kColumns - 1) / kColumns),
                  static_cast<unsigned>((job.out_height + kRows - 1) / kRows));
  switch (job.channels) {
    case 1: resize_kernel<1><<<grid, block, 0, stream>>>(job); break;
    case 2: resize_kernel<2><<<grid, block, 0, stream>>>(job); break;
    case 3: resize_kernel<3><<<grid, block, 0, stream>>>(job); break;
    default: resize_kernel<4><<<grid, block, 0, stream>>>(job); break;
  }
}

}  // namespace winnow::kernels::cuda
