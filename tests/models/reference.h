// A second, plain implementation of the ViT family, written from the description of the published checkpoints: it works
// on the tensors of a file by their published names and on its config.json, with elementary operations only. Slow and
// without any code of the library; the golden tensors vouch for it (see ReferenceGolden).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::testing {

class ReferenceViT {
 public:
  using Tensors = std::map<std::string, at::Tensor>;
  ReferenceViT(Tensors tensors, io::Json config) : tensors_(std::move(tensors)), config_(std::move(config)) {}

  // Embeddings with all prefix tokens and positions: [B, P + L, D]. `base` as in the file's names ("vit.", "").
  at::Tensor embeddings(const std::string& base, const at::Tensor& images, const at::Tensor& masked = {}) const;
  // Through the blocks and the final norm.
  at::Tensor encode(const std::string& base, at::Tensor x) const;

  struct Mae {
    at::Tensor loss, logits, latent;
  };
  // The masked autoencoder with interpolated positions where the size differs from the config's.
  Mae mae(const at::Tensor& images, const at::Tensor& noise) const;

  at::Tensor tensor(const std::string& name) const;
  at::Tensor dense(const std::string& name, const at::Tensor& x) const;  // x W^T + b of name.weight, name.bias
  at::Tensor activation(const std::string& name, const at::Tensor& x) const;

 private:
  at::Tensor norm(const std::string& name, const at::Tensor& x) const;
  at::Tensor block(const std::string& name, const at::Tensor& x, int64_t heads) const;
  at::Tensor patches(const std::string& base, const at::Tensor& images) const;

  Tensors tensors_;
  io::Json config_;
};

// x [N, D] -> [length, D] by Keys' cubic convolution with a = -0.75, sample centres at half pixels, edges repeated.
at::Tensor cubic_resize(const at::Tensor& x, int64_t length);
// x [rows * columns, D] -> [to_rows * to_columns, D], along one axis after the other.
at::Tensor cubic_resize_grid(const at::Tensor& x, int64_t rows, int64_t columns, int64_t to_rows, int64_t to_columns);

}  // namespace winnow::testing
