#include "winnow/mae/masked_autoencoder.h"

#include <torch/types.h>

#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/init.h"
#include "winnow/nn/position.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/patches.h"

namespace winnow::mae {

Fields<MaeDecoderOptions> MaeDecoderOptions::fields() {
  return Fields<MaeDecoderOptions>("MaeDecoder")
      .add("dim", &MaeDecoderOptions::dim, "width of a token, a multiple of heads and of 4", at_least(1))
      .add("depth", &MaeDecoderOptions::depth, "number of blocks", at_least(1))
      .add("heads", &MaeDecoderOptions::heads, "attention heads of a block", at_least(1))
      .add("mlp_dim", &MaeDecoderOptions::mlp_dim, "hidden width of the MLP, 0 = 4 * dim", at_least(0))
      .add("activation", &MaeDecoderOptions::activation, "of the MLP")
      .add("qkv_bias", &MaeDecoderOptions::qkv_bias, "bias of queries, keys and values")
      .add("eps", &MaeDecoderOptions::eps, "of every LayerNorm", above(0.0))
      .rule([](const MaeDecoderOptions& o) {
        WINNOW_CHECK(o.dim % o.heads == 0, "MaeDecoder: heads must divide dim = {}, got {}", o.dim, o.heads);
        WINNOW_CHECK(o.dim % 4 == 0, "MaeDecoder: dim must be a multiple of 4 for its sine-cosine table, got {}",
                     o.dim);
      });
}

Fields<MaskedAutoencoderOptions> MaskedAutoencoderOptions::fields() {
  return Fields<MaskedAutoencoderOptions>("MaskedAutoencoder")
      .nest("decoder", &MaskedAutoencoderOptions::decoder)
      .nest("masking", &MaskedAutoencoderOptions::masking)
      .add("norm_pix", &MaskedAutoencoderOptions::norm_pix, "targets normalised patch by patch")
      .add("seed", &MaskedAutoencoderOptions::seed, "of the decoder's initial weights");
}

Fields<MaskedAutoencoderViTOptions> MaskedAutoencoderViTOptions::fields() {
  return Fields<MaskedAutoencoderViTOptions>("MaskedAutoencoderViT")
      .nest("encoder", &MaskedAutoencoderViTOptions::encoder)
      .nest("decoder", &MaskedAutoencoderViTOptions::decoder)
      .nest("masking", &MaskedAutoencoderViTOptions::masking)
      .add("norm_pix", &MaskedAutoencoderViTOptions::norm_pix, "targets normalised patch by patch");
}

namespace {

void check_geometry(const EncoderGeometry& g) {
  WINNOW_CHECK(g.channels >= 1 && g.patch >= 1 && g.dim >= 1 && g.prefix_tokens >= 0,
               "MaskedAutoencoder: encoder must have channels, patch and dim >= 1 and prefix_tokens >= 0, got {}, {}, "
               "{} and {}",
               g.channels, g.patch, g.dim, g.prefix_tokens);
  WINNOW_CHECK(
      g.image_height >= 1 && g.image_height % g.patch == 0 && g.image_width >= 1 && g.image_width % g.patch == 0,
      "MaskedAutoencoder: images must be a multiple of the patch side {}, got {} x {}", g.patch, g.image_height,
      g.image_width);
}

EncoderGeometry geometry_of(const VitEncoderOptions& o, int64_t prefix_tokens) {
  return {.channels = o.channels,
          .image_height = o.image_height,
          .image_width = o.image_width,
          .patch = o.patch,
          .dim = o.dim,
          .prefix_tokens = prefix_tokens};
}

void copy_weights(const torch::nn::Module& from, torch::nn::Module& to) {
  const at::NoGradGuard no_grad;
  auto targets = to.named_parameters();
  for (const auto& parameter : from.named_parameters()) targets[parameter.key()].copy_(parameter.value());
}

}  // namespace

MaeDecoderImpl::MaeDecoderImpl(const EncoderGeometry& of_encoder, MaeDecoderOptions opts, uint64_t start_seed)
    : options(std::move(opts)), geometry(of_encoder), seed(start_seed) {
  check_geometry(geometry);
  check(options);
  reset();
}

void MaeDecoderImpl::reset() {
  const auto d = options.dim;
  const auto generator = make_generator(derive_seed(seed, 1));  // not the draws of the encoder's seed
  embed = register_module("embed", Linear(geometry.dim, d));
  auto token = at::empty({1, 1, d});
  normal_(token, generator, 0.02);
  mask_token = register_parameter("mask_token", token);
  const auto P = geometry.prefix_tokens;
  const auto table = sincos_2d_pos_embed(d, geometry.image_height / geometry.patch,
                                         geometry.image_width / geometry.patch, P);  // [P + L, d]
  pos_embed = register_parameter("pos_embed", table.unsqueeze(0), /*requires_grad=*/false);
  auto block = vit_block_options(d, options.heads);
  block.eps = options.eps;
  block.attention.qkv_bias = options.qkv_bias ? QkvBias::all : QkvBias::none;
  block.mlp.hidden = options.mlp_dim > 0 ? options.mlp_dim : 4 * d;
  block.mlp.activation = options.activation;
  blocks = register_module("blocks",
                           Stack<TransformerBlock>(options.depth, [&](int64_t) { return TransformerBlock(block); }));
  norm = register_module("norm", Norm(NormOptions{.dim = d, .eps = options.eps}));
  pred = register_module("pred", Linear(d, geometry.patch * geometry.patch * geometry.channels));
  init_mae_weights(*this, generator);
}

at::Tensor MaeDecoderImpl::forward(const at::Tensor& latent, const at::Tensor& ids_restore, const at::Tensor& positions,
                                   std::vector<at::Tensor>* hidden_states, const at::Tensor& ids) {
  const auto P = geometry.prefix_tokens;
  const auto& table = positions.defined() ? positions : pos_embed;
  check_shape("MaeDecoder: latent", latent, {-1, -1, geometry.dim});
  const auto L = table.size(-2) - P;
  WINNOW_CHECK(ids_restore.dim() == 2 && ids_restore.size(0) == latent.size(0) && ids_restore.size(1) == L,
               "MaeDecoder: ids_restore must have shape [{}, {}], got {}", latent.size(0), L, ids_restore.sizes());
  auto x = restore_tokens(embed->forward(latent), ids_restore, mask_token, table, P);  // [B, P + L, d]
  if (hidden_states != nullptr) hidden_states->assign(1, x);
  BlockArgs last;
  if (ids.defined()) last.self.outputs = P == 0 ? ids : ids + P;
  for (int64_t i = 0; i < blocks->size(); ++i) {
    x = i + 1 == blocks->size() ? blocks[i]->forward(x, last) : blocks[i]->forward(x);
    if (hidden_states != nullptr) hidden_states->push_back(x);
  }
  if (!ids.defined()) return pred->forward(norm->forward(x).slice(1, P));
  return pred->forward(norm->forward(blocks->empty() ? gather_tokens(x, last.self.outputs) : x));
}

at::Tensor MaskedPixelLoss::operator()(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& mask) const {
  if (mask.defined() && mask.is_cpu()) {
    WINNOW_CHECK(mask.any().item<bool>(), "MaskedPixelLoss: mask must remove a patch (ratio 0 leaves no loss)");
  }
  return masked_patch_loss(pred, images, mask, {.patch = options.patch, .norm_pix = options.norm_pix});
}

at::Tensor MaskedPixelLoss::of_removed(const at::Tensor& pred, const at::Tensor& images,
                                       const at::Tensor& ids_removed) const {
  WINNOW_CHECK(ids_removed.numel() > 0, "MaskedPixelLoss: mask must remove a patch (ratio 0 leaves no loss)");
  return masked_patch_loss(pred, images, at::ones(ids_removed.sizes(), pred.options()),
                           {.patch = options.patch, .norm_pix = options.norm_pix}, ids_removed);
}

namespace {

MaeOutput output_of(const TokenMask& mask, const MaeForwardOptions& how) {
  return {.loss = {},
          .pred = {},
          .mask = mask.mask,
          .ids_keep = mask.ids_keep,
          .ids_restore = mask.ids_restore,
          .ids_removed = how.removed_only ? ids_removed(mask) : at::Tensor(),
          .latent = {},
          .hidden_states = {},
          .decoder_hidden_states = {}};
}

at::Tensor loss_of(const MaskedPixelLoss& loss, const MaeOutput& out, const at::Tensor& images) {
  if (out.ids_removed.defined()) return loss.of_removed(out.pred, images, out.ids_removed);
  return loss(out.pred, images, out.mask);
}

}  // namespace

// ---- around any encoder ----

MaskedAutoencoderImpl::MaskedAutoencoderImpl(std::shared_ptr<Encoder> of, MaskedAutoencoderOptions opts)
    : options(std::move(opts)), encoder(std::move(of)) {
  WINNOW_CHECK(encoder != nullptr, "MaskedAutoencoder: encoder must not be null");
  check(options);
  register_module("encoder", encoder);
  decoder = register_module("decoder", MaeDecoder(encoder->geometry(), options.decoder, options.seed));
}

MaeOutput MaskedAutoencoderImpl::forward(const at::Tensor& images, const TokenMask& mask,
                                         const MaeForwardOptions& how) {
  const auto g = encoder->geometry();
  check_shape("MaskedAutoencoder: images", images, {-1, g.channels, g.image_height, g.image_width});
  const auto L = g.image_height / g.patch * (g.image_width / g.patch);
  check_shape("MaskedAutoencoder: mask", mask.mask, {images.size(0), L});
  const auto tokens = encoder->embed(images);  // [B, L, E]
  WINNOW_CHECK(tokens.dim() == 3 && tokens.size(0) == images.size(0) && tokens.size(1) == L,
               "MaskedAutoencoder: the encoder's embed must give [{}, {}, width], got {}", images.size(0), L,
               tokens.sizes());
  auto out = output_of(mask, how);
  const auto& latent = out.latent = encoder->encode(gather_tokens(tokens, mask.ids_keep));  // [B, P + K, D]
  WINNOW_CHECK(
      latent.dim() == 3 && latent.size(1) == g.prefix_tokens + mask.ids_keep.size(1) && latent.size(2) == g.dim,
      "MaskedAutoencoder: the encoder's encode must give [{}, {}, {}], got {}", images.size(0),
      g.prefix_tokens + mask.ids_keep.size(1), g.dim, latent.sizes());
  out.pred = decoder->forward(latent, mask.ids_restore, {}, nullptr, out.ids_removed);
  out.loss = loss_of({{.patch = g.patch, .norm_pix = options.norm_pix}}, out, images);
  return out;
}

namespace {

TokenMask mask_of_noise(const at::Tensor& images, const at::Tensor& noise, int64_t patches, double ratio) {
  check_dim("MaskedAutoencoder: images", images, 4);
  check_shape("MaskedAutoencoder: noise", noise, {images.size(0), patches});
  const auto keep = kept_count(patches, ratio);
  WINNOW_CHECK(keep >= 1, "MaskedAutoencoder: mask_ratio must leave a patch of {}, got {}", patches, ratio);
  return mask_from_ranking(noise, keep);
}

}  // namespace

MaeOutput MaskedAutoencoderImpl::forward(const at::Tensor& images, const at::Tensor& noise,
                                         const MaeForwardOptions& how) {
  const auto g = encoder->geometry();
  const auto L = g.image_height / g.patch * (g.image_width / g.patch);
  return forward(images, mask_of_noise(images, noise, L, options.masking.ratio), how);
}

MaeOutput MaskedAutoencoderImpl::forward(const at::Tensor& images, uint64_t seed, const MaeForwardOptions& how) {
  const auto g = encoder->geometry();
  check_dim("MaskedAutoencoder: images", images, 4);
  return forward(images,
                 draw_mask(options.masking, images.size(0), g.image_height / g.patch, g.image_width / g.patch,
                           make_generator(seed), images.device()),
                 how);
}

at::Tensor MaskedAutoencoderImpl::encode(const at::Tensor& images) {
  return encoder->encode(encoder->embed(images));
}

std::shared_ptr<torch::nn::Module> MaskedAutoencoderImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy =
      std::make_shared<MaskedAutoencoderImpl>(std::dynamic_pointer_cast<Encoder>(encoder->clone(device)), options);
  copy_weights(*this, *copy);
  copy->train(is_training());
  if (device) copy->to(*device);
  return copy;
}

