#include "winnow/models/vit_mae.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/tensor/check.h"

namespace winnow::models {
namespace {

mae::MaskedAutoencoderViTOptions network_options(const ViTMaeConfig& c) {
  mae::MaskedAutoencoderViTOptions options;
  options.encoder = encoder_options(c.trunk);
  options.encoder.positions = PositionTable::sincos;
  options.decoder = {.dim = c.decoder_hidden_size,
                     .depth = c.decoder_num_hidden_layers,
                     .heads = c.decoder_num_attention_heads,
                     .mlp_dim = c.decoder_intermediate_size,
                     .activation = options.encoder.activation,
                     .qkv_bias = c.trunk.qkv_bias,
                     .eps = c.trunk.layer_norm_eps};
  options.masking.ratio = c.mask_ratio;
  options.norm_pix = c.norm_pix_loss;
  return options;
}

ViTMaeConfig config_of(const mae::MaskedAutoencoderViTOptions& o) {
  const auto& d = o.decoder;
  WINNOW_CHECK(o.encoder.final_norm && o.encoder.eps == d.eps && o.encoder.activation == d.activation &&
                   o.encoder.qkv_bias == d.qkv_bias,
               "ViTMae: the network must have a final norm, and the same eps, activation and qkv_bias in encoder and "
               "decoder");
  return {.trunk = trunk_config("ViTMae", o.encoder),
          .decoder_hidden_size = d.dim,
          .decoder_num_hidden_layers = d.depth,
          .decoder_num_attention_heads = d.heads,
          .decoder_intermediate_size = d.mlp_dim > 0 ? d.mlp_dim : 4 * d.dim,
          .mask_ratio = o.masking.ratio,
          .norm_pix_loss = o.norm_pix};
}

}  // namespace

ViTMaeImpl::ViTMaeImpl(ViTMaeConfig c) : config(std::move(c)) {
  mae = register_module("mae", mae::MaskedAutoencoderViT(network_options(config)));
}

ViTMaeImpl::ViTMaeImpl(mae::MaskedAutoencoderViT network) : config(config_of(network->options)) {
  mae = register_module("mae", std::move(network));
}

void ViTMaeImpl::check_images(const at::Tensor& images, const mae::MaeForwardOptions& how) const {
  check_dim("ViTMae: images", images, 4);
  check_like("ViTMae: images", images, mae->encoder->pos_embed);
  if (how.interpolate_positions) return;
  const auto& o = mae->encoder->options;
  WINNOW_CHECK(images.size(2) == o.image_height && images.size(3) == o.image_width,
               "ViTMae: images must be {} x {} (or ask for interpolate_positions), got {} x {}", o.image_height,
               o.image_width, images.size(2), images.size(3));
}

mae::MaeOutput ViTMaeImpl::forward(const at::Tensor& images, const at::Tensor& noise,
                                   const mae::MaeForwardOptions& how) {
  check_images(images, how);
  return mae->forward(images, noise, how);
}

mae::MaeOutput ViTMaeImpl::forward(const at::Tensor& images, uint64_t seed, const mae::MaeForwardOptions& how) {
  check_images(images, how);
  return mae->forward(images, seed, how);
}

std::string ViTMaeImpl::architecture() const {
  return "ViTMAEForPreTraining";
}

io::Json ViTMaeImpl::config_json() const {
  return to_json(config);
}

WeightMap ViTMaeImpl::weight_map() const {
  return weight_map_of(mae);
}

ImageShape ViTMaeImpl::image_shape() const {
  return {
      .channels = config.trunk.num_channels, .height = config.trunk.image_height, .width = config.trunk.image_width};
}

WeightMap weight_map_of(const mae::MaskedAutoencoderViT& network) {
  WeightMap map(kViTStyles);
  auto decoder = network->decoder;
  // The tables are fixed, so a file without them means the computed ones.
  add_trunk_weights(map, *network->encoder, "vit.", BlockNames::vit, WeightNeed::optional);
  const std::string in = "decoder.";
  add_linear_weights(map, decoder->embed, {in + "decoder_embed", "", "decoder_embed"});
  map.add(decoder->mask_token, {in + "mask_token", "", "mask_token"});
  map.add(decoder->pos_embed, {in + "decoder_pos_embed", "", "decoder_pos_embed"}, WeightNeed::optional);
  for (int64_t i = 0; i < decoder->blocks->size(); ++i) {
    add_block_weights(map, decoder->blocks[i],
                      {.published = fmt::format("{}decoder_layers.{}.", in, i),
                       .modules = fmt::format("{}decoder_layers.{}.", in, i),
                       .timm = fmt::format("decoder_blocks.{}.", i),
                       .files = fmt::format("{}decoder_encoder.layer.{}.", in, i)},
                      BlockNames::vit);
  }
  map.add(decoder->norm->weight, {in + "decoder_norm.weight", "", "decoder_norm.weight"});
  map.add(decoder->norm->bias, {in + "decoder_norm.bias", "", "decoder_norm.bias"});
  add_linear_weights(map, decoder->pred, {in + "decoder_pred", "", "decoder_pred"});
  map.accept_prefix("vit.");
  return map;
}

namespace {

std::shared_ptr<Pretrained> make(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<ViTMaeImpl>(read_vit_mae_config(json));
}

}  // namespace

Makers vit_mae_makers() {
  return {{"ViTMAEForPreTraining", make}};
}

}  // namespace winnow::models
