#pragma once

// The Vision Transformer trunk: patch embedding, class token, positions, pre-norm blocks, final norm.
// Source: Dosovitskiy et al. 2020, arXiv 2010.11929; initialisation and fixed positions of He et al. 2021, arXiv
// 2111.06377. Classifiers, DeiT, DINOv2 and the masked autoencoders are this trunk with something behind it.

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <vector>

#include "winnow/attention/transformer_block.h"
#include "winnow/core/options.h"
#include "winnow/nn/hooks.h"
#include "winnow/nn/mlp.h"
#include "winnow/nn/norm.h"
#include "winnow/nn/patch_embed.h"
#include "winnow/nn/stack.h"

namespace winnow {

enum class PositionTable {
  sincos,       // fixed 2-D sine-cosine table, first half of the channels = column; not trained; dim % 4 == 0
  sincos_line,  // fixed 1-D table along the tokens in raster order, sines and cosines interleaved (VideoMAE)
  learned,      // trained, N(0, 0.02) at the start
};
EnumNames<PositionTable> enum_names(PositionTable);

struct VitEncoderOptions {
  int64_t image_height = 224;  // H, a multiple of patch
  int64_t image_width = 224;   // W, a multiple of patch
  int64_t channels = 3;        // C
  int64_t patch = 16;          // p
  int64_t frames = 0;          // T > 0: the input is a clip [B, C, T, H, W], cut into cubes of tubelet x p x p
  int64_t tubelet = 1;         // frames of one cube, a divisor of frames
  bool patch_bias = true;      // of the patch projection
  int64_t dim = 768;           // D, a multiple of heads
  int64_t depth = 12;
  int64_t heads = 12;
  int64_t mlp_dim = 0;  // hidden width of the MLP; 0 means 4 * dim
  Activation activation = Activation::gelu;
  bool gated_mlp = false;  // fc2(activation(gate x) * fc1 x); with silu the SwiGLU of the giant DINOv2
  bool qkv_bias = true;
  bool key_bias = true;            // false with qkv_bias: parameters q_bias and v_bias, none on the keys (VideoMAE)
  double eps = 1e-6;               // of every LayerNorm
  double attention_dropout = 0.0;  // of the attention probabilities, in training
  double drop_path = 0.0;          // rate of the last block; grows linearly from 0 at the first
  double layer_scale = 0.0;        // start value of LayerScale; 0 means none
  bool class_token = true;
  bool distillation_token = false;  // a second prefix token, behind the class token (DeiT)
  bool input_norm = false;          // norm_pre, a LayerNorm between the embeddings and the first block (CLIP)
  bool final_norm = true;           // false: norm is left out, and encode() returns the last block's output
  PositionTable positions = PositionTable::sincos;
  uint64_t seed = 0;  // of the initial weights
  static Fields<VitEncoderOptions> fields();
};

// Children and parameters, in the names of the official MAE and of timm: patch_embed.proj, cls_token [1, 1, D],
// dist_token [1, 1, D], pos_embed [1, P + L, D] (P prefix tokens, L = H/p * W/p patches in row-major order, times
// T/tubelet with time slowest), norm_pre, blocks.N.*, norm. Below, images stands for clips too; those are never
// interpolated. A fixed pos_embed is a parameter that takes no gradient, so that it travels with the weights.
// Not thread-safe while training; forward in evaluation mode may run from several threads.
struct VitEncoderImpl : torch::nn::Cloneable<VitEncoderImpl>, Hookable {
  explicit VitEncoderImpl(VitEncoderOptions opts);  // throws winnow::Error on sizes that do not divide
  void reset() override;                            // new start weights from options.seed: those of the official MAE

  // images [B, C, H, W] -> patch tokens [B, L, D] without positions. Any H and W that are multiples of p.
  at::Tensor patch_tokens(const at::Tensor& images);
  // images [B, C, H, W] -> patch tokens plus their rows of pos_embed [B, L, D]; no prefix tokens. H and W must be those
  // of the options, unless `interpolate`: then the table is resized (bicubic, align_corners false).
  at::Tensor embed(const at::Tensor& images, bool interpolate = false);
  // The rows `ids` [B, K] int64 of embed(images), computed for those patches alone unless the images need a gradient.
  at::Tensor embed_kept(const at::Tensor& images, const at::Tensor& ids, bool interpolate = false);
  // tokens [B, K, D], any subset in any order -> [B, P + K, D]: prefix tokens put in front, blocks, norm.
  // `hidden_states`, where given, receives depth + 1 tensors [B, P + K, D]: the input of block 0 and the output of each
  // block, all before the final norm; where there is norm_pre, its output stands first.
  at::Tensor encode(const at::Tensor& tokens, std::vector<at::Tensor>* hidden_states = nullptr);
  // encode(embed(images)): [B, P + L, D]; hookable.
  at::Tensor forward(const at::Tensor& images);

  // pos_embed [1, P + L, D] for a grid of another size, prefix rows kept.
  at::Tensor positions_for(int64_t grid_height, int64_t grid_width) const;

  int64_t prefix_tokens() const;  // P: 0, 1 or 2
  int64_t grid_height() const;
  int64_t grid_width() const;
  int64_t grid_depth() const;  // T / tubelet, 1 for images
  int64_t patches() const;     // L

  VitEncoderOptions options;
  PatchEmbed patch_embed{nullptr};
  at::Tensor cls_token, dist_token, pos_embed;
  Stack<TransformerBlock> blocks{nullptr};
  Norm norm_pre{nullptr};  // empty when input_norm is false
  Norm norm{nullptr};      // empty when final_norm is false
};
TORCH_MODULE(VitEncoder);

}  // namespace winnow
