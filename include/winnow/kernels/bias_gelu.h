#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// gelu(x + bias) with the exact (erf) GELU, and its gradients, in one pass each. Source of the activation: Hendrycks
// and Gimpel 2016, arXiv 1606.08415. NaN gives NaN in its own place (and in the bias gradient of its column).
namespace winnow::kernels {

// Rows in one unit of work, and in one partial sum of the bias gradient: the partial sums do not depend on the threads.
inline constexpr int64_t kBiasGeluGrain = 8;
inline constexpr int64_t kBiasGeluBlock = 64;

namespace cpu {

// out[r, j] = gelu(x[r, j] + bias[j]) for the rows r of [begin, end); x and out [rows, width]. float32: within
// 1e-6 * (1 + |x|) of the exact value.
void bias_gelu(const float* x, const float* bias, int64_t width, float* out, int64_t begin, int64_t end);
void bias_gelu(const double* x, const double* bias, int64_t width, double* out, int64_t begin, int64_t end);

// grad_x[r, j] = grad[r, j] * gelu'(x[r, j] + bias[j]) and partial[k, j] = the sum of grad_x over the rows of block k,
// for the blocks k of [begin, end) of kBiasGeluBlock rows each. grad_bias is the sum of the partial rows.
void bias_gelu_backward(const float* grad, const float* x, const float* bias, int64_t rows, int64_t width,
                        float* grad_x, float* partial, int64_t begin, int64_t end);
void bias_gelu_backward(const double* grad, const double* x, const double* bias, int64_t rows, int64_t width,
                        double* grad_x, double* partial, int64_t begin, int64_t end);

}  // namespace cpu

// The CUDA twins over all rows.
namespace cuda {

void bias_gelu(const float* x, const float* bias, int64_t rows, int64_t width, float* out, cudaStream_t stream);
void bias_gelu(const double* x, const double* bias, int64_t rows, int64_t width, double* out, cudaStream_t stream);
void bias_gelu_backward(const float* grad, const float* x, const float* bias, int64_t rows, int64_t width,
                        float* grad_x, float* partial, cudaStream_t stream);
void bias_gelu_backward(const double* grad, const double* x, const double* bias, int64_t rows, int64_t width,
                        double* grad_x, double* partial, cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
