#include "winnow/models/clip.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "text_parts.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/tensor/check.h"

namespace winnow::models {
namespace {

VitEncoderOptions vision_options(const ClipConfig& c) {
  const auto& v = c.vision;
  const auto side = v.image_size / v.patch_size * v.patch_size;  // pixels beyond whole patches are not seen
  return {.image_height = side,
          .image_width = side,
          .channels = v.num_channels,
          .patch = v.patch_size,
          .patch_bias = false,
          .dim = v.hidden_size,
          .depth = v.num_hidden_layers,
          .heads = v.num_attention_heads,
          .mlp_dim = v.intermediate_size,
          .activation = activation_of(v.hidden_act, "ClipVisionConfig: hidden_act"),
          .eps = v.layer_norm_eps,
          .attention_dropout = v.attention_dropout,
          .input_norm = true,
          .final_norm = false,
          .positions = PositionTable::learned,
          .seed = derive_seed(c.seed, 1)};
}

TransformerBlockOptions text_block_options(const ClipTextConfig& t, uint64_t seed) {
  auto block = vit_block_options(t.hidden_size, t.num_attention_heads);
  block.eps = t.layer_norm_eps;
  block.attention.dropout = t.attention_dropout;
  block.attention.seed = seed;
  block.mlp.hidden = t.intermediate_size;
  block.mlp.activation = activation_of(t.hidden_act, "ClipTextConfig: hidden_act");
  return block;
}

void add_norm(WeightMap& map, const Norm& norm, const std::string& name) {
  map.add(norm->weight, {name + ".weight"});
  map.add(norm->bias, {name + ".bias"});
}

void add_blocks(WeightMap& map, Stack<TransformerBlock> blocks, const std::string& tower) {
  for (int64_t i = 0; i < blocks->size(); ++i) {
    const auto place = fmt::format("{}encoder.layers.{}.", tower, i);
    const auto& block = blocks[i];
    for (const auto& [fused, suffix] :
         {std::pair{block->attn->qkv->weight, ".weight"}, std::pair{block->attn->qkv->bias, ".bias"}}) {
      const auto width = fused.size(0) / 3;
      int64_t begin = 0;
      for (const auto* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}) {
        map.add_forms({{{.name = place + name + suffix, .parts = {rows(fused, begin, width)}}}});
        begin += width;
      }
    }
    add_linear_weights(map, block->attn->proj, {place + "self_attn.out_proj"});
    add_norm(map, block->norm1, place + "layer_norm1");
    add_linear_weights(map, block->mlp->fc1, {place + "mlp.fc1"});
    add_linear_weights(map, block->mlp->fc2, {place + "mlp.fc2"});
    add_norm(map, block->norm2, place + "layer_norm2");
  }
}

// A parameter of another shape than in the file: the same elements.
void add_reshaped(WeightMap& map, const at::Tensor& parameter, const std::string& name, std::vector<int64_t> shape) {
  map.add_forms({{{.name = name, .parts = {whole(parameter)}, .shape = std::move(shape)}}});
}

at::Tensor of_length_one(const at::Tensor& x) {
  return x / x.square().sum(-1, /*keepdim=*/true).sqrt();
}

}  // namespace

ClipImpl::ClipImpl(ClipConfig c) : config(std::move(c)) {
  const auto& t = config.text;
  const auto D = t.hidden_size;
  token_embedding = register_module("token_embedding", torch::nn::Embedding(t.vocab_size, D));
  position_embedding = register_module(
      "position_embedding", LearnedPositions(LearnedPositionsOptions{.length = t.max_position_embeddings, .dim = D}));
  text_blocks = register_module("text_blocks", Stack<TransformerBlock>(t.num_hidden_layers, [&](int64_t i) {
                                  return TransformerBlock(text_block_options(t, derive_seed(config.seed, 10 + i)));
                                }));
  final_layer_norm = register_module("final_layer_norm", Norm(NormOptions{.dim = D, .eps = t.layer_norm_eps}));
  text_projection = register_module("text_projection", Linear(D, config.projection_dim, false));
  visual_projection =
      register_module("visual_projection", Linear(config.vision.hidden_size, config.projection_dim, false));
  init_normal_weights(*this, derive_seed(config.seed, 2), 0.02);
  vision = register_module("vision", VitEncoder(vision_options(config)));
  const NormOptions norm{.dim = config.vision.hidden_size, .eps = config.vision.layer_norm_eps};
  post_layernorm = register_module("post_layernorm", Norm(norm));
  logit_scale = register_parameter("logit_scale", at::scalar_tensor(config.logit_scale_init_value, at::kFloat));
}

// The number of the token whose state stands for the text, [B].
at::Tensor ClipImpl::end_of_text(const at::Tensor& ids) const {
  if (config.text.eos_token_id == 2) return ids.argmax(1);  // old files: the end is the largest id of the vocabulary
  return (ids == config.text.eos_token_id).to(at::kInt).argmax(1);
}

