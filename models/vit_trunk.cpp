#include "vit_trunk.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <utility>

#include "winnow/core/error.h"
#include "winnow/nn/init.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/generator.h"

namespace winnow::models {
namespace {

// The names inside a block, by style. transformers 5 keeps its files' names for norms and layer scale.
struct Leaves {
  const char* norm1;
  const char* norm2;
  const char* scale1;
  const char* scale2;
  const char* fc1;
  const char* fc2;
};
constexpr Leaves kViT = {.norm1 = "layernorm_before",
                         .norm2 = "layernorm_after",
                         .scale1 = "",
                         .scale2 = "",
                         .fc1 = "intermediate.dense",
                         .fc2 = "output.dense"};
constexpr Leaves kDinov2 = {.norm1 = "norm1",
                            .norm2 = "norm2",
                            .scale1 = "layer_scale1.lambda1",
                            .scale2 = "layer_scale2.lambda1",
                            .fc1 = "mlp.fc1",
                            .fc2 = "mlp.fc2"};

std::string in_block(const std::string& place, const std::string& leaf) {
  return place.empty() ? std::string() : place + leaf;
}

void add_norm(WeightMap& map, const Norm& norm, const std::vector<std::string>& names) {
  for (const auto& [parameter, suffix] : {std::pair{norm->weight, ".weight"}, std::pair{norm->bias, ".bias"}}) {
    std::vector<std::string> full;
    for (const auto& name : names) full.push_back(name.empty() ? name : name + suffix);
    map.add(parameter, full);
  }
}

// The rows of a fused qkv are all of q, then k, then v; published files keep three tensors.
void add_qkv(WeightMap& map, const at::Tensor& fused, const BlockPlaces& at, const std::string& suffix) {
  const auto width = fused.size(0) / 3;
  const auto apart = [&](const std::string& place, const std::string& q, const std::string& k, const std::string& v) {
    WeightForm form;
    if (place.empty()) return form;
    int64_t begin = 0;
    for (const auto& name : {q, k, v}) {
      form.push_back({.name = place + name + suffix, .parts = {rows(fused, begin, width)}});
      begin += width;
    }
    return form;
  };
  const std::string published = "attention.attention.", modules = "attention.";
  map.add_forms({apart(at.published, published + "query", published + "key", published + "value"),
                 apart(at.modules, modules + "q_proj", modules + "k_proj", modules + "v_proj"),
                 {{.name = at.timm + "attn.qkv" + suffix, .parts = {whole(fused)}}},
                 apart(at.files, published + "query", published + "key", published + "value")});
}

// SwiGLU: published files hold gate and up behind each other in one matrix.
void add_gated_mlp(WeightMap& map, const Mlp& mlp, const BlockPlaces& at) {
  const auto add = [&](const at::Tensor& gate, const at::Tensor& up, const std::string& suffix) {
    const auto together = [&](const std::string& name) {
      return WeightForm{{.name = name + suffix, .parts = {whole(gate), whole(up)}}};
    };
    map.add_forms({together(at.published + "mlp.weights_in"),
                   {{.name = at.modules + "mlp.gate_proj" + suffix, .parts = {whole(gate)}},
                    {.name = at.modules + "mlp.up_proj" + suffix, .parts = {whole(up)}}},
                   together(at.timm + "mlp.fc1"),
                   {},
                   together(at.timm + "mlp.w12")});
  };
  add(mlp->gate->weight, mlp->fc1->weight, ".weight");
  add(mlp->gate->bias, mlp->fc1->bias, ".bias");
  add_linear_weights(
      map, mlp->fc2,
      {at.published + "mlp.weights_out", at.modules + "mlp.down_proj", at.timm + "mlp.fc2", "", at.timm + "mlp.w3"});
}

}  // namespace

void add_linear_weights(WeightMap& map, const Linear& linear, const std::vector<std::string>& names) {
  for (const auto& [parameter, suffix] : {std::pair{linear->weight, ".weight"}, std::pair{linear->bias, ".bias"}}) {
    if (!parameter.defined()) continue;
    std::vector<std::string> full;
    for (const auto& name : names) full.push_back(name.empty() ? name : name + suffix);
    map.add(parameter, full);
  }
}

void add_block_weights(WeightMap& map, const TransformerBlock& block, const BlockPlaces& at, BlockNames names) {
  const auto& leaf = names == BlockNames::vit ? kViT : kDinov2;
  const auto everywhere = [&](const std::string& published, const std::string& modules, const std::string& timm) {
    return std::vector<std::string>{at.published + published, at.modules + modules, at.timm + timm,
                                    in_block(at.files, published)};
  };
  add_norm(map, block->norm1, everywhere(leaf.norm1, leaf.norm1, "norm1"));
  add_qkv(map, block->attn->qkv->weight, at, ".weight");
  if (block->attn->qkv->bias.defined()) add_qkv(map, block->attn->qkv->bias, at, ".bias");
  if (block->attn->q_bias.defined()) {  // VideoMAE; transformers 5 counts them as biases of its linear layers
    const std::string inside = "attention.attention.";
    map.add(block->attn->q_bias,
            {at.published + inside + "q_bias", at.published + inside + "query.bias", at.timm + "attn.q_bias"});
    map.add(block->attn->v_bias,
            {at.published + inside + "v_bias", at.published + inside + "value.bias", at.timm + "attn.v_bias"});
  }
  add_linear_weights(map, block->attn->proj, everywhere("attention.output.dense", "attention.o_proj", "attn.proj"));
  if (block->ls1) map.add(block->ls1->gamma, everywhere(leaf.scale1, leaf.scale1, "ls1.gamma"));
  add_norm(map, block->norm2, everywhere(leaf.norm2, leaf.norm2, "norm2"));
  if (block->mlp->gate) {
    add_gated_mlp(map, block->mlp, at);
  } else {
    add_linear_weights(map, block->mlp->fc1, everywhere(leaf.fc1, "mlp.fc1", "mlp.fc1"));
    add_linear_weights(map, block->mlp->fc2, everywhere(leaf.fc2, "mlp.fc2", "mlp.fc2"));
  }
  if (block->ls2) map.add(block->ls2->gamma, everywhere(leaf.scale2, leaf.scale2, "ls2.gamma"));
}

void add_trunk_weights(WeightMap& map, const VitEncoderImpl& encoder, const std::string& base, BlockNames names,
                       WeightNeed positions) {
  const auto embeddings = base + "embeddings.";
  const auto both = [&](const std::string& leaf, const std::string& timm) {
    return std::vector<std::string>{embeddings + leaf, "", timm};
  };
  map.add(encoder.cls_token, both("cls_token", "cls_token"));
  if (encoder.dist_token.defined()) map.add(encoder.dist_token, both("distillation_token", "dist_token"));
  map.add(encoder.pos_embed, both("position_embeddings", "pos_embed"), positions);
  map.add(encoder.patch_embed->proj->weight, both("patch_embeddings.projection.weight", "patch_embed.proj.weight"));
  map.add(encoder.patch_embed->proj->bias, both("patch_embeddings.projection.bias", "patch_embed.proj.bias"));
  // The modules of transformers 5 dropped "encoder.layer" for "layers", but not in DINOv2.
  const auto published = base + "encoder.layer.", modules = names == BlockNames::vit ? base + "layers." : published;
  auto blocks = encoder.blocks;  // the same blocks; access to them is not const
  for (int64_t i = 0; i < blocks->size(); ++i) {
    add_block_weights(map, blocks[i],
                      {.published = fmt::format("{}{}.", published, i),
                       .modules = fmt::format("{}{}.", modules, i),
                       .timm = fmt::format("blocks.{}.", i)},
                      names);
  }
  if (encoder.norm) add_norm(map, encoder.norm, {base + "layernorm", "", "norm"});
}

at::Tensor whole_patches(const at::Tensor& images, int64_t patch) {
  const auto height = images.size(2) / patch * patch, width = images.size(3) / patch * patch;
  if (height == images.size(2) && width == images.size(3)) return images;
  return images.slice(2, 0, height).slice(3, 0, width);
}

VisionOutput run_trunk(const char* what, VitEncoderImpl& encoder, const VitTrunkConfig& config,
                       const at::Tensor& images, const VisionForward& how) {
  const std::string name = std::string(what) + ": images";
  check_dim(name, images, 4);
  check_like(name, images, encoder.pos_embed);
  const auto height = images.size(2), width = images.size(3), p = config.patch_size;
  if (how.interpolate_positions) {
    WINNOW_CHECK(height >= p && width >= p, "{} must hold at least one patch of {} pixels, got {} x {}", name, p,
                 height, width);
  } else {
    WINNOW_CHECK(height == config.image_height && width == config.image_width,
                 "{} must be {} x {} (or ask for interpolate_positions), got {} x {}", name, config.image_height,
                 config.image_width, height, width);
  }
  VisionOutput out;
  const auto tokens = encoder.embed(whole_patches(images, p), how.interpolate_positions);
  out.last_hidden_state = encoder.encode(tokens, how.hidden_states ? &out.hidden_states : nullptr);
  return out;
}

void check_pooler_act(const char* what, const std::string& activation) {
  if (activation == "tanh" || activation == "sigmoid" || activation == "linear") return;
  activation_of(activation, fmt::format("{}: pooler_act, where not tanh, sigmoid or linear,", what));
}

at::Tensor pool(Linear pooler, const std::string& activation, const at::Tensor& tokens) {
  const auto x = pooler->forward(tokens.select(1, 0));
  if (activation == "tanh") return x.tanh();
  if (activation == "sigmoid") return x.sigmoid();
  if (activation == "linear") return x;
  return activate(x, activation_of(activation, "pooler_act"));
}

Linear make_head(int64_t in, int64_t out, uint64_t seed, double deviation) {
  const at::NoGradGuard no_grad;
  Linear head(in, out);
  trunc_normal_(head->weight, make_generator(seed), deviation);
  head->bias.zero_();
  return head;
}

VitTrunkConfig trunk_config(const char* what, const VitEncoderOptions& o) {
  WINNOW_CHECK(o.class_token && !o.distillation_token && !o.gated_mlp && o.layer_scale == 0.0,
               "{}: the trunk must have a class token and neither distillation token, gated MLP nor layer scale", what);
  return {.image_height = o.image_height,
          .image_width = o.image_width,
          .patch_size = o.patch,
          .num_channels = o.channels,
          .hidden_size = o.dim,
          .num_hidden_layers = o.depth,
          .num_attention_heads = o.heads,
          .intermediate_size = o.mlp_dim > 0 ? o.mlp_dim : 4 * o.dim,
          .hidden_act = enum_name(o.activation),
          .qkv_bias = o.qkv_bias,
          .layer_norm_eps = o.eps,
          .drop_path_rate = o.drop_path,
          .seed = o.seed};
}

}  // namespace winnow::models
