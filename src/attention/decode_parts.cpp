#include "decode_parts.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>

#include "winnow/kernels/norm_rows.h"
#include "winnow/tensor/linear_rows.h"

namespace winnow::decode {

const void* Sources::in_place(const at::Tensor& field) {
  const void* data = field.defined() ? field.const_data_ptr() : nullptr;
  sources_.push_back({.field = &field, .data = data, .version = -1});
  return data;
}

const float* Sources::as_float(const at::Tensor& field) {
  const void* data = in_place(field);
  if (!field.defined()) return nullptr;
  if (field.scalar_type() == at::kFloat && field.is_contiguous()) return static_cast<const float*>(data);
  watch(field);
  return keep(field.detach().to(at::kFloat).contiguous());
}

void Sources::watch(const at::Tensor& field) {
  in_place(field);
  if (field.defined() && !field.is_inference()) sources_.back().version = field._version();
}

const float* Sources::keep(at::Tensor made) {
  kept_.push_back(std::move(made));
  return kept_.back().const_data_ptr<float>();
}

void Sources::storage_of(const LinearImpl& linear) {
  storages_.emplace_back(&linear, linear.storage.get());
}

bool Sources::current() const {
  for (const auto& source : sources_) {
    const bool defined = source.field->defined();
    if ((defined ? source.field->const_data_ptr() : nullptr) != source.data) return false;
    if (source.version >= 0 && source.field->_version() != source.version) return false;
  }
  for (const auto& [linear, storage] : storages_) {
    if (linear->storage.get() != storage) return false;
  }
  return true;
}

PlannedLinear plan(const LinearImpl& linear, Sources& sources) {
  sources.storage_of(linear);
  return {.weight = sources.in_place(linear.weight),
          .dtype = linear.storage ? kernels::RowsDtype::f32 : rows_dtype(linear.weight.scalar_type()),
          .bias = sources.as_float(linear.bias),
          .storage = linear.storage.get(),
          .in = linear.in_features,
          .out = linear.out_features};
}

PlannedNorm plan(const NormImpl& norm, Sources& sources) {
  return {.weight = sources.as_float(norm.weight),
          .bias = sources.as_float(norm.bias),
          .width = norm.options.dim,
          .eps = norm.options.eps,
          .rms = norm.options.kind == NormKind::rms};
}

namespace {

kernels::RowActivation row_activation(Activation activation) {
  switch (activation) {
    case Activation::gelu: return kernels::RowActivation::gelu;
    case Activation::gelu_new: return kernels::RowActivation::gelu_tanh;
    case Activation::quick_gelu: return kernels::RowActivation::quick_gelu;
    case Activation::relu: return kernels::RowActivation::relu;
    case Activation::silu: return kernels::RowActivation::silu;
  }
  fail(ErrorKind::argument, "DecodePlan: activation must be one of the enum, got {}", static_cast<int>(activation));
}

}  // namespace

PlannedBlock plan(TransformerBlockImpl& block, int64_t window, Sources& sources) {
  PlannedBlock p;
  auto& attn = *block.attn;
  p.block = &block;
  p.window = window;
  p.norm1 = plan(*block.norm1, sources);
  if (block.norm2) p.norm2 = plan(*block.norm2, sources);
  p.qkv = plan(*attn.qkv, sources);
  if (attn.q_bias.defined()) {
    sources.watch(attn.q_bias);
    sources.watch(attn.v_bias);
    const auto q = attn.q_bias.detach().to(at::kFloat), v = attn.v_bias.detach().to(at::kFloat);
    p.qkv.bias = sources.keep(at::cat({q, at::zeros_like(v), v}));
  }
  p.proj = plan(*attn.proj, sources);
  if (attn.q_norm) {
    p.q_norm = plan(*attn.q_norm, sources);
    p.k_norm = plan(*attn.k_norm, sources);
  }
  if (block.mlp) {
    p.fc1 = plan(*block.mlp->fc1, sources);
    if (block.mlp->gate) p.gate = plan(*block.mlp->gate, sources);
    p.fc2 = plan(*block.mlp->fc2, sources);
    p.activation = row_activation(block.mlp->options.activation);
  }
  return p;
}

void run(const PlannedLinear& linear, const float* x, int64_t n, float* y) {
  if (linear.storage != nullptr) {
    linear.storage->rows(x, n, y);
    if (linear.bias == nullptr) return;
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t o = 0; o < linear.out; ++o) y[r * linear.out + o] += linear.bias[o];
    }
    return;
  }
  const kernels::LinearRows args{.x = x,
                                 .x_stride = linear.in,
                                 .weight = linear.weight,
                                 .dtype = linear.dtype,
                                 .bias = linear.bias,
                                 .y = y,
                                 .y_stride = linear.out,
                                 .n = n,
                                 .in = linear.in,
                                 .out = linear.out};
  at::parallel_for(0, linear.out, kernels::linear_rows_grain(linear.in),
                   [&](int64_t begin, int64_t end) { kernels::cpu::linear_rows(args, begin, end); });
}

void run(const PlannedNorm& norm, float* x, int64_t x_stride, const float* delta, float* y, int64_t y_stride,
         int64_t rows) {
  const kernels::NormRows args{.x = x,
                               .delta = delta,
                               .sum = x,
                               .weight = norm.weight,
                               .bias = norm.bias,
                               .y = y,
                               .x_stride = x_stride,
                               .delta_stride = norm.width,
                               .y_stride = y_stride,
                               .width = norm.width,
                               .eps = norm.eps,
                               .rms = norm.rms};
  kernels::cpu::norm_rows(args, 0, rows);
}

}  // namespace winnow::decode
