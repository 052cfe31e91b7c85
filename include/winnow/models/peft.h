// Low-rank adapters in the folders of the peft package: adapter_config.json beside adapter_model.safetensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "winnow/models/pretrained.h"
#include "winnow/nn/lora.h"

namespace winnow::models {

// Names of modules as adapter_config.json gives them: a list, of which each is a whole published name or its last parts
// ("q_proj"); or a regular expression for whole names; or, for targets, "all-linear".
struct ModuleNames {
  std::vector<std::string> names = {};
  std::string pattern = {};  // instead of names, where not empty
  [[nodiscard]] bool empty() const { return names.empty() && pattern.empty(); }
};

struct PeftConfig {
  LoraOptions lora = {};
  ModuleNames targets = {};
  ModuleNames excluded = {};
  std::vector<int64_t> layers = {};                  // only layers with these numbers; empty: all
  std::vector<std::string> layer_names = {};         // what stands before a layer's number; empty: anything
  std::map<std::string, int64_t> rank_pattern = {};  // regular expression for the end of a name -> rank, alpha
  std::map<std::string, double> alpha_pattern = {};
  std::vector<std::string> saved_modules = {};  // modules that learn whole: new heads
  std::string task_type = "CAUSAL_LM";
  std::string base_model = {};
};

// Adapters of one model, under the published names of its modules. Keeps the layers alive, not the model.
struct PeftAdapters {
  struct Adapter {
    std::string module;  // "model.layers.0.self_attn.q_proj"
    Linear linear;
    size_t part;  // of its LoraStorage
  };
  PeftConfig config;
  std::vector<Adapter> adapters;
  std::vector<std::pair<std::string, at::Tensor>> saved;  // parameters of saved_modules, published names
  bool transposed = false;                                // checkpoints hold an adapted weight as [in, out] (GPT-2)
};

// Puts new adapters on the model, whose published modules may be rows of a fused layer here (q_proj and v_proj of a
// qkv). Everything but the adapters and saved_modules is frozen. Throws winnow::Error if a target matches nothing, or
// for a weight that is not the rows of one Linear. While adapters are on, weight_map() and save() of the model are not
// to be used: fold_lora(*model) makes it plain again.
PeftAdapters add_adapters(Pretrained& model, const PeftConfig& config);

// Reads a folder and puts its adapters on the model; they learn further unless frozen. Throws Error(unsupported) that
// names a kind of adapter or an option that is not done (DoRA, trained biases, ...), Error(file) for a tensor that is
// missing, unknown or of another shape.
PeftAdapters load_adapters(Pretrained& model, const std::filesystem::path& folder);

// Writes such a folder; the tensors first, each file atomically.
void save_adapters(const PeftAdapters& adapters, const std::filesystem::path& folder);

PeftConfig read_peft_config(const io::JsonObject& json);
io::Json peft_config_json(const PeftAdapters& adapters);

}  // namespace winnow::models
