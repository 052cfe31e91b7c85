#include "winnow/models/pretrained.h"

#include <torch/types.h>

#include <optional>

#include "registry.h"
#include "winnow/core/text.h"
#include "winnow/models/gguf.h"
#include "winnow/nn/linear.h"
#include "winnow/nn/skip_init.h"

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

std::vector<at::Tensor> Pretrained::half_tables() const {
  return {};
}

EnumNames<WeightStorage> enum_names(WeightStorage) {
  return {{"full", WeightStorage::full},
          {"as_file", WeightStorage::as_file},
          {"float16", WeightStorage::float16},
          {"bfloat16", WeightStorage::bfloat16}};
}

namespace {

at::ScalarType largest_dtype(const io::Checkpoint& weights) {
  uint64_t most = 0;
  auto dtype = at::kFloat;
  for (const auto& name : weights.names()) {
    const auto& entry = weights.entry(name);
    if (entry.end - entry.begin <= most) continue;
    most = entry.end - entry.begin;
    dtype = io::dtype_of_safetensors(entry.dtype, weights.file_of(name));
  }
  return dtype;
}

// The half-precision dtype in which weights are to be kept, if any.
std::optional<at::ScalarType> half_dtype(WeightStorage storage, const io::Checkpoint& weights) {
  switch (storage) {
    case WeightStorage::full: return std::nullopt;
    case WeightStorage::float16: return at::kHalf;
    case WeightStorage::bfloat16: return at::kBFloat16;
    case WeightStorage::as_file: break;
  }
  const auto dtype = largest_dtype(weights);
  return dtype == at::kHalf || dtype == at::kBFloat16 ? std::optional(dtype) : std::nullopt;
}

// Gives the weights another dtype; their values are not kept.
void narrow_weights(Pretrained& model, at::ScalarType dtype) {
  const auto narrow = [&](at::Tensor weight) {
    weight.set_data(at::empty_like(weight, weight.options().dtype(dtype)));
  };
  model.apply([&](torch::nn::Module& module) {
    auto* linear = module.as<LinearImpl>();
    if (linear != nullptr && linear->weight.defined()) narrow(linear->weight);
  });
  for (const auto& table : model.half_tables()) narrow(table);
}

}  // namespace

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
  std::shared_ptr<Pretrained> model;
  {
    // Where every weight comes from the file, drawing them first would only cost time.
    std::optional<SkipRandomInit> skip;
    if (options.weights.ignore_missing.empty()) skip.emplace();
    model = found->second(config, weights);
  }
  model->to(options.device, options.dtype);
  auto how = options.weights;
  if (const auto half = half_dtype(options.storage, weights)) {
    narrow_weights(*model, *half);
    how.allow_narrowing = true;
  }
  model->weight_map().load(weights, how);
  model->eval();
  return model;
}

std::shared_ptr<Pretrained> load(const std::filesystem::path& folder, const LoadOptions& options) {
  if (io::is_gguf(folder)) return load_gguf(io::GgufFile(folder), options);
  return load(io::JsonObject::read(folder / "config.json"), io::Checkpoint(folder), options);
}

void save(const Pretrained& model, const std::filesystem::path& folder, const io::ShardOptions& shards) {
  io::save_checkpoint(folder, model.weight_map().tensors(), {{"format", "pt"}}, shards);
  io::write_json(folder / "config.json", model.config_json());
}

}  // namespace winnow::models
