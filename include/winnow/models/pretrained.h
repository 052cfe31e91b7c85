// Whole networks that live in folders: config.json beside model.safetensors, in the layout of published checkpoints.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/options.h"
#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/weight_map.h"

namespace winnow::models {

// The size of the pictures that a network was made for.
struct ImageShape {
  int64_t channels = 3;
  int64_t height = 224;
  int64_t width = 224;
};

// The base of every network of this layer. Forward in evaluation mode changes nothing, so several threads may call it
// at once.
struct Pretrained : torch::nn::Module {
  // As config.json names it in "architectures": "ViTForImageClassification".
  [[nodiscard]] virtual std::string architecture() const = 0;
  // The whole config.json, with the keys of published files and of transformers 5.
  [[nodiscard]] virtual io::Json config_json() const = 0;
  [[nodiscard]] virtual WeightMap weight_map() const = 0;

  // For networks that take pictures. The others throw Error(unsupported).
  [[nodiscard]] virtual ImageShape image_shape() const;
  // images [B, C, H, W] -> logits [B, classes], for networks with a classifier. The others throw Error(unsupported).
  virtual at::Tensor classify(const at::Tensor& images);
  // One name per class, as id2label has them; empty without a classifier.
  [[nodiscard]] virtual std::vector<std::string> labels() const;

  // Tables that may be kept in half precision as the weights of linear layers may (LoadOptions::storage): the network
  // widens the rows that it takes from them. None here.
  [[nodiscard]] virtual std::vector<at::Tensor> half_tables() const;
};

// How the weights of linear layers and the embedding tables of language models are kept.
enum class WeightStorage {
  full,     // in the dtype in which the network computes
  as_file,  // in float16 or bfloat16 where the largest tensor of the file is, else full
  float16,  // rounded if the file holds more; halves the memory and the time of decoding
  bfloat16,
};
EnumNames<WeightStorage> enum_names(WeightStorage);

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  // of all else, and of the computation, whatever `storage` is
  at::Device device = at::kCPU;
  WeightStorage storage = WeightStorage::full;
  WeightLoadOptions weights = {};
};

// The network of a folder, in evaluation mode. config.json's architectures[0] selects the class; both key styles are
// read, with each architecture's own defaults. Throws Error(file) for a missing or broken file or a weight that does
// not fit, Error(unsupported) for an architecture or an option that is not known here, always by name.
std::shared_ptr<Pretrained> load(const std::filesystem::path& folder, const LoadOptions& options = {});
// The same from the two parts.
std::shared_ptr<Pretrained> load(const io::JsonObject& config, const io::Checkpoint& weights,
                                 const LoadOptions& options = {});

// The same where the class is known: auto mae = load_as<ViTMae>("folder"). Throws Error(file) if the folder holds
// another.
template <class Holder>
Holder load_as(const std::filesystem::path& folder, const LoadOptions& options = {}) {
  auto model = load(folder, options);
  auto typed = std::dynamic_pointer_cast<typename Holder::ContainedType>(model);
  WINNOW_CHECK_KIND(typed != nullptr, ErrorKind::file,
                    "{}: config.json names the architecture {}, which is another class", folder.string(),
                    model->architecture());
  return Holder(std::move(typed));
}

// Writes config.json and the weights (published names, metadata format "pt") into a folder, made if missing. The
// weights come first, each file atomically; `shards` cuts large ones.
void save(const Pretrained& model, const std::filesystem::path& folder, const io::ShardOptions& shards = {});

// The architectures that load() knows, sorted.
std::vector<std::string> architectures();

}  // namespace winnow::models