// ---- the paper's network ----

MaskedAutoencoderViTImpl::MaskedAutoencoderViTImpl(MaskedAutoencoderViTOptions opts) : options(std::move(opts)) {
  check(options);
  encoder = VitEncoder(options.encoder);
  decoder = MaeDecoder(geometry_of(options.encoder, encoder->prefix_tokens()), options.decoder, options.encoder.seed);
  if (options.encoder.class_token) register_parameter("cls_token", encoder->cls_token);
  if (options.encoder.distillation_token) register_parameter("dist_token", encoder->dist_token);
  register_parameter("pos_embed", encoder->pos_embed, encoder->pos_embed.requires_grad());
  register_parameter("mask_token", decoder->mask_token);
  register_parameter("decoder_pos_embed", decoder->pos_embed, /*requires_grad=*/false);
  register_module("patch_embed", encoder->patch_embed);
  register_module("blocks", encoder->blocks);
  if (encoder->norm) register_module("norm", encoder->norm);
  register_module("decoder_embed", decoder->embed);
  register_module("decoder_blocks", decoder->blocks);
  register_module("decoder_norm", decoder->norm);
  register_module("decoder_pred", decoder->pred);
}

MaeOutput MaskedAutoencoderViTImpl::forward(const at::Tensor& images, const TokenMask& mask,
                                            const MaeForwardOptions& how) {
  auto out = output_of(mask, how);
  const auto tokens = encoder->embed_kept(images, mask.ids_keep, how.interpolate_positions);  // [B, K, D]
  out.latent = encoder->encode(tokens, how.hidden_states ? &out.hidden_states : nullptr);
  at::Tensor positions;
  if (how.interpolate_positions) {
    const auto p = options.encoder.patch;
    const auto L = images.size(2) / p * (images.size(3) / p);
    positions = interpolate_pos_embed_line(decoder->pos_embed[0], L, encoder->prefix_tokens());  // [P + L, d]
  }
  out.pred = decoder->forward(out.latent, mask.ids_restore, positions,
                              how.hidden_states ? &out.decoder_hidden_states : nullptr, out.ids_removed);
  out.loss = loss_of({{.patch = options.encoder.patch, .norm_pix = options.norm_pix}}, out, images);
  return out;
}

