#include "winnow/train/param_groups.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "winnow/core/error.h"

namespace winnow::train {
namespace {

void check_names(const char* who, const std::vector<NamedParameter>& parameters,
                 const std::vector<std::string>& no_decay_names) {
  for (const auto& name : no_decay_names) {
    const bool known = std::any_of(parameters.begin(), parameters.end(), [&](const auto& p) { return p.name == name; });
    WINNOW_CHECK(known, "{}: no_decay_names must name parameters, got '{}'", who, name);
  }
}

bool decayed(const NamedParameter& parameter, const std::vector<std::string>& no_decay_names) {
  return !is_undecayed(parameter) &&
         std::find(no_decay_names.begin(), no_decay_names.end(), parameter.name) == no_decay_names.end();
}

// `name` from the first place where `part` begins a dotted component, without what stands before; empty if there is
// none.
std::string_view from_component(std::string_view name, std::string_view part) {
  for (size_t at = name.find(part); at != std::string_view::npos; at = name.find(part, at + 1)) {
    if (at == 0 || name[at - 1] == '.') return name.substr(at);
  }
  return {};
}

}  // namespace

std::vector<NamedParameter> trainable_parameters(const torch::nn::Module& module) {
  std::vector<NamedParameter> result;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) result.push_back({item.key(), item.value()});
  }
  return result;
}

bool is_undecayed(const NamedParameter& parameter) {
  return parameter.tensor.dim() <= 1 || std::string_view(parameter.name).ends_with(".bias");
}

std::vector<ParamGroup> weight_decay_groups(const std::vector<NamedParameter>& parameters, double weight_decay,
                                            const std::vector<std::string>& no_decay_names) {
  check_names("weight_decay_groups", parameters, no_decay_names);
  ParamGroup with{.name = "decay", .params = {}, .weight_decay = weight_decay};
  ParamGroup without{.name = "no_decay", .params = {}};
  for (const auto& parameter : parameters) {
    (decayed(parameter, no_decay_names) ? with : without).params.push_back(parameter);
  }
  std::vector<ParamGroup> result;
  if (!with.params.empty()) result.push_back(std::move(with));
  if (!without.params.empty()) result.push_back(std::move(without));
  return result;
}

std::vector<ParamGroup> weight_decay_groups(const torch::nn::Module& module, double weight_decay,
                                            const std::vector<std::string>& no_decay_names) {
  return weight_decay_groups(trainable_parameters(module), weight_decay, no_decay_names);
}

int64_t vit_layer_id(const std::string& name, int64_t depth) {
  constexpr std::string_view kEmbeddings[] = {"cls_token", "mask_token",      "pos_embed",  "dist_token",
                                              "reg_token", "register_tokens", "embeddings", "patch_embed"};
  for (const auto part : kEmbeddings) {
    if (!from_component(name, part).empty()) return 0;
  }
  const auto block = from_component(name, "blocks.");
  if (block.empty()) return depth + 1;
  const auto digits = block.substr(std::string_view("blocks.").size());
  int64_t index = -1;
  std::from_chars(digits.data(), digits.data() + digits.size(), index);
  WINNOW_CHECK(index >= 0 && index < depth, "vit_layer_id: the block of '{}' must be in [0, {})", name, depth);
  return index + 1;
}

std::vector<ParamGroup> layer_decay_param_groups(
    const std::vector<NamedParameter>& parameters, int64_t depth, double weight_decay, double decay,
    const std::vector<std::string>& no_decay_names,
    const std::function<int64_t(const std::string& name, int64_t depth)>& layer_id) {
  WINNOW_CHECK(depth >= 1, "layer_decay_param_groups: depth must be >= 1, got {}", depth);
  WINNOW_CHECK(decay > 0 && decay <= 1, "layer_decay_param_groups: decay must be in (0, 1], got {}", decay);
  check_names("layer_decay_param_groups", parameters, no_decay_names);
  std::map<std::pair<int64_t, bool>, ParamGroup> groups;  // (layer, without decay): decay first
  for (const auto& parameter : parameters) {
    const auto id = layer_id(parameter.name, depth);
    WINNOW_CHECK(id >= 0 && id <= depth + 1, "layer_decay_param_groups: layer of '{}' must be in [0, {}], got {}",
                 parameter.name, depth + 1, id);
    const bool with = decayed(parameter, no_decay_names);
    auto& group = groups[{id, !with}];
    group.params.push_back(parameter);
    group.name = fmt::format("layer_{}_{}", id, with ? "decay" : "no_decay");
    group.lr_scale = std::pow(decay, static_cast<double>(depth + 1 - id));
    group.weight_decay = with ? weight_decay : 0;
  }
  std::vector<ParamGroup> result;
  for (auto& [key, group] : groups) result.push_back(std::move(group));
  return result;
}

std::vector<ParamGroup> layer_decay_param_groups(
    const torch::nn::Module& module, int64_t depth, double weight_decay, double decay,
    const std::vector<std::string>& no_decay_names,
    const std::function<int64_t(const std::string& name, int64_t depth)>& layer_id) {
  return layer_decay_param_groups(trainable_parameters(module), depth, weight_decay, decay, no_decay_names, layer_id);
}

}  // namespace winnow::train