ClipTextOutput ClipImpl::encode_text(const ClipTextInput& input) {
  check_token_ids("Clip", input.ids, config.text.vocab_size, config.text.max_position_embeddings);
  BlockArgs args;
  args.self.mask = causal_mask() & keep_mask("Clip", input.keep, input.ids);
  const auto places = position_rows("Clip", position_embedding, input.positions, input.ids.size(1));
  ClipTextOutput out;
  auto x = token_embedding->forward(input.ids) + places;  // [B, L, D]
  if (input.hidden_states) out.hidden_states.push_back(x);
  for (auto& block : *text_blocks) {
    x = block->forward(x, args);
    if (input.hidden_states) out.hidden_states.push_back(x);
  }
  out.last_hidden_state = final_layer_norm->forward(x);
  const auto rows = at::arange(input.ids.size(0), input.ids.options());
  out.pooler_output = out.last_hidden_state.index({rows, end_of_text(input.ids)});  // [B, D]
  return out;
}

VisionOutput ClipImpl::encode_images(const at::Tensor& images, const VisionForward& how) {
  WINNOW_CHECK(!how.labels.defined(), "Clip: labels must be undefined, there is no classifier");
  const VitTrunkConfig trunk{.image_height = config.vision.image_size,
                             .image_width = config.vision.image_size,
                             .patch_size = config.vision.patch_size};
  auto out = run_trunk("Clip", *vision, trunk, images, how);
  out.pooler_output = post_layernorm->forward(out.last_hidden_state.select(1, 0));
  return out;
}

at::Tensor ClipImpl::text_features(const ClipTextInput& input) {
  return text_projection->forward(encode_text(input).pooler_output);
}

at::Tensor ClipImpl::image_features(const at::Tensor& images, const VisionForward& how) {
  return visual_projection->forward(encode_images(images, how).pooler_output);
}

ClipOutput ClipImpl::forward(const ClipInput& input) {
  auto text = input.text;
  text.hidden_states = text.hidden_states || input.hidden_states;
  ClipOutput out;
  out.text = encode_text(text);
  out.vision = encode_images(
      input.images, {.interpolate_positions = input.interpolate_positions, .hidden_states = input.hidden_states});
  out.text_embeds = of_length_one(text_projection->forward(out.text.pooler_output));
  out.image_embeds = of_length_one(visual_projection->forward(out.vision.pooler_output));
  out.logits_per_text = at::matmul(out.text_embeds, out.image_embeds.t()) * logit_scale.exp();
  out.logits_per_image = out.logits_per_text.t();
  if (input.loss) out.loss = contrastive_loss(out.logits_per_text);
  return out;
}

at::Tensor contrastive_loss(const at::Tensor& logits) {
  check_dim("contrastive_loss: logits", logits, 2);
  WINNOW_CHECK(logits.size(0) == logits.size(1) && logits.size(0) >= 1,
               "contrastive_loss: logits must be square with at least one row, got {} x {}", logits.size(0),
               logits.size(1));
  const auto right = at::arange(logits.size(0), at::TensorOptions(at::kLong).device(logits.device()));
  return (at::cross_entropy_loss(logits, right) + at::cross_entropy_loss(logits.t(), right)) / 2;
}

std::string ClipImpl::architecture() const {
  return "CLIPModel";
}

io::Json ClipImpl::config_json() const {
  return to_json(config);
}

ImageShape ClipImpl::image_shape() const {
  return {
      .channels = config.vision.num_channels, .height = config.vision.image_size, .width = config.vision.image_size};
}

WeightMap ClipImpl::weight_map() const {
  WeightMap map({"published"});
  const std::string text = "text_model.", image = "vision_model.";
  map.add(token_embedding->weight, {text + "embeddings.token_embedding.weight"});
  map.add(position_embedding->weight, {text + "embeddings.position_embedding.weight"});
  add_blocks(map, text_blocks, text);
  add_norm(map, final_layer_norm, text + "final_layer_norm");
  const auto D = config.vision.hidden_size;
  add_reshaped(map, vision->cls_token, image + "embeddings.class_embedding", {D});
  map.add(vision->patch_embed->proj->weight, {image + "embeddings.patch_embedding.weight"});
  add_reshaped(map, vision->pos_embed, image + "embeddings.position_embedding.weight", {vision->pos_embed.size(1), D});
  add_norm(map, vision->norm_pre, image + "pre_layrnorm");  // spelt so in the files
  add_blocks(map, vision->blocks, image);
  add_norm(map, post_layernorm, image + "post_layernorm");
  add_linear_weights(map, text_projection, {"text_projection"});
  add_linear_weights(map, visual_projection, {"visual_projection"});
  map.add(logit_scale, {"logit_scale"});
  map.ignore({text + "embeddings.position_ids", image + "embeddings.position_ids"});
  return map;
}

Makers clip_makers() {
  const Maker make = [](const io::JsonObject& json, const io::Checkpoint&) -> std::shared_ptr<Pretrained> {
    return std::make_shared<ClipImpl>(read_clip_config(json));
  };
  return {{"CLIPModel", make}};
}

}  // namespace winnow::models
