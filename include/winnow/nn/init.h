#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace winnow {

// All functions write in place without recording a gradient, and draw from `generator` (a CPU generator; the numbers
// are drawn on the CPU in float32 and copied, so that they are the same on every device and in every dtype).

// U(-b, b) with b = sqrt(6 / (fan_in + fan_out)) on the view [rows, rest] of the weight: rows = size(0) is fan_out, the
// product of the other sizes fan_in. A fused qkv weight [3D, D] is one matrix: b = sqrt(6 / 4D); a patch projection
// [D, C, p, p] counts as [D, C p p]. Source: Glorot and Bengio 2010, eq. 16.
void xavier_uniform_(const at::Tensor& weight, at::Generator generator);

// N(mean, deviation) cut to [low, high] (by the inverse of the distribution function, not by rejection).
void trunc_normal_(const at::Tensor& weight, at::Generator generator, double deviation = 0.02, double mean = 0.0,
                   double low = -2.0, double high = 2.0);

void normal_(const at::Tensor& weight, at::Generator generator, double deviation = 0.02, double mean = 0.0);
void uniform_(const at::Tensor& weight, at::Generator generator, double low, double high);

// The initialisation of MAE for a whole tree (official code, models_mae.py): weights of Linear and PatchEmbed xavier
// uniform, biases of Linear zero, of PatchEmbed U(-1/sqrt(fan_in), 1/sqrt(fan_in)), Norm and LayerNorm 1 and 0.
// Parameters of other modules (class and mask tokens, position tables) are left alone.
void init_mae_weights(torch::nn::Module& root, at::Generator generator);

// The initialisation of timm's ViT: weights of Linear N(0, 0.02) cut to [-2, 2], biases zero; the rest as above but
// PatchEmbed, which gets U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weight and bias.
void init_trunc_normal_weights(torch::nn::Module& root, at::Generator generator);

}  // namespace winnow
