#include "winnow/models/videomae.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/nn/init.h"
#include "winnow/nn/position.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"

namespace winnow::models {
namespace {

constexpr double kNormEps = 1e-5;  // of the norms behind decoder and mean, whatever layer_norm_eps says

VitEncoderOptions trunk_options(const VideoMaeConfig& c) {
  auto options = encoder_options(c.trunk);
  options.frames = c.num_frames;
  options.tubelet = c.tubelet_size;
  options.key_bias = false;
  options.class_token = false;
  options.final_norm = !c.use_mean_pooling;
  options.positions = PositionTable::sincos_line;
  return options;
}

TransformerBlockOptions decoder_block_options(const VideoMaeConfig& c) {
  auto block = vit_block_options(c.decoder_hidden_size, c.decoder_num_attention_heads);
  block.eps = c.trunk.layer_norm_eps;
  block.attention.qkv_bias = c.trunk.qkv_bias ? QkvBias::query_value : QkvBias::none;
  block.mlp.hidden = c.decoder_intermediate_size;
  block.mlp.activation = activation_of(c.trunk.hidden_act, "VideoMaeConfig: hidden_act");
  return block;
}

struct Split {
  at::Tensor visible, masked;  // [B, V] and [B, M] int64, token numbers in rising order
};

// Throws winnow::Error unless each row hides the same number of tokens, at least one of them.
Split split_tokens(const at::Tensor& masked, int64_t batch, int64_t tokens) {
  check_shape("VideoMae: masked", masked, {batch, tokens});
  const auto hidden = masked.to(at::kBool);
  const auto counts = hidden.sum(1);
  const auto most = batch > 0 ? counts.max().item<int64_t>() : 0, least = batch > 0 ? counts.min().item<int64_t>() : 0;
  WINNOW_CHECK(most == least, "VideoMae: masked must hide as many tokens in each row, got between {} and {}", least,
               most);
  WINNOW_CHECK(most >= 1 && most < tokens, "VideoMae: masked must hide between 1 and {} of {} tokens, got {}",
               tokens - 1, tokens, most);
  const auto order = hidden.to(at::kByte).argsort(/*stable=*/true, /*dim=*/1);  // visible first, each in order
  return {.visible = order.slice(1, 0, tokens - most), .masked = order.slice(1, tokens - most)};
}

std::vector<std::string> in_styles(const std::string& published, const std::string& official) {
  return {published, "", official};
}

void add_norm(WeightMap& map, const Norm& norm, const std::string& published, const std::string& official) {
  for (const auto& [parameter, suffix] : {std::pair{norm->weight, ".weight"}, std::pair{norm->bias, ".bias"}}) {
    map.add(parameter, in_styles(published + suffix, official.empty() ? official : official + suffix));
  }
}

}  // namespace

VideoMaeImpl::VideoMaeImpl(VideoMaeConfig c) : config(std::move(c)) {
  encoder = register_module("encoder", VitEncoder(trunk_options(config)));
  const auto D = config.trunk.hidden_size;
  if (config.head == VideoMaeHead::pre_training) make_decoder();
  if (config.head == VideoMaeHead::classifier) {
    WINNOW_CHECK(!config.labels.empty(), "VideoMae: labels must not be empty where there is a classifier");
    if (config.use_mean_pooling) fc_norm = register_module("fc_norm", Norm(NormOptions{.dim = D, .eps = kNormEps}));
    const auto classes = static_cast<int64_t>(config.labels.size());
    classifier = register_module("classifier", make_head(D, classes, derive_seed(config.trunk.seed, 3)));
  }
}

void VideoMaeImpl::make_decoder() {
  const auto D = config.trunk.hidden_size, Dd = config.decoder_hidden_size, p = config.trunk.patch_size;
  const auto pixels = config.tubelet_size * p * p * config.trunk.num_channels;
  encoder_to_decoder = register_module("encoder_to_decoder", Linear(D, Dd, false));
  const auto generator = make_generator(derive_seed(config.trunk.seed, 2));
  mask_token = register_parameter("mask_token", at::empty({1, 1, Dd}));
  trunc_normal_(mask_token, generator, 0.02, 0.0, -0.02, 0.02);
  // A parameter without gradient, so that it follows the network to its device and dtype.
  decoder_positions = register_parameter(
      "decoder_positions", sincos_1d_pos_embed(Dd, encoder->patches(), SincosLayout::interleaved).unsqueeze(0),
      /*requires_grad=*/false);
  const auto options = decoder_block_options(config);
  decoder_blocks = register_module(
      "decoder_blocks",
      Stack<TransformerBlock>(config.decoder_num_hidden_layers, [&](int64_t) { return TransformerBlock(options); }));
  decoder_norm = register_module("decoder_norm", Norm(NormOptions{.dim = Dd, .eps = kNormEps}));
  decoder_head = register_module("decoder_head", Linear(Dd, pixels));
  init_mae_weights(*decoder_blocks, generator);
  xavier_uniform_(encoder_to_decoder->weight, generator);
  xavier_uniform_(decoder_head->weight, generator);
  const at::NoGradGuard no_grad;
  decoder_head->bias.zero_();
}

// The masked tokens' pixels [B, M, pixels] from the encoder's output on the visible ones [B, V, D].
at::Tensor VideoMaeImpl::decode(const at::Tensor& visible, const at::Tensor& visible_ids,
                                const at::Tensor& masked_ids) {
  const auto at_places = [&](const at::Tensor& ids) {
    return decoder_positions[0].index_select(0, ids.flatten()).view({ids.size(0), ids.size(1), -1});
  };
  // Nothing is put back in order: the positions say where a token stands.
  const auto known = encoder_to_decoder->forward(visible) + at_places(visible_ids);
  auto x = at::cat({known, mask_token + at_places(masked_ids)}, 1);  // [B, V + M, D']
  x = decoder_blocks->forward(x).slice(1, visible_ids.size(1));
  return decoder_head->forward(decoder_norm->forward(x));
}

VideoMaeOutput VideoMaeImpl::forward(const at::Tensor& videos, const VideoMaeForward& how) {
  check_dim("VideoMae: videos", videos, 5);
  check_like("VideoMae: videos", videos, encoder->pos_embed);
  const auto& o = encoder->options;
  check_shape("VideoMae: videos", videos,
              {-1, o.frames, o.channels, config.trunk.image_height, config.trunk.image_width});
  WINNOW_CHECK(config.head != VideoMaeHead::pre_training || how.masked.defined(),
               "VideoMae: masked must be given for pre-training");
  const auto whole = videos.slice(3, 0, o.image_height).slice(4, 0, o.image_width);
  const auto clip = whole.transpose(1, 2);  // [B, C, T, H, W]
  Split split;
  at::Tensor tokens;  // [B, V, D]
  if (how.masked.defined()) {
    split = split_tokens(how.masked.to(videos.device()), videos.size(0), encoder->patches());
    tokens = encoder->embed_kept(clip, split.visible);
  } else {
    tokens = encoder->embed(clip);
  }
  VideoMaeOutput out;
  out.last_hidden_state = encoder->encode(tokens, how.hidden_states ? &out.hidden_states : nullptr);
  if (config.head == VideoMaeHead::pre_training) {
    out.logits = decode(out.last_hidden_state, split.visible, split.masked);
    const auto targets = videomae_targets(whole.detach(), config.tubelet_size, o.patch, config.norm_pix_loss);
    out.loss = at::mse_loss(out.logits, gather_tokens(targets, split.masked));
  }
  if (classifier) {
    const auto pooled = fc_norm ? fc_norm->forward(out.last_hidden_state.mean(1)) : out.last_hidden_state.select(1, 0);
    out.logits = classifier->forward(pooled);
    if (how.labels.defined()) out.loss = classification_loss(out.logits, how.labels, config.problem_type);
  }
  return out;
}

at::Tensor videomae_targets(const at::Tensor& videos, int64_t tubelet, int64_t patch, bool norm_pix) {
  check_dim("videomae_targets: videos", videos, 5);
  check_floating("videomae_targets: videos", videos);
  const auto B = videos.size(0), T = videos.size(1), C = videos.size(2), H = videos.size(3), W = videos.size(4);
  WINNOW_CHECK(tubelet >= 1 && patch >= 1 && T % tubelet == 0 && H % patch == 0 && W % patch == 0,
               "videomae_targets: tubelet {} and patch {} must divide {} frames of {} x {}", tubelet, patch, T, H, W);
  WINNOW_CHECK(C == 3 || norm_pix, "videomae_targets: videos must have 3 channels unless norm_pix is on, got {}", C);
  auto x = videos;
  if (C == 3) {
    const auto channel = [&](std::vector<double> values) {
      return at::tensor(values, at::kDouble).to(videos.options()).view({1, 1, 3, 1, 1});
    };
    x = videos * channel({0.229, 0.224, 0.225}) + channel({0.485, 0.456, 0.406});
  }
  x = x.reshape({B, T / tubelet, tubelet, C, H / patch, patch, W / patch, patch})
          .permute({0, 1, 4, 6, 2, 5, 7, 3})
          .reshape({B, T / tubelet * (H / patch) * (W / patch), tubelet * patch * patch, C});
  if (norm_pix) {
    x = (x - x.mean(2, /*keepdim=*/true)) / (x.var(2, /*unbiased=*/true, /*keepdim=*/true).sqrt() + 1e-6);
  }
  return x.flatten(2);
}

std::string VideoMaeImpl::architecture() const {
  return to_json(config)["architectures"][0].get<std::string>();
}

io::Json VideoMaeImpl::config_json() const {
  return to_json(config);
}

std::vector<std::string> VideoMaeImpl::labels() const {
  return classifier ? config.labels : std::vector<std::string>();
}

// Official names carry "encoder." in pre-training only.
WeightMap VideoMaeImpl::weight_map() const {
  WeightMap map(kViTStyles);
  const bool pre_training = config.head == VideoMaeHead::pre_training;
  const std::string base = config.head == VideoMaeHead::none ? "" : "videomae.", trunk = pre_training ? "encoder." : "";
  const auto& projection = encoder->patch_embed->proj;
  const std::string embedding = base + "embeddings.patch_embeddings.projection";
  map.add(projection->weight, in_styles(embedding + ".weight", trunk + "patch_embed.proj.weight"));
  map.add(projection->bias, in_styles(embedding + ".bias", trunk + "patch_embed.proj.bias"));
  const auto add_blocks = [&](Stack<TransformerBlock> blocks, const std::string& published,
                              const std::string& official) {
    for (int64_t i = 0; i < blocks->size(); ++i) {
      const auto place = fmt::format("{}{}.", published, i);
      add_block_weights(
          map, blocks[i],
          {.published = place, .modules = place, .timm = fmt::format("{}blocks.{}.", official, i), .files = {}},
          BlockNames::vit);
    }
  };
  add_blocks(encoder->blocks, base + "encoder.layer.", trunk);
  if (encoder->norm) add_norm(map, encoder->norm, base + "layernorm", trunk + "norm");
  if (pre_training) {
    map.add(encoder_to_decoder->weight, in_styles("encoder_to_decoder.weight", "encoder_to_decoder.weight"));
    map.add(mask_token, {"mask_token"});
    add_blocks(decoder_blocks, "decoder.decoder_layers.", "decoder.");
    add_norm(map, decoder_norm, "decoder.norm", "");
    add_linear_weights(map, decoder_head, {"decoder.head"});
  }
  if (fc_norm) add_norm(map, fc_norm, "fc_norm", "");
  if (classifier) add_linear_weights(map, classifier, in_styles("classifier", "head"));
  map.accept_prefix("videomae.");
  return map;
}

Makers videomae_makers() {
  const Maker make = [](const io::JsonObject& json, const io::Checkpoint&) -> std::shared_ptr<Pretrained> {
    return std::make_shared<VideoMaeImpl>(read_videomae_config(json));
  };
  return {{"VideoMAEForPreTraining", make}, {"VideoMAEForVideoClassification", make}, {"VideoMAEModel", make}};
}

}  // namespace winnow::models
