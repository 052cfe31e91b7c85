#include <fmt/format.h>

#include <cmath>

#include "winnow/core/error.h"
#include "winnow/models/peft.h"

namespace winnow::models {

namespace {

// Options that change what is computed and are not done here, with the values that switch them off.
const std::vector<std::pair<std::string, std::vector<io::Json>>> kUnsupported = {
    {"bias", {"none"}},
    {"use_dora", {false}},
    {"use_qalora", {false}},
    {"lora_bias", {false}},
    {"use_bdlora", {}},
    {"megatron_config", {}},
    {"layer_replication", {io::Json::array()}},
    {"trainable_token_indices", {io::Json::array(), io::Json::object()}},
    {"target_parameters", {io::Json::array()}},
    {"alora_invocation_tokens", {io::Json::array()}},
    {"arrow_config", {}},
    {"lora_ga_config", {}},
    {"monteclora_config", {}},
    {"velora_config", {}},
    {"init_lora_weights", {true, false, "gaussian", "eva", "orthogonal"}}};

void refuse_unsupported(const io::JsonObject& json) {
  const auto kind = json.get<std::string>("peft_type");
  WINNOW_CHECK_KIND(kind == "LORA", ErrorKind::unsupported, "{}: peft_type {} is not supported (LORA is)", json.file(),
                    kind);
  for (const auto& [key, harmless] : kUnsupported) {
    if (!json.has(key)) continue;
    const auto& value = json.raw(key);
    bool fine = false;
    for (const auto& one : harmless) fine = fine || value == one;
    WINNOW_CHECK_KIND(fine, ErrorKind::unsupported, "{}: {} = {} is not supported", json.file(), key, value.dump());
  }
}

ModuleNames read_names(const io::JsonObject& json, const std::string& key) {
  ModuleNames result;
  if (!json.has(key)) return result;
  if (json.raw(key).is_string()) {
    result.pattern = json.get<std::string>(key);
  } else {
    result.names = json.get<std::vector<std::string>>(key);
  }
  return result;
}

template <typename T>
std::map<std::string, T> read_pattern(const io::JsonObject& json, const std::string& key) {
  std::map<std::string, T> result;
  if (!json.has(key)) return result;
  const auto object = json.object(key);
  for (const auto& [name, value] : object.value().items()) result[name] = object.get<T>(name);
  return result;
}

io::Json names_json(const ModuleNames& names) {
  if (!names.pattern.empty()) return names.pattern;
  return names.names.empty() ? io::Json() : io::Json(names.names);
}

template <typename List>
io::Json list_or_null(const List& list) {
  return list.empty() ? io::Json() : io::Json(list);
}

// 16 rather than 16.0, as the package writes it.
io::Json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

PeftConfig read_peft_config(const io::JsonObject& json) {
  refuse_unsupported(json);
  PeftConfig config;
  config.lora.rank = json.get_or<int64_t>("r", 8);
  config.lora.alpha = json.get_or<double>("lora_alpha", 8.0);
  config.lora.dropout = json.get_or<double>("lora_dropout", 0.0);
  config.lora.rslora = json.get_or<bool>("use_rslora", false);
  WINNOW_CHECK_KIND(config.lora.rank >= 1, ErrorKind::file, "{}: r must be >= 1, got {}", json.file(),
                    config.lora.rank);
  WINNOW_CHECK_KIND(config.lora.dropout >= 0 && config.lora.dropout < 1, ErrorKind::file,
                    "{}: lora_dropout must be in [0, 1), got {}", json.file(), config.lora.dropout);
  config.targets = read_names(json, "target_modules");
  WINNOW_CHECK_KIND(!config.targets.empty(), ErrorKind::file, "{}: target_modules is missing", json.file());
  config.excluded = read_names(json, "exclude_modules");
  if (json.has("layers_to_transform")) {
    const auto& layers = json.raw("layers_to_transform");
    config.layers = layers.is_array() ? json.get<std::vector<int64_t>>("layers_to_transform")
                                      : std::vector<int64_t>{json.get<int64_t>("layers_to_transform")};
  }
  if (json.has("layers_pattern")) {
    const auto& names = json.raw("layers_pattern");
    config.layer_names = names.is_array() ? json.get<std::vector<std::string>>("layers_pattern")
                                          : std::vector<std::string>{json.get<std::string>("layers_pattern")};
  }
  config.rank_pattern = read_pattern<int64_t>(json, "rank_pattern");
  config.alpha_pattern = read_pattern<double>(json, "alpha_pattern");
  config.saved_modules = json.get_or<std::vector<std::string>>("modules_to_save", {});
  config.task_type = json.get_or<std::string>("task_type", "");
  config.base_model = json.get_or<std::string>("base_model_name_or_path", "");
  return config;
}

io::Json peft_config_json(const PeftAdapters& adapters) {
  const auto& config = adapters.config;
  auto alphas = io::Json::object();
  for (const auto& [pattern, alpha] : config.alpha_pattern) alphas[pattern] = number(alpha);
  return {{"peft_type", "LORA"},
          {"auto_mapping", nullptr},
          {"base_model_name_or_path", config.base_model.empty() ? io::Json() : io::Json(config.base_model)},
          {"bias", "none"},
          {"fan_in_fan_out", adapters.transposed},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"layers_pattern", list_or_null(config.layer_names)},
          {"layers_to_transform", list_or_null(config.layers)},
          {"lora_alpha", number(config.lora.alpha)},
          {"lora_dropout", config.lora.dropout},
          {"modules_to_save", list_or_null(config.saved_modules)},
          {"r", config.lora.rank},
          {"rank_pattern", io::Json(config.rank_pattern)},
          {"alpha_pattern", alphas},
          {"revision", nullptr},
          {"target_modules", names_json(config.targets)},
          {"exclude_modules", names_json(config.excluded)},
          {"task_type", config.task_type.empty() ? io::Json() : io::Json(config.task_type)},
          {"use_dora", false},
          {"use_rslora", config.lora.rslora}};
}

}  // namespace winnow::models
