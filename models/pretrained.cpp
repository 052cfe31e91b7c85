#include "winnow/models/pretrained.h"

#include <functional>
#include <map>
#include <utility>

#include "winnow/core/text.h"
#include "winnow/models/deit.h"
#include "winnow/models/dinov2.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"

namespace winnow::models {
namespace {

using Make = std::function<std::shared_ptr<Pretrained>(const io::JsonObject&, const io::Checkpoint&)>;

bool holds_any(const io::Checkpoint& weights, const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (weights.has(name)) return true;
  }
  return false;
}

// Files of a base model may lack its pooler; the model has none then.
std::shared_ptr<Pretrained> make_vit(const io::JsonObject& json, const io::Checkpoint& weights) {
  auto config = read_vit_config(json);
  if (config.head == ViTHead::pooler && !holds_any(weights, {"pooler.dense.weight", "vit.pooler.dense.weight"})) {
    config.head = ViTHead::none;
  }
  return std::make_shared<ViTImpl>(std::move(config));
}

std::shared_ptr<Pretrained> make_deit(const io::JsonObject& json, const io::Checkpoint& weights) {
  auto config = read_deit_config(json);
  if (config.head == DeiTHead::pooler && !holds_any(weights, {"pooler.dense.weight", "deit.pooler.dense.weight"})) {
    config.head = DeiTHead::none;
  }
  return std::make_shared<DeiTImpl>(std::move(config));
}

std::shared_ptr<Pretrained> make_dinov2(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<Dinov2Impl>(read_dinov2_config(json));
}

std::shared_ptr<Pretrained> make_vit_mae(const io::JsonObject& json, const io::Checkpoint&) {
  return std::make_shared<ViTMaeImpl>(read_vit_mae_config(json));
}

const std::map<std::string, Make>& makers() {
  static const std::map<std::string, Make> table = {
      {"DeiTForImageClassification", make_deit},
      {"DeiTForImageClassificationWithTeacher", make_deit},
      {"DeiTModel", make_deit},
      {"Dinov2ForImageClassification", make_dinov2},
      {"Dinov2Model", make_dinov2},
      {"MeanPooledViTForImageClassification", make_vit},
      {"ViTForImageClassification", make_vit},
      {"ViTMAEForPreTraining", make_vit_mae},
      {"ViTModel", make_vit},
  };
  return table;
}

}  // namespace

ImageShape Pretrained::image_shape() const {
  fail(ErrorKind::unsupported, "{}: this network takes no pictures", architecture());
}

at::Tensor Pretrained::classify(const at::Tensor&) {
  fail(ErrorKind::unsupported, "{}: this network has no classifier", architecture());
}

std::vector<std::string> Pretrained::labels() const {
  return {};
}

std::vector<std::string> architectures() {
  std::vector<std::string> names;
  for (const auto& [name, make] : makers()) names.push_back(name);
  return names;
}

std::shared_ptr<Pretrained> load(const io::JsonObject& config, const io::Checkpoint& weights,
                                 const LoadOptions& options) {
  const auto named = config.get<std::vector<std::string>>("architectures");
  WINNOW_CHECK_KIND(!named.empty(), ErrorKind::file, "{}: architectures must name a class, got an empty list",
                    config.file());
  const auto found = makers().find(named.front());
  WINNOW_CHECK_KIND(found != makers().end(), ErrorKind::unsupported,
                    "{}: the architecture {} is not known here; known are {}", config.file(), named.front(),
                    join(architectures()));
  const auto model = found->second(config, weights);
  model->to(options.device, options.dtype);
  model->weight_map().load(weights, options.weights);
  model->eval();
  return model;
}

std::shared_ptr<Pretrained> load(const std::filesystem::path& folder, const LoadOptions& options) {
  return load(io::JsonObject::read(folder / "config.json"), io::Checkpoint(folder), options);
}

void save(const Pretrained& model, const std::filesystem::path& folder, const io::ShardOptions& shards) {
  io::save_checkpoint(folder, model.weight_map().tensors(), {{"format", "pt"}}, shards);
  io::write_json(folder / "config.json", model.config_json());
}

}  // namespace winnow::models
