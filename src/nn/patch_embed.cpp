#include "winnow/nn/patch_embed.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include <cmath>

#include "winnow/core/error.h"

namespace winnow {

Fields<PatchEmbedOptions> PatchEmbedOptions::fields() {
  return Fields<PatchEmbedOptions>("PatchEmbed")
      .add("patch", &PatchEmbedOptions::patch, "patch size along each spatial dimension", at_least(1))
      .add("channels", &PatchEmbedOptions::channels, "channels of the input", at_least(1))
      .add("dim", &PatchEmbedOptions::dim, "width of a token", at_least(1))
      .add("bias", &PatchEmbedOptions::bias, "whether a bias is added")
      .rule([](const PatchEmbedOptions& o) {
        WINNOW_CHECK(o.patch.size() >= 1 && o.patch.size() <= 3, "PatchEmbed: patch must have 1 to 3 sizes, got {}",
                     o.patch.size());
      });
}

PatchProjectionImpl::PatchProjectionImpl(PatchEmbedOptions opts) : options(std::move(opts)) {
  check(options);
  reset();
}

void PatchProjectionImpl::reset() {
  std::vector<int64_t> shape = {options.dim, options.channels};
  shape.insert(shape.end(), options.patch.begin(), options.patch.end());
  weight = register_parameter("weight", at::empty(shape, at::kFloat));
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight.numel() / options.dim));
  const at::NoGradGuard no_grad;
  weight.uniform_(-bound, bound);
  if (options.bias) {
    bias = register_parameter("bias", at::empty({options.dim}, at::kFloat));
    bias.uniform_(-bound, bound);
  }
}

PatchEmbedImpl::PatchEmbedImpl(PatchEmbedOptions opts) : options(std::move(opts)) {
  check(options);
  reset();
}

void PatchEmbedImpl::reset() {
  proj = register_module("proj", PatchProjection(options));
}

std::vector<int64_t> PatchEmbedImpl::grid(const at::Tensor& x) const {
  const auto rank = static_cast<int64_t>(options.patch.size());
  WINNOW_CHECK(x.dim() == rank + 2, "PatchEmbed: x must have {} dimensions [B, C, {} spatial], got shape [{}]",
               rank + 2, rank, fmt::join(x.sizes(), ", "));
  WINNOW_CHECK(x.size(1) == options.channels, "PatchEmbed: x must have {} channels, got {}", options.channels,
               x.size(1));
  std::vector<int64_t> cells;
  for (int64_t i = 0; i < rank; ++i) {
    const auto size = x.size(2 + i), patch = options.patch[static_cast<size_t>(i)];
    WINNOW_CHECK(size >= patch && size % patch == 0,
                 "PatchEmbed: spatial size {} of x must be a positive multiple of the patch size {}, got {}", i, patch,
                 size);
    cells.push_back(size / patch);
  }
  return cells;
}

at::Tensor PatchEmbedImpl::unfold(const at::Tensor& x) const {
  const auto cells = grid(x);
  const auto rank = static_cast<int64_t>(cells.size());
  std::vector<int64_t> split = {x.size(0), x.size(1)};  // [B, C, n1, p1, n2, p2 ...]
  std::vector<int64_t> order = {0}, inside = {1};       // B, n1, n2 ..., then C, p1, p2 ...
  int64_t length = 1, width = options.channels;
  for (int64_t i = 0; i < rank; ++i) {
    const auto n = cells[static_cast<size_t>(i)], p = options.patch[static_cast<size_t>(i)];
    split.insert(split.end(), {n, p});
    order.push_back(2 + 2 * i);
    inside.push_back(3 + 2 * i);
    length *= n;
    width *= p;
  }
  order.insert(order.end(), inside.begin(), inside.end());
  return x.reshape(split).permute(order).reshape({x.size(0), length, width});
}

at::Tensor PatchEmbedImpl::project(const at::Tensor& patches) const {
  const auto weight = proj->weight.flatten(1);  // [D, C p...]
  WINNOW_CHECK(patches.dim() >= 1 && patches.size(-1) == weight.size(1),
               "PatchEmbed: patches must have {} as their last size, got shape [{}]", weight.size(1),
               fmt::join(patches.sizes(), ", "));
  return at::linear(patches, weight, proj->bias);
}

// A matrix product of the cut patches is the convolution; it has no kernel selection and no layout change around it.
at::Tensor PatchEmbedImpl::forward(const at::Tensor& x) {
  return hooked(project(unfold(x)));
}

}  // namespace winnow
