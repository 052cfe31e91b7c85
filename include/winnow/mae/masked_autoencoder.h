#pragma once

// Masked autoencoder: an encoder sees only the kept patches of an image, a small decoder predicts the pixels of the
// others. Source: He et al. 2021, arXiv 2111.06377, section 3. Masks: masking.h. Evaluation: probe.h. Pictures:
// pictures.h.

#include <torch/nn/cloneable.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "winnow/attention/vit_encoder.h"
#include "winnow/core/options.h"
#include "winnow/mae/masking.h"
#include "winnow/nn/linear.h"

namespace winnow::mae {

// What an encoder works on and gives.
struct EncoderGeometry {
  int64_t channels;
  int64_t image_height;  // a multiple of patch
  int64_t image_width;   // a multiple of patch
  int64_t patch;
  int64_t dim;            // D of the tokens that encode() returns
  int64_t prefix_tokens;  // P: tokens that encode() puts in front (class token); 0 is allowed
};

// A network that can be pre-trained by masking. Derive from it to pre-train your own (examples/own_encoder.cpp).
struct Encoder : torch::nn::Module {
  virtual EncoderGeometry geometry() const = 0;
  // images [B, C, H, W] -> one token per patch [B, L, E], row-major, positions already in it; token l must depend on
  // the pixels of patch l alone, or removed patches are not hidden. E may differ from D.
  virtual at::Tensor embed(const at::Tensor& images) = 0;
  // tokens [B, K, E], any subset of the patches in any order -> [B, P + K, D].
  virtual at::Tensor encode(const at::Tensor& tokens) = 0;
};

struct MaeDecoderOptions {
  int64_t dim = 512;  // d, a multiple of heads and of 4
  int64_t depth = 8;
  int64_t heads = 16;
  int64_t mlp_dim = 0;  // 0 means 4 * dim
  Activation activation = Activation::gelu;
  bool qkv_bias = true;
  double eps = 1e-6;
  static Fields<MaeDecoderOptions> fields();
};

// Children: embed (D -> d), mask_token [1, 1, d], pos_embed [1, P + L, d] (fixed sine-cosine, zero rows for the
// prefix), blocks.N, norm, pred (d -> p*p*C).
struct MaeDecoderImpl : torch::nn::Cloneable<MaeDecoderImpl> {
  MaeDecoderImpl(const EncoderGeometry& geometry, MaeDecoderOptions opts, uint64_t seed);
  void reset() override;  // new start weights from the seed
  // latent [B, P + K, D] and ids_restore [B, L] -> pixels of every patch [B, L, p*p*C], channel last inside a patch.
  // `positions` [P + L, d] replaces the table (images of another size). `hidden_states` as in VitEncoderImpl::encode.
  // With `ids` [B, R] int64 in [0, L) -> the pixels of those patches alone, [B, R, p*p*C]: the others serve as keys
  // only in the last block, and the last hidden state is [B, R, d].
  at::Tensor forward(const at::Tensor& latent, const at::Tensor& ids_restore, const at::Tensor& positions = {},
                     std::vector<at::Tensor>* hidden_states = nullptr, const at::Tensor& ids = {});

