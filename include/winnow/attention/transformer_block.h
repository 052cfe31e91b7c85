#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "winnow/attention/multi_head_attention.h"
#include "winnow/core/options.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/feed_forward.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/layer_scale.h"
#include "winnow/nn/mlp.h"
#include "winnow/nn/norm.h"

namespace winnow {

enum class ResidualOrder {
  pre_norm,              // x + f(norm(x)): ViT, GPT-2, Llama
  post_norm,             // norm(x + f(x)): BERT
  parallel,              // x + attn(norm1 x) + mlp(norm2 x): GPT-NeoX
  parallel_shared_norm,  // x + attn(norm1 x) + mlp(norm1 x): GPT-J; no norm2
};
EnumNames<ResidualOrder> enum_names(ResidualOrder);

struct TransformerBlockOptions {
  int64_t dim = 0;  // D >= 1; stands in for every nested dim left 0
  ResidualOrder order = ResidualOrder::pre_norm;
  NormKind norm = NormKind::layer;
  double eps = 1e-6;
  bool norm_bias = true;
  AttentionOptions attention = {};  // heads, biases, ...
  MlpOptions mlp = {};
  bool custom_mlp = false;  // no Mlp is made: set_feed_forward gives the block what runs in its place
  bool cross_attention =
      false;  // a second attention over a context, between the two sublayers (not with parallel order)
  AttentionOptions cross = {};  // its options; `cross.cross` is implied
  double layer_scale = 0.0;     // first value of gamma; 0: no LayerScale
  double drop_path = 0.0;       // rate of DropPath on every residual branch
  double dropout = 0.0;         // on every residual branch, before LayerScale
  uint64_t seed = 0;            // of DropPath and dropout
  static Fields<TransformerBlockOptions> fields();
};

// What one call may bring. for_layer is used by Stack.
struct BlockArgs {
  AttentionArgs self = {};
  AttentionArgs cross = {};
  BlockArgs for_layer(int64_t index) const;
};

// One transformer block, put together by its options. Children, named as timm does: norm1, attn.{qkv,proj}, ls1.gamma,
// norm2, mlp.{fc1,fc2}, ls2.gamma; drop_path1, drop_path2; with cross-attention norm_cross, cross_attn, ls_cross. With
// custom_mlp the child mlp is what set_feed_forward was given.
struct TransformerBlockImpl : torch::nn::Cloneable<TransformerBlockImpl>, Hookable {
  explicit TransformerBlockImpl(TransformerBlockOptions opts);  // throws winnow::Error on options out of range
  void reset() override;
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  // Registers `other` as the child "mlp". Throws winnow::Error unless options.custom_mlp; replaces an earlier one.
  void set_feed_forward(std::shared_ptr<FeedForward> other);

  // x [B, L, D] -> [B, L, D], or [B, R, D] where args.self.outputs names R tokens of each row.
  at::Tensor forward(const at::Tensor& x);
  at::Tensor forward(const at::Tensor& x, const BlockArgs& args);

  TransformerBlockOptions options;  // with every nested 0 replaced by its meaning
  Norm norm1{nullptr}, norm_cross{nullptr}, norm2{nullptr};
  MultiHeadAttention attn{nullptr}, cross_attn{nullptr};
  Mlp mlp{nullptr};                           // empty with custom_mlp
  std::shared_ptr<FeedForward> feed_forward;  // only with custom_mlp
  LayerScale ls1{nullptr}, ls_cross{nullptr}, ls2{nullptr};
  DropPath drop_path1{nullptr}, drop_path_cross{nullptr}, drop_path2{nullptr};
  Dropout drop1{nullptr}, drop_cross{nullptr}, drop2{nullptr};

 private:
  at::Tensor run_mlp(const at::Tensor& x);
  at::Tensor forward_parallel(const at::Tensor& x, const AttentionArgs& args);
  at::Tensor forward_post_norm(const at::Tensor& x, const BlockArgs& args);
  at::Tensor forward_pre_norm(const at::Tensor& x, const BlockArgs& args);
};
TORCH_MODULE(TransformerBlock);

// The block of a Vision Transformer: pre-norm, LayerNorm eps 1e-6, exact GELU, all biases, hidden = mlp_ratio * dim
// (rounded down). Source: Dosovitskiy et al. 2020, arXiv 2010.11929, eq. 2 and 3.
TransformerBlockOptions vit_block_options(int64_t dim, int64_t heads, double mlp_ratio = 4.0);

// A TransformerBlock with vit_block_options, made by ViTBlock(vit_block_options(768, 12)).
using ViTBlock = TransformerBlock;

}  // namespace winnow
