#include "winnow/kernels/masked_patch_loss.h"

#include "block.cuh"

// One block per patch: the patch's pixels are read twice for the statistics and once for the comparison, from the
// cache.
namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = 128;

template <typename T>
__device__ const T* patch_origin(const MaskedPatchLoss<T>& a, int64_t i) {
  const int64_t number = a.patches == nullptr ? i : a.patches[i];
  const int64_t grid_w = a.width / a.patch, per_image = (a.height / a.patch) * grid_w;
  const int64_t b = number / per_image, row = number % per_image / grid_w, col = number % grid_w;
  return a.image + (b * a.channels * a.height + row * a.patch) * a.width + col * a.patch;
}

// Pixel j of the patch in its order (pixel row, pixel column, channel).
template <typename T>
__device__ T pixel(const MaskedPatchLoss<T>& a, const T* origin, int64_t j) {
  const int64_t c = j % a.channels, x = j / a.channels % a.patch, y = j / a.channels / a.patch;
  return origin[(c * a.height + y) * a.width + x];
}

template <typename T>
__global__ void loss_kernel(MaskedPatchLoss<T> a, T* loss, T* mean, T* inverse_deviation, int64_t count) {
  const int64_t size = a.patch * a.patch * a.channels;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    if (a.weight[i] == T{0}) {
      if (threadIdx.x == 0) {
        loss[i] = 0;
        mean[i] = 0;
        inverse_deviation[i] = 1;
      }
      continue;
    }
    const T* origin = patch_origin(a, i);
    T m = 0, s = 1;
    if (a.normalize) {
      const T shift = origin[0];  // a constant patch has a variance of exactly zero
      T sum = 0;
      for (int64_t j = threadIdx.x; j < size; j += kThreads) sum += pixel(a, origin, j) - shift;
      m = static_cast<T>(static_cast<double>(shift) + block_sum<kThreads>(sum) / static_cast<double>(size));
      T square = 0;
      for (int64_t j = threadIdx.x; j < size; j += kThreads) {
        const T v = pixel(a, origin, j) - m;
        square += v * v;
      }
      const double total = block_sum<kThreads>(square);
      s = static_cast<T>(1.0 / sqrt((size > 1 ? total / static_cast<double>(size - 1) : 0.0) + 1e-6));
    }
    T error = 0;
    for (int64_t j = threadIdx.x; j < size; j += kThreads) {
      const T v = a.prediction[i * size + j] - (pixel(a, origin, j) - m) * s;
      error += v * v;
    }
    const double total = block_sum<kThreads>(error);
    if (threadIdx.x == 0) {
      loss[i] = static_cast<T>(total / static_cast<double>(size));
      mean[i] = m;
      inverse_deviation[i] = s;
    }
  }
}

template <typename T>
__global__ void gradient_kernel(MaskedPatchLoss<T> a, const T* mean, const T* inverse_deviation, const T* scale,
                                T* gradient, int64_t count) {
  const int64_t size = a.patch * a.patch * a.channels;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const T weight = a.weight[i];
    if (weight == T{0}) {
      for (int64_t j = threadIdx.x; j < size; j += kThreads) gradient[i * size + j] = 0;
      continue;
    }
    const T* origin = patch_origin(a, i);
    const T factor = *scale * weight * static_cast<T>(2.0 / static_cast<double>(size));
    for (int64_t j = threadIdx.x; j < size; j += kThreads) {
      const T target = (pixel(a, origin, j) - mean[i]) * inverse_deviation[i];
      gradient[i * size + j] = factor * (a.prediction[i * size + j] - target);
    }
  }
}

}  // namespace

void masked_patch_loss(const MaskedPatchLoss<float>& args, float* loss, float* mean, float* inverse_deviation,
                       int64_t count, cudaStream_t stream) {
  loss_kernel<<<grid_for(count), kThreads, 0, stream>>>(args, loss, mean, inverse_deviation, count);
}
void masked_patch_loss(const MaskedPatchLoss<double>& args, double* loss, double* mean, double* inverse_deviation,
                       int64_t count, cudaStream_t stream) {
  loss_kernel<<<grid_for(count), kThreads, 0, stream>>>(args, loss, mean, inverse_deviation, count);
}
void masked_patch_loss_backward(const MaskedPatchLoss<float>& args, const float* mean, const float* inverse_deviation,
                                const float* scale, float* gradient, int64_t count, cudaStream_t stream) {
  gradient_kernel<<<grid_for(count), kThreads, 0, stream>>>(args, mean, inverse_deviation, scale, gradient, count);
}
void masked_patch_loss_backward(const MaskedPatchLoss<double>& args, const double* mean,
                                const double* inverse_deviation, const double* scale, double* gradient, int64_t count,
                                cudaStream_t stream) {
  gradient_kernel<<<grid_for(count), kThreads, 0, stream>>>(args, mean, inverse_deviation, scale, gradient, count);
}

}  // namespace winnow::kernels::cuda
