#include "winnow/models/vit.h"

#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/core/text.h"
#include "winnow/tensor/format.h"

namespace winnow::models {

at::Tensor classification_loss(const at::Tensor& logits, const at::Tensor& labels, const std::string& problem_type) {
  WINNOW_CHECK(logits.dim() == 2, "classification_loss: logits must have shape [B, classes], got {}", logits.sizes());
  const auto B = logits.size(0), classes = logits.size(1);
  const bool numbers = labels.scalar_type() == at::kLong;
  const auto type = !problem_type.empty() ? problem_type
                    : classes == 1        ? std::string("regression")
                    : numbers             ? std::string("single_label_classification")
                                          : std::string("multi_label_classification");
  WINNOW_CHECK(type == "single_label_classification" || type == "regression" || type == "multi_label_classification",
               "classification_loss: problem_type {} is not known", type);
  if (type == "single_label_classification") {
    WINNOW_CHECK(numbers && labels.sizes() == at::IntArrayRef({B}),
                 "classification_loss: labels must be int64 of shape [{}], got {}", B, labels);
    return at::cross_entropy_loss(logits, labels);
  }
  WINNOW_CHECK(labels.numel() == logits.numel(), "classification_loss: labels must have shape {}, got {}",
               logits.sizes(), labels.sizes());
  const auto wanted = labels.reshape(logits.sizes()).to(logits.scalar_type());
  if (type == "regression") return at::mse_loss(logits, wanted);
  return at::binary_cross_entropy_with_logits(logits, wanted);
}

ViTImpl::ViTImpl(ViTConfig c) : config(std::move(c)) {
  check_pooler_act("ViT", config.pooler_act);
  const auto D = config.trunk.hidden_size;
  auto trunk = encoder_options(config.trunk);
  trunk.final_norm = config.head != ViTHead::mean_pool;
  encoder = register_module("encoder", VitEncoder(trunk));
  const auto seed = derive_seed(config.trunk.seed, 1);
  if (config.head == ViTHead::pooler) {
    const auto width = config.pooler_output_size > 0 ? config.pooler_output_size : D;
    pooler = register_module("pooler", make_head(D, width, seed));
  }
  if (config.head == ViTHead::mean_pool) {
    fc_norm = register_module("fc_norm", Norm(NormOptions{.dim = D, .eps = config.trunk.layer_norm_eps}));
  }
  if (config.head == ViTHead::classifier || config.head == ViTHead::mean_pool) {
    WINNOW_CHECK(!config.labels.empty(), "ViT: labels must not be empty where there is a classifier");
    head = register_module("head", make_head(D, static_cast<int64_t>(config.labels.size()), seed));
  }
}

VisionOutput ViTImpl::forward(const at::Tensor& images, const VisionForward& how) {
  auto out = run_trunk("ViT", *encoder, config.trunk, images, how);
  const auto& tokens = out.last_hidden_state;  // [B, 1 + L, D]
  if (pooler) out.pooler_output = pool(pooler, config.pooler_act, tokens);
  if (head) {
    const auto feature =
        fc_norm ? fc_norm->forward(tokens.slice(1, encoder->prefix_tokens()).mean(1)) : tokens.select(1, 0);  // [B, D]
    out.logits = head->forward(feature);
    if (how.labels.defined()) out.loss = classification_loss(out.logits, how.labels, config.problem_type);
  }
  return out;
}

std::string ViTImpl::architecture() const {
  return to_json(config)["architectures"][0].get<std::string>();
}

io::Json ViTImpl::config_json() const {
  return to_json(config);
}

WeightMap ViTImpl::weight_map() const {
  WeightMap map(kViTStyles);
  const std::string base = head ? "vit." : "";
  add_trunk_weights(map, *encoder, base, BlockNames::vit);
  if (pooler) add_linear_weights(map, pooler, {"pooler.dense"});
  if (fc_norm) {
    map.add(fc_norm->weight, {"fc_norm.weight"});
    map.add(fc_norm->bias, {"fc_norm.bias"});
  }
  if (head) add_linear_weights(map, head, {"classifier", "", "head"});
  map.accept_prefix("vit.");
  // A token of masked image modelling, and the pooler that older files keep beside a classifier.
  map.ignore({"embeddings.mask_token"});
  if (!pooler) map.ignore({"pooler.dense.weight", "pooler.dense.bias"});
  return map;
}

ImageShape ViTImpl::image_shape() const {
  return {
      .channels = config.trunk.num_channels, .height = config.trunk.image_height, .width = config.trunk.image_width};
}

at::Tensor ViTImpl::classify(const at::Tensor& images) {
  return head ? forward(images).logits : Pretrained::classify(images);
}

std::vector<std::string> ViTImpl::labels() const {
  return head ? config.labels : std::vector<std::string>();
}

ViT fine_tune(const VitEncoder& pretrained, const FineTuneOptions& options) {
  WINNOW_CHECK(options.head == ViTHead::mean_pool || options.head == ViTHead::classifier,
               "fine_tune: head must be mean_pool or classifier");
  ViTConfig config{
      .trunk = trunk_config("fine_tune", pretrained->options), .head = options.head, .labels = options.labels};
  config.trunk.drop_path_rate = options.drop_path_rate;
  config.trunk.seed = options.seed;
  ViT model(config);
  const at::NoGradGuard no_grad;
  model->head->weight.mul_(1e-3);  // drawn with deviation 0.02
  auto targets = model->encoder->named_parameters();
  for (const auto& source : pretrained->named_parameters()) {
    // A mean-pooled classifier has no final norm.
    if (auto* target = targets.find(source.key())) target->copy_(source.value());
  }
  model->to(pretrained->pos_embed.device(), pretrained->pos_embed.scalar_type());
  return model;
}

namespace {

// Files of a base model may lack its pooler; the model has none then.
std::shared_ptr<Pretrained> make(const io::JsonObject& json, const io::Checkpoint& weights) {
  auto config = read_vit_config(json);
  if (config.head == ViTHead::pooler && !weights.has("pooler.dense.weight") &&
      !weights.has("vit.pooler.dense.weight")) {
    config.head = ViTHead::none;
  }
  return std::make_shared<ViTImpl>(std::move(config));
}

}  // namespace

Makers vit_makers() {
  return {{"MeanPooledViTForImageClassification", make}, {"ViTForImageClassification", make}, {"ViTModel", make}};
}

}  // namespace winnow::models
