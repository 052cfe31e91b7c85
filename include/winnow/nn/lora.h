// Low-rank adapters on linear layers: y = x W^T + s (x A^T) B^T with W frozen.
// Source: Hu et al. 2021 (LoRA), arXiv 2106.09685, section 4.1; scale of rsLoRA: Kalajdzievski 2023, arXiv 2312.03732.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/linear.h"

namespace winnow {

struct LoraOptions {
  int64_t rank = 8;      // r >= 1
  double alpha = 8.0;    // s = alpha / r
  bool rslora = false;   // s = alpha / sqrt(r)
  double dropout = 0.0;  // of the adapter's input, in training
  uint64_t seed = 0;     // of A and of the dropout
  static Fields<LoraOptions> fields();
};
double lora_scale(const LoraOptions& options);

// One adapter on some rows of a weight: A [r, in], B [R, r], and the R rows of W that it moves.
struct LoraPart {
  std::string name;  // what its file calls it
  LoraOptions options = {};
  std::vector<int64_t> rows;  // ascending or not, each at most once in all parts of a layer; empty: all, in order
  at::Tensor a, b;            // float32 parameters "a" and "b"; "a1", "b1", ... of further parts
};

// A weight with its adapters. The base is a dense weight (then a buffer "base", no longer a parameter) or another
// storage (child "inner"), and takes no gradient; the adapters do.
struct LoraStorage : LinearStorage {
  // `linear` gives its weight or storage as base; it is not changed. See add_lora.
  explicit LoraStorage(const LinearImpl& linear);

  // A new adapter: A from U(-1/sqrt(in), 1/sqrt(in)) by the options' seed, B zero, so that nothing changes at first.
  // `rows` as in LoraPart. Throws winnow::Error on a rank or rows out of range or a row that has an adapter already.
  LoraPart& add_part(std::string name, const LoraOptions& options, std::vector<int64_t> rows = {});

  [[nodiscard]] int64_t in() const override { return in_; }
  [[nodiscard]] int64_t out() const override { return out_; }
  [[nodiscard]] int64_t bytes() const override;
  [[nodiscard]] bool trainable() const override { return !merged(); }
  at::Tensor matmul(const at::Tensor& x) override;
  [[nodiscard]] at::Tensor dense() const override;  // with the adapters
  [[nodiscard]] std::vector<std::pair<std::string, at::Tensor>> tensors() const override;
  [[nodiscard]] std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

  // Adds the adapters to the dense base, for inference at the speed of the plain layer; nothing learns then. The
  // original is kept aside, so that unmerge restores it to the bit. Error(unsupported) over a storage that is not
  // dense.
  void merge();
  void unmerge();
  [[nodiscard]] bool merged() const { return original_.defined(); }
  // The base alone, as it was.
  [[nodiscard]] at::Tensor base_weight() const;

  std::vector<LoraPart> parts;
  at::Tensor base;                       // [out, in], or undefined
  std::shared_ptr<LinearStorage> inner;  // or null

 private:
  int64_t in_, out_;
  at::Tensor original_;
  std::vector<Dropout> drops_;  // of each part; empty without dropout
};

// The adapters of a layer; makes the storage, and freezes the layer's bias, at the first call.
LoraStorage& lora_of(LinearImpl& linear);
// Null where the layer has none.
LoraStorage* find_lora(const LinearImpl& linear);

// Puts an adapter on every Linear below `root` whose name (as named_modules() gives it) matches a pattern, and freezes
// all other parameters. A pattern is the whole name or its last parts ("qkv", "attn.qkv"); '*' stands for any text.
// Each layer draws from its own seed. Returns the names; throws winnow::Error if a pattern matches no Linear.
std::vector<std::string> add_lora(torch::nn::Module& root, const std::vector<std::string>& patterns,
                                  const LoraOptions& options);

// On all layers below `root` that have adapters.
void merge_lora(torch::nn::Module& root);
void unmerge_lora(torch::nn::Module& root);
// Ends it: the layers are plain again, with the adapters in their weights (of the base's dtype; float32 where the base
// was no dense tensor).
void fold_lora(torch::nn::Module& root);
// Ends it: the layers are again as before add_lora. Parameters stay frozen as they are.
void drop_lora(torch::nn::Module& root);

// A and B of every adapter, with their names in `root`.
std::vector<std::pair<std::string, at::Tensor>> lora_parameters(const torch::nn::Module& root);

}  // namespace winnow
