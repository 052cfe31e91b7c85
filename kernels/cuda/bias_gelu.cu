#include "winnow/kernels/bias_gelu.h"

#include "block.cuh"

namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = 128;

__device__ float half_erfc(float x) {
  return 0.5F * erfcf(x);
}
__device__ double half_erfc(double x) {
  return 0.5 * erfc(x);
}
__device__ float exponential(float x) {
  return expf(x);
}
__device__ double exponential(double x) {
  return exp(x);
}

template <typename T>
__global__ void forward_kernel(const T* x, const T* bias, int64_t count, int64_t width, T* out) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count; i += gridDim.x * int64_t{kThreads}) {
    const T v = x[i] + bias[i % width];
    out[i] = v * half_erfc(-v * static_cast<T>(0.70710678118654752440));
  }
}

// A block has one block of rows and kThreads columns; each thread sums its column in order of the rows.
template <typename T>
__global__ void backward_kernel(const T* grad, const T* x, const T* bias, int64_t rows, int64_t width, T* grad_x,
                                T* partial) {
  const int64_t blocks = (rows + kBiasGeluBlock - 1) / kBiasGeluBlock;
  for (int64_t k = blockIdx.y; k < blocks; k += gridDim.y) {
    for (int64_t j = blockIdx.x * int64_t{kThreads} + threadIdx.x; j < width; j += gridDim.x * int64_t{kThreads}) {
      T sum = 0;
      const int64_t end = (k + 1) * kBiasGeluBlock < rows ? (k + 1) * kBiasGeluBlock : rows;
      for (int64_t r = k * kBiasGeluBlock; r < end; ++r) {
        const T v = x[r * width + j] + bias[j];
        const T cdf = half_erfc(-v * static_cast<T>(0.70710678118654752440));
        const T density = static_cast<T>(0.39894228040143267794) * exponential(static_cast<T>(-0.5) * v * v);
        const T g = grad[r * width + j] * (cdf + v * density);
        grad_x[r * width + j] = g;
        sum += g;
      }
      partial[k * width + j] = sum;
    }
  }
}

template <typename T>
void launch(const T* x, const T* bias, int64_t rows, int64_t width, T* out, cudaStream_t stream) {
  const int64_t count = rows * width;
  forward_kernel<<<grid_for((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(x, bias, count, width, out);
}

template <typename T>
void launch_backward(const T* grad, const T* x, const T* bias, int64_t rows, int64_t width, T* grad_x, T* partial,
                     cudaStream_t stream) {
  const dim3 grid(grid_for((width + kThreads - 1) / kThreads), grid_for((rows + kBiasGeluBlock - 1) / kBiasGeluBlock));
  backward_kernel<<<grid, kThreads, 0, stream>>>(grad, x, bias, rows, width, grad_x, partial);
}

}  // namespace

void bias_gelu(const float* x, const float* bias, int64_t rows, int64_t width, float* out, cudaStream_t stream) {
  launch(x, bias, rows, width, out, stream);
}
void bias_gelu(const double* x, const double* bias, int64_t rows, int64_t width, double* out, cudaStream_t stream) {
  launch(x, bias, rows, width, out, stream);
}
void bias_gelu_backward(const float* grad, const float* x, const float* bias, int64_t rows, int64_t width,
                        float* grad_x, float* partial, cudaStream_t stream) {
  launch_backward(grad, x, bias, rows, width, grad_x, partial, stream);
}
void bias_gelu_backward(const double* grad, const double* x, const double* bias, int64_t rows, int64_t width,
                        double* grad_x, double* partial, cudaStream_t stream) {
  launch_backward(grad, x, bias, rows, width, grad_x, partial, stream);
}

}  // namespace winnow::kernels::cuda