namespace {

// Rows and columns of patches: those of the table, or of the images where the table is resized.
struct PatchGrid {
  int64_t height, width;
};
PatchGrid grid_of(const VitEncoderImpl& encoder, const at::Tensor& images, bool interpolate) {
  check_dim("MaskedAutoencoderViT: images", images, 4);
  if (!interpolate) return {encoder.grid_height(), encoder.grid_width()};
  const auto p = encoder.options.patch;
  WINNOW_CHECK(images.size(2) % p == 0 && images.size(3) % p == 0,
               "MaskedAutoencoderViT: images must be a multiple of the patch side {}, got {} x {}", p, images.size(2),
               images.size(3));
  return {images.size(2) / p, images.size(3) / p};
}

}  // namespace

MaeOutput MaskedAutoencoderViTImpl::forward(const at::Tensor& images, const at::Tensor& noise,
                                            const MaeForwardOptions& how) {
  const auto grid = grid_of(*encoder, images, how.interpolate_positions);
  return forward(images, mask_of_noise(images, noise, grid.height * grid.width, options.masking.ratio), how);
}

MaeOutput MaskedAutoencoderViTImpl::forward(const at::Tensor& images, uint64_t seed, const MaeForwardOptions& how) {
  const auto grid = grid_of(*encoder, images, how.interpolate_positions);
  return forward(
      images,
      draw_mask(options.masking, images.size(0), grid.height, grid.width, make_generator(seed), images.device()), how);
}

at::Tensor MaskedAutoencoderViTImpl::encode(const at::Tensor& images) {
  return encoder->encode(encoder->embed(images));
}

std::shared_ptr<torch::nn::Module> MaskedAutoencoderViTImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy = std::make_shared<MaskedAutoencoderViTImpl>(options);
  copy_weights(*this, *copy);
  copy->train(is_training());
  if (device) copy->to(*device);
  return copy;
}

}  // namespace winnow::mae
