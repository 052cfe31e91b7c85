#include "winnow/kernels/gather_tokens.h"

#include "block.cuh"

namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// Unit is the widest type that divides a row and both addresses.
template <typename Unit>
__global__ void gather_kernel(const Unit* x, const int64_t* ids, int64_t rows, int64_t length, int64_t kept,
                              int64_t width, Unit* out) {
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const int64_t id = ids[r];
    const bool inside = id >= 0 && id < length;
    const Unit* from = x + (r / kept * length + (inside ? id : 0)) * width;
    for (int64_t j = threadIdx.x; j < width; j += kThreads) out[r * width + j] = inside ? from[j] : Unit{};
  }
}

// One thread owns column j of sample b through all k: repeated ids add up in order, without atomics.
template <typename T>
__global__ void scatter_kernel(const T* grad, const int64_t* ids, int64_t batch, int64_t length, int64_t kept,
                               int64_t width, T* grad_x) {
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    for (int64_t j = blockIdx.x * int64_t{kThreads} + threadIdx.x; j < width; j += gridDim.x * int64_t{kThreads}) {
      T* sample = grad_x + b * length * width + j;
      for (int64_t l = 0; l < length; ++l) sample[l * width] = 0;
      for (int64_t k = 0; k < kept; ++k) {
        const int64_t id = ids[b * kept + k];
        if (id >= 0 && id < length) sample[id * width] += grad[(b * kept + k) * width + j];
      }
    }
  }
}

template <typename Unit>
__global__ void patches_kernel(GatherPatches a, int64_t rows, Unit* out) {
  const int64_t p = a.patch, grid_w = a.width / p, per_image = (a.height / p) * grid_w, size = a.channels * p * p;
  const auto* image = static_cast<const Unit*>(a.image);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const int64_t id = a.ids[r], b = r / a.kept;
    const bool inside = id >= 0 && id < per_image;
    const int64_t top = inside ? id / grid_w * p : 0, left = inside ? id % grid_w * p : 0;
    for (int64_t j = threadIdx.x; j < size; j += kThreads) {
      const int64_t x = j % p, y = j / p % p, c = j / (p * p);
      const int64_t at = ((b * a.channels + c) * a.height + top + y) * a.width + left + x;
      out[r * size + j] = inside ? image[at] : Unit{};
    }
  }
}

template <typename Unit>
void launch_gather(const void* x, const int64_t* ids, int64_t batch, int64_t length, int64_t kept, int64_t row_bytes,
                   void* out, cudaStream_t stream) {
  const auto width = row_bytes / static_cast<int64_t>(sizeof(Unit));
  gather_kernel<<<grid_for(batch * kept), kThreads, 0, stream>>>(static_cast<const Unit*>(x), ids, batch * kept, length,
                                                                 kept, width, static_cast<Unit*>(out));
}

template <typename T>
void launch_scatter(const T* grad, const int64_t* ids, int64_t batch, int64_t length, int64_t kept, int64_t width,
                    T* grad_x, cudaStream_t stream) {
  const dim3 grid(grid_for((width + kThreads - 1) / kThreads), grid_for(batch));
  scatter_kernel<<<grid, kThreads, 0, stream>>>(grad, ids, batch, length, kept, width, grad_x);
}

template <typename Unit>
void launch_patches(const GatherPatches& args, int64_t batch, void* out, cudaStream_t stream) {
  const int64_t rows = batch * args.kept;
  patches_kernel<<<grid_for(rows), kThreads, 0, stream>>>(args, rows, static_cast<Unit*>(out));
}

}  // namespace

void gather_tokens(const void* x, const int64_t* ids, int64_t batch, int64_t length, int64_t kept, int64_t row_bytes,
                   void* out, cudaStream_t stream) {
  const auto low_bits =
      reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(out) | static_cast<uintptr_t>(row_bytes);
  if (low_bits % 16 == 0) {
    launch_gather<uint4>(x, ids, batch, length, kept, row_bytes, out, stream);
  } else if (low_bits % 4 == 0) {
    launch_gather<uint32_t>(x, ids, batch, length, kept, row_bytes, out, stream);
  } else {
    launch_gather<unsigned char>(x, ids, batch, length, kept, row_bytes, out, stream);
  }
}

void gather_tokens_backward(const float* grad, const int64_t* ids, int64_t batch, int64_t length, int64_t kept,
                            int64_t width, float* grad_x, cudaStream_t stream) {
  launch_scatter(grad, ids, batch, length, kept, width, grad_x, stream);
}
void gather_tokens_backward(const double* grad, const int64_t* ids, int64_t batch, int64_t length, int64_t kept,
                            int64_t width, double* grad_x, cudaStream_t stream) {
  launch_scatter(grad, ids, batch, length, kept, width, grad_x, stream);
}

void gather_patches(const GatherPatches& args, int64_t batch, void* out, cudaStream_t stream) {
  switch (args.element_size) {
    case 1: return launch_patches<uint8_t>(args, batch, out, stream);
    case 2: return launch_patches<uint16_t>(args, batch, out, stream);
    case 4: return launch_patches<uint32_t>(args, batch, out, stream);
    default: return launch_patches<uint64_t>(args, batch, out, stream);
  }
}

}  // namespace winnow::kernels::cuda
