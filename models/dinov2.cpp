#include "winnow/models/dinov2.h"

#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/position.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow::models {

Dinov2Impl::Dinov2Impl(Dinov2Config c) : config(std::move(c)) {
  const auto D = config.trunk.hidden_size;
  auto trunk = encoder_options(config.trunk);
  trunk.mlp_dim = config.hidden_features();
  trunk.gated_mlp = config.use_swiglu_ffn;
  if (config.use_swiglu_ffn) trunk.activation = Activation::silu;  // whatever hidden_act says
  trunk.layer_scale = 1.0;
  encoder = register_module("encoder", VitEncoder(trunk));
  const at::NoGradGuard no_grad;
  for (auto& block : *encoder->blocks) {
    block->ls1->gamma.fill_(config.layerscale_value);
    block->ls2->gamma.fill_(config.layerscale_value);
  }
  if (config.use_mask_token) mask_token = register_parameter("mask_token", at::zeros({1, D}));
  if (config.head == Dinov2Head::classifier) {
    WINNOW_CHECK(!config.labels.empty(), "Dinov2: labels must not be empty where there is a classifier");
    const auto classes = static_cast<int64_t>(config.labels.size());
    head = register_module("head", make_head(2 * D, classes, derive_seed(config.trunk.seed, 1)));
  }
}

// Patch tokens, masked ones replaced, with positions: [B, L, D].
at::Tensor Dinov2Impl::embed(const at::Tensor& images, const at::Tensor& masked) {
  check_dim("Dinov2: images", images, 4);
  check_like("Dinov2: images", images, encoder->pos_embed);
  const auto p = config.trunk.patch_size, rows = images.size(2) / p, columns = images.size(3) / p;
  WINNOW_CHECK(images.size(1) == config.trunk.num_channels, "Dinov2: images must have {} channels, got shape {}",
               config.trunk.num_channels, images.sizes());
  WINNOW_CHECK(rows >= 1 && columns >= 1, "Dinov2: images must hold at least one patch of {} pixels, got {} x {}", p,
               images.size(2), images.size(3));
  const auto cut = whole_patches(images, p);
  if (!masked.defined()) return encoder->embed(cut, /*interpolate=*/true);
  WINNOW_CHECK(mask_token.defined(), "Dinov2: masked must be left out, use_mask_token is off");
  check_shape("Dinov2: masked", masked, {images.size(0), rows * columns});
  const auto tokens = at::where(masked.to(at::kBool).unsqueeze(-1), mask_token, encoder->patch_tokens(cut));
  const auto table = interpolate_pos_embed(encoder->pos_embed, {encoder->grid_height(), encoder->grid_width()},
                                           {rows, columns}, encoder->prefix_tokens());
  return tokens + table.slice(1, encoder->prefix_tokens());
}

VisionOutput Dinov2Impl::forward(const at::Tensor& images, const Dinov2Forward& how) {
  VisionOutput out;
  const auto tokens = embed(images, how.masked);
  out.last_hidden_state = encoder->encode(tokens, how.hidden_states ? &out.hidden_states : nullptr);
  out.pooler_output = out.last_hidden_state.select(1, 0);
  if (head) {
    const auto patches = out.last_hidden_state.slice(1, encoder->prefix_tokens()).mean(1);  // [B, D]
    out.logits = head->forward(at::cat({out.pooler_output, patches}, 1));
    if (how.labels.defined()) out.loss = classification_loss(out.logits, how.labels, config.problem_type);
  }
  return out;
}

std::vector<at::Tensor> Dinov2Impl::feature_maps(const at::Tensor& images) {
  std::vector<at::Tensor> states, maps;
  encoder->encode(embed(images, {}), &states);
  const auto stages = static_cast<int64_t>(states.size());
  const auto p = config.trunk.patch_size;
  for (const auto index : config.out_indices.empty() ? std::vector<int64_t>{-1} : config.out_indices) {
    auto state = states[static_cast<size_t>(index < 0 ? index + stages : index)];
    if (config.apply_layernorm) state = encoder->norm->forward(state);
    if (config.reshape_hidden_states) {
      state = state.slice(1, encoder->prefix_tokens())
                  .transpose(1, 2)
                  .reshape({images.size(0), config.trunk.hidden_size, images.size(2) / p, images.size(3) / p});
    }
    maps.push_back(state);
  }
  return maps;
}

std::string Dinov2Impl::architecture() const {
  return to_json(config)["architectures"][0].get<std::string>();
}

io::Json Dinov2Impl::config_json() const {
  return to_json(config);
}

WeightMap Dinov2Impl::weight_map() const {
  WeightMap map(kViTStyles);
  const std::string base = head ? "dinov2." : "";
  add_trunk_weights(map, *encoder, base, BlockNames::dinov2);
  // timm's files have no mask token; the zeros of the start stand for it then.
  if (mask_token.defined()) {
    map.add(mask_token, {base + "embeddings.mask_token", "", "mask_token"}, WeightNeed::optional);
  } else {
    map.ignore({"embeddings.mask_token", "mask_token"});
  }
  if (head) add_linear_weights(map, head, {"classifier", "", "head"});
  map.accept_prefix("dinov2.");
  return map;
}

ImageShape Dinov2Impl::image_shape() const {
  return {
      .channels = config.trunk.num_channels, .height = config.trunk.image_height, .width = config.trunk.image_width};
}

at::Tensor Dinov2Impl::classify(const at::Tensor& images) {
  return head ? forward(images).logits : Pretrained::classify(images);
}

std::vector<std::string> Dinov2Impl::labels() const {
  return head ? config.labels : std::vector<std::string>();
}

namespace {

std::shared_ptr<Pretrained> make(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<Dinov2Impl>(read_dinov2_config(json));
}

}  // namespace

Makers dinov2_makers() {
  return {{"Dinov2ForImageClassification", make}, {"Dinov2Model", make}};
}

}  // namespace winnow::models
