#include "winnow/attention/vit_encoder.h"

#include <torch/types.h>

#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/drop.h"
#include "winnow/nn/init.h"
#include "winnow/nn/position.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/patches.h"

namespace winnow {

EnumNames<PositionTable> enum_names(PositionTable) {
  return {{"sincos", PositionTable::sincos},
          {"sincos_line", PositionTable::sincos_line},
          {"learned", PositionTable::learned}};
}

Fields<VitEncoderOptions> VitEncoderOptions::fields() {
  return Fields<VitEncoderOptions>("VitEncoder")
      .add("image_height", &VitEncoderOptions::image_height, "rows of the images, a multiple of patch", at_least(1))
      .add("image_width", &VitEncoderOptions::image_width, "columns of the images, a multiple of patch", at_least(1))
      .add("channels", &VitEncoderOptions::channels, "channels of the images", at_least(1))
      .add("patch", &VitEncoderOptions::patch, "side of a patch in pixels", at_least(1))
      .add("frames", &VitEncoderOptions::frames, "frames of a clip, 0 = images", at_least(0))
      .add("tubelet", &VitEncoderOptions::tubelet, "frames of one token, a divisor of frames", at_least(1))
      .add("patch_bias", &VitEncoderOptions::patch_bias, "bias of the patch projection")
      .add("dim", &VitEncoderOptions::dim, "width of a token, a multiple of heads", at_least(1))
      .add("depth", &VitEncoderOptions::depth, "number of blocks", at_least(1))
      .add("heads", &VitEncoderOptions::heads, "attention heads of a block", at_least(1))
      .add("mlp_dim", &VitEncoderOptions::mlp_dim, "hidden width of the MLP, 0 = 4 * dim", at_least(0))
      .add("activation", &VitEncoderOptions::activation, "of the MLP")
      .add("gated_mlp", &VitEncoderOptions::gated_mlp, "a gate in the MLP (SwiGLU with silu)")
      .add("qkv_bias", &VitEncoderOptions::qkv_bias, "bias of queries, keys and values")
      .add("key_bias", &VitEncoderOptions::key_bias, "whether qkv_bias includes the keys")
      .add("eps", &VitEncoderOptions::eps, "of every LayerNorm", above(0.0))
      .add("attention_dropout", &VitEncoderOptions::attention_dropout, "of the attention probabilities",
           in_range(0.0, 1.0, Ends::right_open))
      .add("drop_path", &VitEncoderOptions::drop_path, "stochastic depth of the last block",
           in_range(0.0, 1.0, Ends::right_open))
      .add("layer_scale", &VitEncoderOptions::layer_scale, "start value of LayerScale, 0 = none", at_least(0.0))
      .add("class_token", &VitEncoderOptions::class_token, "a learned token in front of the patches")
      .add("distillation_token", &VitEncoderOptions::distillation_token, "a second one behind it (DeiT)")
      .add("input_norm", &VitEncoderOptions::input_norm, "LayerNorm in front of the first block")
      .add("final_norm", &VitEncoderOptions::final_norm, "LayerNorm behind the last block")
      .add("positions", &VitEncoderOptions::positions, "fixed sine-cosine or learned position table")
      .add("seed", &VitEncoderOptions::seed, "of the initial weights")
      .rule([](const VitEncoderOptions& o) {
        WINNOW_CHECK(o.image_height % o.patch == 0, "VitEncoder: image_height must be a multiple of patch = {}, got {}",
                     o.patch, o.image_height);
        WINNOW_CHECK(o.image_width % o.patch == 0, "VitEncoder: image_width must be a multiple of patch = {}, got {}",
                     o.patch, o.image_width);
        WINNOW_CHECK(o.dim % o.heads == 0, "VitEncoder: heads must divide dim = {}, got {}", o.dim, o.heads);
        WINNOW_CHECK(o.positions != PositionTable::sincos || o.dim % 4 == 0,
                     "VitEncoder: dim must be a multiple of 4 for a sine-cosine table, got {}", o.dim);
        WINNOW_CHECK(o.positions != PositionTable::sincos || o.frames == 0,
                     "VitEncoder: frames must be 0 for a 2-D sine-cosine table, got {}", o.frames);
        WINNOW_CHECK(o.frames % o.tubelet == 0 && (o.frames > 0 || o.tubelet == 1),
                     "VitEncoder: frames must be a multiple of tubelet = {}, got {}", o.tubelet, o.frames);
        WINNOW_CHECK(o.class_token || !o.distillation_token,
                     "VitEncoder: distillation_token must be off without class_token");
      });
}

VitEncoderImpl::VitEncoderImpl(VitEncoderOptions opts) : options(std::move(opts)) {
  check(options);
  reset();
}

void VitEncoderImpl::reset() {
  const auto D = options.dim;
  std::vector<int64_t> cell = {options.patch, options.patch};
  if (options.frames > 0) cell.insert(cell.begin(), options.tubelet);
  patch_embed = register_module(
      "patch_embed",
      PatchEmbed(PatchEmbedOptions{
          .patch = std::move(cell), .channels = options.channels, .dim = D, .bias = options.patch_bias}));
  auto block = vit_block_options(D, options.heads);
  block.eps = options.eps;
  block.attention.qkv_bias = !options.qkv_bias ? QkvBias::none : options.key_bias ? QkvBias::all : QkvBias::query_value;
  block.attention.dropout = options.attention_dropout;
  block.mlp.hidden = options.mlp_dim > 0 ? options.mlp_dim : 4 * D;
  block.mlp.activation = options.activation;
  block.mlp.kind = options.gated_mlp ? MlpKind::gated : MlpKind::plain;
  block.layer_scale = options.layer_scale;
  const auto rates = drop_path_rates(options.depth, options.drop_path);
  const auto make = [&](int64_t i) {
    block.drop_path = rates[static_cast<size_t>(i)];
    block.seed = derive_seed(options.seed, i);
    block.attention.seed = derive_seed(block.seed, 1);
    return TransformerBlock(block);
  };
  const auto generator = make_generator(options.seed);
  const auto token = [&] {
    auto values = at::empty({1, 1, D});
    normal_(values, generator, 0.02);
    return values;
  };
  if (options.class_token) cls_token = register_parameter("cls_token", token());
  if (options.distillation_token) dist_token = register_parameter("dist_token", token());
  const bool learned = options.positions == PositionTable::learned;
  auto table = at::empty({1, prefix_tokens() + patches(), D});
  if (learned) {
    normal_(table, generator, 0.02);
  } else if (options.positions == PositionTable::sincos_line) {
    table.zero_();
    table.slice(1, prefix_tokens()).copy_(sincos_1d_pos_embed(D, patches(), SincosLayout::interleaved));
  } else {
    table.copy_(sincos_2d_pos_embed(D, grid_height(), grid_width(), prefix_tokens()));
  }
  pos_embed = register_parameter("pos_embed", table, /*requires_grad=*/learned);
  blocks = register_module("blocks", Stack<TransformerBlock>(options.depth, make));
  if (options.input_norm) {
    norm_pre = register_module("norm_pre", Norm(NormOptions{.dim = D, .eps = options.eps}));
  }
  if (options.final_norm) {
    norm = register_module("norm", Norm(NormOptions{.dim = D, .eps = options.eps}));
  }
  init_mae_weights(*this, generator);
}

at::Tensor VitEncoderImpl::patch_tokens(const at::Tensor& images) {
  return patch_embed->forward(images);
}

at::Tensor VitEncoderImpl::positions_for(int64_t height, int64_t width) const {
  return interpolate_pos_embed(pos_embed, {.rows = grid_height(), .columns = grid_width()},
                               {.rows = height, .columns = width}, prefix_tokens());
}

namespace {

void check_images(const VitEncoderOptions& o, const at::Tensor& images, bool interpolate) {
  check_dim("VitEncoder: images", images, o.frames > 0 ? 5 : 4);
  WINNOW_CHECK(images.size(1) == o.channels, "VitEncoder: images must have {} channels, got shape {}", o.channels,
               images.sizes());
  if (o.frames > 0) {
    WINNOW_CHECK(!interpolate, "VitEncoder: interpolate must be off for clips of {} frames", o.frames);
    WINNOW_CHECK(images.size(2) == o.frames, "VitEncoder: images must have {} frames, got {}", o.frames,
                 images.size(2));
  }
  if (interpolate) return;
  WINNOW_CHECK(images.size(-2) == o.image_height && images.size(-1) == o.image_width,
               "VitEncoder: images must be {} x {} (position table of {} x {} patches), got {} x {}", o.image_height,
               o.image_width, o.image_height / o.patch, o.image_width / o.patch, images.size(-2), images.size(-1));
}

}  // namespace

at::Tensor VitEncoderImpl::embed(const at::Tensor& images, bool interpolate) {
  check_images(options, images, interpolate);
  const auto tokens = patch_tokens(images);  // [B, L, D]
  const auto table = interpolate ? positions_for(images.size(2) / options.patch, images.size(3) / options.patch)
                                 : pos_embed;  // [1, P + L, D]
  return tokens + table.slice(1, prefix_tokens());
}

at::Tensor VitEncoderImpl::embed_kept(const at::Tensor& images, const at::Tensor& ids, bool interpolate) {
  check_images(options, images, interpolate);
  check_dim("VitEncoder: ids", ids, 2);
  if (images.requires_grad() || hooks_active()) return gather_tokens(embed(images, interpolate), ids);
  const auto table =
      interpolate ? positions_for(images.size(2) / options.patch, images.size(3) / options.patch) : pos_embed;
  const auto pixels =
      options.frames > 0 ? gather_tokens(patch_embed->unfold(images), ids) : gather_patches(images, options.patch, ids);
  const auto tokens = patch_embed->project(pixels);                                     // [B, K, D]
  const auto rows = table[0].slice(0, prefix_tokens()).index_select(0, ids.flatten());  // [B * K, D]
  return tokens + rows.view_as(tokens);
}

at::Tensor VitEncoderImpl::encode(const at::Tensor& tokens, std::vector<at::Tensor>* hidden_states) {
  check_shape("VitEncoder: tokens", tokens, {-1, -1, options.dim});
  auto x = tokens;  // [B, P + K, D] once the prefix is in front
  if (const auto P = prefix_tokens(); P > 0) {
    const auto prefix = (P == 2 ? at::cat({cls_token, dist_token}, 1) : cls_token) + pos_embed.slice(1, 0, P);
    x = at::cat({prefix.expand({tokens.size(0), P, options.dim}), tokens}, 1);
  }
  if (norm_pre) x = norm_pre->forward(x);
  if (hidden_states == nullptr) {
    x = blocks->forward(x);
  } else {
    hidden_states->assign(1, x);
    for (auto& block : *blocks) hidden_states->push_back(x = block->forward(x));
  }
  return norm ? norm->forward(x) : x;
}

at::Tensor VitEncoderImpl::forward(const at::Tensor& images) {
  return hooked(encode(embed(images)));
}

int64_t VitEncoderImpl::prefix_tokens() const {
  return (options.class_token ? 1 : 0) + (options.distillation_token ? 1 : 0);
}
int64_t VitEncoderImpl::grid_height() const {
  return options.image_height / options.patch;
}
int64_t VitEncoderImpl::grid_width() const {
  return options.image_width / options.patch;
}
int64_t VitEncoderImpl::grid_depth() const {
  return options.frames > 0 ? options.frames / options.tubelet : 1;
}
int64_t VitEncoderImpl::patches() const {
  return grid_depth() * grid_height() * grid_width();
}

}  // namespace winnow
