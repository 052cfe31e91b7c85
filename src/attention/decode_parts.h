// The layers of a DecodePlan as raw pointers. Internal: not installed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "winnow/attention/transformer_block.h"
#include "winnow/kernels/activation_rows.h"
#include "winnow/kernels/linear_rows.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/norm.h"

namespace winnow::decode {

// What a plan was compiled from: whether all of it is still there, and float32 copies of what is not float32.
class Sources {
 public:
  // Data of a tensor that stays where it is; null for an undefined one.
  const void* in_place(const at::Tensor& field);
  // float32 data of a vector (a bias): in place, or a copy that is outdated once the vector changes.
  const float* as_float(const at::Tensor& field);
  // The plan holds a copy of this tensor in some form, and is outdated once it changes.
  void watch(const at::Tensor& field);
  // Data of a float32 tensor made for the plan alone.
  const float* keep(at::Tensor made);
  void storage_of(const LinearImpl& linear);
  [[nodiscard]] bool current() const;

 private:
  struct Source {
    const at::Tensor* field;
    const void* data;
    int64_t version;  // -1: not looked at
  };
  std::vector<Source> sources_;
  std::vector<std::pair<const LinearImpl*, const LinearStorage*>> storages_;
  std::vector<at::Tensor> kept_;
};

struct PlannedLinear {
  const void* weight = nullptr;
  kernels::RowsDtype dtype = kernels::RowsDtype::f32;
  const float* bias = nullptr;
  const LinearStorage* storage = nullptr;  // in the place of weight
  int64_t in = 0, out = 0;
};

struct PlannedNorm {
  const float *weight = nullptr, *bias = nullptr;
  int64_t width = 0;
  double eps = 0;
  bool rms = false;
};

struct PlannedBlock {
  TransformerBlockImpl* block = nullptr;
  PlannedNorm norm1, norm2, q_norm, k_norm;
  PlannedLinear qkv, proj, fc1, gate, fc2;
  kernels::RowActivation activation = kernels::RowActivation::gelu;
  int64_t window = 0;
};

PlannedLinear plan(const LinearImpl& linear, Sources& sources);
PlannedNorm plan(const NormImpl& norm, Sources& sources);
PlannedBlock plan(TransformerBlockImpl& block, int64_t window, Sources& sources);

// y [n, out] = x [n, in] W^T + b.
void run(const PlannedLinear& linear, const float* x, int64_t n, float* y);
// The norm of `rows` rows of x, which lie x_stride apart; with delta [rows, width] x += delta first.
void run(const PlannedNorm& norm, float* x, int64_t x_stride, const float* delta, float* y, int64_t y_stride,
         int64_t rows);

}  // namespace winnow::decode
