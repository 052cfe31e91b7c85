#include "winnow/models/deit.h"

#include <torch/types.h>

#include <utility>

#include "registry.h"
#include "vit_trunk.h"
#include "winnow/core/error.h"
#include "winnow/core/random.h"

namespace winnow::models {

DeiTImpl::DeiTImpl(DeiTConfig c) : config(std::move(c)) {
  check_pooler_act("DeiT", config.pooler_act);
  const auto D = config.trunk.hidden_size;
  auto trunk = encoder_options(config.trunk);
  trunk.distillation_token = true;
  encoder = register_module("encoder", VitEncoder(trunk));
  if (config.head == DeiTHead::pooler) {
    const auto width = config.pooler_output_size > 0 ? config.pooler_output_size : D;
    pooler = register_module("pooler", make_head(D, width, derive_seed(config.trunk.seed, 1)));
  }
  if (config.head == DeiTHead::classifier || config.head == DeiTHead::teacher) {
    WINNOW_CHECK(!config.labels.empty(), "DeiT: labels must not be empty where there is a classifier");
    const auto classes = static_cast<int64_t>(config.labels.size());
    head = register_module("head", make_head(D, classes, derive_seed(config.trunk.seed, 1)));
    if (config.head == DeiTHead::teacher) {
      head_dist = register_module("head_dist", make_head(D, classes, derive_seed(config.trunk.seed, 2)));
    }
  }
}

VisionOutput DeiTImpl::forward(const at::Tensor& images, const VisionForward& how) {
  auto out = run_trunk("DeiT", *encoder, config.trunk, images, how);
  const auto& tokens = out.last_hidden_state;  // [B, 2 + L, D]: class, distillation, patches
  if (pooler) out.pooler_output = pool(pooler, config.pooler_act, tokens);
  if (head) out.logits = head->forward(tokens.select(1, 0));
  if (head_dist) {
    out.cls_logits = out.logits;
    out.distillation_logits = head_dist->forward(tokens.select(1, 1));
    out.logits = (out.cls_logits + out.distillation_logits) / 2;
  }
  if (head && how.labels.defined()) out.loss = classification_loss(out.logits, how.labels, config.problem_type);
  return out;
}

std::string DeiTImpl::architecture() const {
  return to_json(config)["architectures"][0].get<std::string>();
}

io::Json DeiTImpl::config_json() const {
  return to_json(config);
}

WeightMap DeiTImpl::weight_map() const {
  WeightMap map(kViTStyles);
  add_trunk_weights(map, *encoder, head ? "deit." : "", BlockNames::vit);
  if (pooler) add_linear_weights(map, pooler, {"pooler.dense"});
  if (head) add_linear_weights(map, head, {head_dist ? "cls_classifier" : "classifier", "", "head"});
  if (head_dist) add_linear_weights(map, head_dist, {"distillation_classifier", "", "head_dist"});
  map.accept_prefix("deit.");
  map.ignore({"embeddings.mask_token"});
  if (!pooler) map.ignore({"pooler.dense.weight", "pooler.dense.bias"});
  return map;
}

ImageShape DeiTImpl::image_shape() const {
  return {
      .channels = config.trunk.num_channels, .height = config.trunk.image_height, .width = config.trunk.image_width};
}

at::Tensor DeiTImpl::classify(const at::Tensor& images) {
  return head ? forward(images).logits : Pretrained::classify(images);
}

std::vector<std::string> DeiTImpl::labels() const {
  return head ? config.labels : std::vector<std::string>();
}

namespace {

// Files of a base model may lack its pooler; the model has none then.
std::shared_ptr<Pretrained> make(const io::JsonObject& json, const io::Checkpoint& weights) {
  auto config = read_deit_config(json);
  if (config.head == DeiTHead::pooler && !weights.has("pooler.dense.weight") &&
      !weights.has("deit.pooler.dense.weight")) {
    config.head = DeiTHead::none;
  }
  return std::make_shared<DeiTImpl>(std::move(config));
}

}  // namespace

Makers deit_makers() {
  return {{"DeiTForImageClassification", make}, {"DeiTForImageClassificationWithTeacher", make}, {"DeiTModel", make}};
}

}  // namespace winnow::models