  MaeDecoderOptions options;
  EncoderGeometry geometry;
  uint64_t seed;
  Linear embed{nullptr}, pred{nullptr};
  at::Tensor mask_token, pos_embed;
  Stack<TransformerBlock> blocks{nullptr};
  Norm norm{nullptr};
};
TORCH_MODULE(MaeDecoder);

struct MaskedPixelLossOptions {
  int64_t patch = 16;
  bool norm_pix =
      false;  // targets normalised per patch over all p*p*C values: unbiased variance, + 1e-6 inside the root
};
// Mean over removed patches of the mean squared error of a patch. The gradient to predictions of kept patches is zero.
struct MaskedPixelLoss {
  MaskedPixelLossOptions options;
  // pred [B, L, p*p*C], images [B, C, H, W], mask [B, L] with 1 = removed -> scalar. Throws if nothing is removed
  // (checked where the mask is on the CPU).
  at::Tensor operator()(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& mask) const;
  // The same from predictions of the removed patches alone: pred [B, R, p*p*C] of the patches ids_removed [B, R].
  at::Tensor of_removed(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& ids_removed) const;
};

struct MaskedAutoencoderOptions {
  MaeDecoderOptions decoder = {};
  MaskingOptions masking = {};
  bool norm_pix = false;
  uint64_t seed = 0;  // of the decoder's initial weights
  static Fields<MaskedAutoencoderOptions> fields();
};

struct MaeForwardOptions {
  bool removed_only = false;           // predict the removed patches alone: the same loss for less work
  bool hidden_states = false;          // fill the hidden_states of the result (ViT only)
  bool interpolate_positions = false;  // accept images of another size (ViT only): the encoder's table is resized as a
                                       // grid, the decoder's as one line of positions
};

struct MaeOutput {
  at::Tensor loss;                                // scalar
  at::Tensor pred;                                // [B, L, p*p*C] of every patch, or [B, R, p*p*C] of ids_removed with
                                                  // removed_only; normalised pixels where norm_pix is on
  at::Tensor mask;                                // [B, L] float, 1 = removed
  at::Tensor ids_keep;                            // [B, K]
  at::Tensor ids_restore;                         // [B, L]
  at::Tensor ids_removed;                         // [B, R] ascending; only with removed_only
  at::Tensor latent;                              // [B, P + K, D], kept patches in ascending rank
  std::vector<at::Tensor> hidden_states;          // depth + 1 of [B, P + K, D], before the final norm
  std::vector<at::Tensor> decoder_hidden_states;  // decoder depth + 1 of [B, P + L, d]
};

// A masked autoencoder around any encoder. Parameters: encoder.*, decoder.*.
struct MaskedAutoencoderImpl : torch::nn::Module {
  MaskedAutoencoderImpl(std::shared_ptr<Encoder> encoder, MaskedAutoencoderOptions opts);
  MaeOutput forward(const at::Tensor& images, const TokenMask& mask, const MaeForwardOptions& how = {});
  // noise [B, L]; keeps by options.masking.ratio
  MaeOutput forward(const at::Tensor& images, const at::Tensor& noise, const MaeForwardOptions& how = {});
  // a mask of options.masking
  MaeOutput forward(const at::Tensor& images, uint64_t seed, const MaeForwardOptions& how = {});
  // All patches, nothing removed: [B, P + L, D].
  at::Tensor encode(const at::Tensor& images);
  // Clones the encoder by its own clone(): an encoder that is no torch::nn::Cloneable cannot be cloned.
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  MaskedAutoencoderOptions options;
  std::shared_ptr<Encoder> encoder;
  MaeDecoder decoder{nullptr};
};
TORCH_MODULE(MaskedAutoencoder);

struct MaskedAutoencoderViTOptions {
  VitEncoderOptions encoder = {};
  MaeDecoderOptions decoder = {};
  MaskingOptions masking = {};
  bool norm_pix = false;
  static Fields<MaskedAutoencoderViTOptions> fields();
};

// The masked autoencoder of the paper. Parameters carry the names of the official checkpoints: patch_embed.proj,
// cls_token, pos_embed, blocks.N, norm, decoder_embed, mask_token, decoder_pos_embed, decoder_blocks.N, decoder_norm,
// decoder_pred. encoder and decoder hold the same parameters under their own names; they are not registered as
// children.
struct MaskedAutoencoderViTImpl : torch::nn::Module {
  explicit MaskedAutoencoderViTImpl(MaskedAutoencoderViTOptions opts);
  MaeOutput forward(const at::Tensor& images, const TokenMask& mask, const MaeForwardOptions& how = {});
  MaeOutput forward(const at::Tensor& images, const at::Tensor& noise, const MaeForwardOptions& how = {});
  MaeOutput forward(const at::Tensor& images, uint64_t seed, const MaeForwardOptions& how = {});
  // All patches, nothing removed: [B, P + L, D], class token first.
  at::Tensor encode(const at::Tensor& images);
  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override;

  MaskedAutoencoderViTOptions options;
  VitEncoder encoder{nullptr};
  MaeDecoder decoder{nullptr};
};
TORCH_MODULE(MaskedAutoencoderViT);

}  // namespace winnow::mae
