#pragma once

#include <cstdint>

#include "winnow/kernels/cuda_stream.h"

// LayerNorm with the residual addition before it, forward and backward in one pass over the rows. A NaN stays in its
// row (and reaches its gradients of weight and bias).
namespace winnow::kernels {

// One call's arguments. T is float or double.
template <typename T>
struct AddLayerNorm {
  const T* x;       // [rows, width]
  const T* delta;   // [rows, width]
  const T* weight;  // [width]
  const T* bias;    // [width]
  int64_t rows;
  int64_t width;  // >= 1
  double eps;
};

// What the backward pass reads.
template <typename T>
struct AddLayerNormGrad {
  const T* grad_normalized;  // [rows, width]
  const T* grad_sum;         // [rows, width], or null: zero
  const T* sum;              // [rows, width]: the norm's input
  const T* mean;             // [rows]
  const T* rstd;             // [rows]
  const T* weight;           // [width]
  int64_t rows;
  int64_t width;
};

// Rows in one unit of work, and in one partial sum of the weight and bias gradients.
inline constexpr int64_t kLayerNormGrain = 16;
inline constexpr int64_t kLayerNormBlock = 64;

namespace cpu {

// For the rows r of [begin, end): sum = x + delta, mean, rstd = 1 / sqrt(var + eps),
// normalized = (sum - mean) * rstd * weight + bias. var is divided by width.
void add_layer_norm(const AddLayerNorm<float>& args, float* sum, float* normalized, float* mean, float* rstd,
                    int64_t begin, int64_t end);
void add_layer_norm(const AddLayerNorm<double>& args, double* sum, double* normalized, double* mean, double* rstd,
                    int64_t begin, int64_t end);

// grad_x (which is also the gradient of delta) = grad_sum + the norm's gradient; partial_weight[k] and partial_bias[k]
// [width] the sums over the rows of block k, for the blocks k of [begin, end) of kLayerNormBlock rows each.
void add_layer_norm_backward(const AddLayerNormGrad<float>& args, float* grad_x, float* partial_weight,
                             float* partial_bias, int64_t begin, int64_t end);
void add_layer_norm_backward(const AddLayerNormGrad<double>& args, double* grad_x, double* partial_weight,
                             double* partial_bias, int64_t begin, int64_t end);

}  // namespace cpu

// The CUDA twins over all rows.
namespace cuda {

void add_layer_norm(const AddLayerNorm<float>& args, float* sum, float* normalized, float* mean, float* rstd,
                    cudaStream_t stream);
void add_layer_norm(const AddLayerNorm<double>& args, double* sum, double* normalized, double* mean, double* rstd,
                    cudaStream_t stream);
void add_layer_norm_backward(const AddLayerNormGrad<float>& args, float* grad_x, float* partial_weight,
                             float* partial_bias, cudaStream_t stream);
void add_layer_norm_backward(const AddLayerNormGrad<double>& args, double* grad_x, double* partial_weight,
                             double* partial_bias, cudaStream_t stream);

}  // namespace cuda
}  // namespace winnow::kernels
