#include "winnow/models/pretrained.h"

#include "registry.h"
#include "winnow/core/text.h"

namespace winnow::models {

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
  for (const auto& [name, make] : all_makers()) names.push_back(name);
  return names;
}

std::shared_ptr<Pretrained> load(const io::JsonObject& config, const io::Checkpoint& weights,
                                 const LoadOptions& options) {
  const auto named = config.get<std::vector<std::string>>("architectures");
  WINNOW_CHECK_KIND(!named.empty(), ErrorKind::file, "{}: architectures must name a class, got an empty list",
                    config.file());
  const auto found = all_makers().find(named.front());
  WINNOW_CHECK_KIND(found != all_makers().end(), ErrorKind::unsupported,
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
