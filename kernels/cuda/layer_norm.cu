#include "winnow/kernels/layer_norm.h"

#include "block.cuh"

namespace winnow::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// One block per row.
template <typename T>
__global__ void norm_kernel(AddLayerNorm<T> a, T* sum, T* normalized, T* mean, T* rstd) {
  const auto count = static_cast<double>(a.width);
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    T* row = sum + r * a.width;  // each thread reads back only what it writes
    double partial = 0;
    for (int64_t j = threadIdx.x; j < a.width; j += kThreads) {
      row[j] = a.x[r * a.width + j] + a.delta[r * a.width + j];
      partial += static_cast<double>(row[j]);
    }
    const double m = block_sum<kThreads>(partial) / count;
    double square = 0;
    for (int64_t j = threadIdx.x; j < a.width; j += kThreads) {
      const double v = static_cast<double>(row[j]) - m;
      square += v * v;
    }
    const double s = 1.0 / sqrt(block_sum<kThreads>(square) / count + a.eps);
    for (int64_t j = threadIdx.x; j < a.width; j += kThreads) {
      normalized[r * a.width + j] = (row[j] - static_cast<T>(m)) * static_cast<T>(s) * a.weight[j] + a.bias[j];
    }
    if (threadIdx.x == 0) {
      mean[r] = static_cast<T>(m);
      rstd[r] = static_cast<T>(s);
    }
  }
}

// One block per row.
template <typename T>
__global__ void input_gradient_kernel(AddLayerNormGrad<T> a, T* grad_x) {
  const auto count = static_cast<double>(a.width);
  for (int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    const int64_t base = r * a.width;
    double sum = 0, dot = 0;
    for (int64_t j = threadIdx.x; j < a.width; j += kThreads) {
      const T gw = a.grad_normalized[base + j] * a.weight[j];
      sum += static_cast<double>(gw);
      dot += static_cast<double>(gw * (a.sum[base + j] - a.mean[r]) * a.rstd[r]);
    }
    const T mean_sum = static_cast<T>(block_sum<kThreads>(sum) / count);
    const T mean_dot = static_cast<T>(block_sum<kThreads>(dot) / count);
    for (int64_t j = threadIdx.x; j < a.width; j += kThreads) {
      const T x = (a.sum[base + j] - a.mean[r]) * a.rstd[r];
      const T v = (a.grad_normalized[base + j] * a.weight[j] - mean_sum - x * mean_dot) * a.rstd[r];
      grad_x[base + j] = a.grad_sum == nullptr ? v : v + a.grad_sum[base + j];
    }
  }
}

// A block has one block of rows and kThreads columns; each thread sums its column in order of the rows.
template <typename T>
__global__ void parameter_gradient_kernel(AddLayerNormGrad<T> a, T* partial_weight, T* partial_bias) {
  const int64_t blocks = (a.rows + kLayerNormBlock - 1) / kLayerNormBlock;
  for (int64_t k = blockIdx.y; k < blocks; k += gridDim.y) {
    for (int64_t j = blockIdx.x * int64_t{kThreads} + threadIdx.x; j < a.width; j += gridDim.x * int64_t{kThreads}) {
      T weight = 0, bias = 0;
      const int64_t end = (k + 1) * kLayerNormBlock < a.rows ? (k + 1) * kLayerNormBlock : a.rows;
      for (int64_t r = k * kLayerNormBlock; r < end; ++r) {
        const T g = a.grad_normalized[r * a.width + j];
        weight += g * (a.sum[r * a.width + j] - a.mean[r]) * a.rstd[r];
        bias += g;
      }
      partial_weight[k * a.width + j] = weight;
      partial_bias[k * a.width + j] = bias;
    }
  }
}

template <typename T>
void launch(const AddLayerNorm<T>& args, T* sum, T* normalized, T* mean, T* rstd, cudaStream_t stream) {
  norm_kernel<<<grid_for(args.rows), kThreads, 0, stream>>>(args, sum, normalized, mean, rstd);
}

template <typename T>
void launch_backward(const AddLayerNormGrad<T>& args, T* grad_x, T* partial_weight, T* partial_bias,
                     cudaStream_t stream) {
  input_gradient_kernel<<<grid_for(args.rows), kThreads, 0, stream>>>(args, grad_x);
  const dim3 grid(grid_for((args.width + kThreads - 1) / kThreads),
                  grid_for((args.rows + kLayerNormBlock - 1) / kLayerNormBlock));
  parameter_gradient_kernel<<<grid, kThreads, 0, stream>>>(args, partial_weight, partial_bias);
}

}  // namespace

void add_layer_norm(const AddLayerNorm<float>& args, float* sum, float* normalized, float* mean, float* rstd,
                    cudaStream_t stream) {
  launch(args, sum, normalized, mean, rstd, stream);
}
void add_layer_norm(const AddLayerNorm<double>& args, double* sum, double* normalized, double* mean, double* rstd,
                    cudaStream_t stream) {
  launch(args, sum, normalized, mean, rstd, stream);
}
void add_layer_norm_backward(const AddLayerNormGrad<float>& args, float* grad_x, float* partial_weight,
                             float* partial_bias, cudaStream_t stream) {
  launch_backward(args, grad_x, partial_weight, partial_bias, stream);
}
void add_layer_norm_backward(const AddLayerNormGrad<double>& args, double* grad_x, double* partial_weight,
                             double* partial_bias, cudaStream_t stream) {
  launch_backward(args, grad_x, partial_weight, partial_bias, stream);
}

}  // namespace winnow::kernels::cuda
