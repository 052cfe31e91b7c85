#include "winnow/models/peft.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include <algorithm>
#include <regex>
#include <set>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/core/text.h"
#include "winnow/io/load_state.h"

namespace winnow::models {

namespace {

constexpr const char* kPrefix = "base_model.model.";
constexpr int64_t kRowLimit = int64_t{1} << 26;

// Where a published weight lies: rows of a Linear.
struct Place {
  Linear linear{nullptr};
  std::vector<int64_t> rows = {};  // empty: all, in order
  bool transposed = false;
};

// Puts other data into weights and gives them theirs back.
class Probe {
 public:
  explicit Probe(const std::vector<Linear>& linears) {
    for (const auto& linear : linears) {
      auto weight = linear->weight;
      kept_.emplace_back(weight, weight.detach());
      const auto rows = at::arange(weight.size(0), weight.options().dtype(at::kDouble).requires_grad(false)) +
                        static_cast<double>(static_cast<int64_t>(kept_.size()) * kRowLimit);
      weight.set_data(rows.unsqueeze(1).expand(weight.sizes()));
    }
  }
  ~Probe() {
    for (auto& [weight, data] : kept_) weight.set_data(data);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> kept_;
};

// The place that the codes of Probe tell; none if they are those of several layers.
std::optional<Place> place_of(const at::Tensor& codes, const std::vector<Linear>& linears) {
  const auto index = [](double code) { return static_cast<size_t>(static_cast<int64_t>(code) / kRowLimit) - 1; };
  const auto linear = linears.at(index(codes.flatten()[0].item<double>()));
  Place place{.linear = linear};
  const auto across = codes.select(0, 0);  // along the first row
  place.transposed = codes.size(1) != linear->in_features || (across != across[0]).any().item<bool>();
  const auto column = (place.transposed ? across : codes.select(1, 0)).contiguous();
  for (int64_t i = 0; i < column.numel(); ++i) {
    const auto code = column[i].item<double>();
    if (linears.at(index(code)).ptr() != linear.ptr()) return std::nullopt;
    place.rows.push_back(static_cast<int64_t>(code) % kRowLimit);
  }
  bool all = static_cast<int64_t>(place.rows.size()) == linear->out_features;
  for (size_t i = 0; all && i < place.rows.size(); ++i) all = place.rows[i] == static_cast<int64_t>(i);
  if (all) place.rows.clear();
  return place;
}

// Published module names and their places, sorted by name.
std::map<std::string, Place> find_places(Pretrained& model) {
  std::vector<Linear> linears;
  for (const auto& module : model.modules()) {
    const auto linear = std::dynamic_pointer_cast<LinearImpl>(module);
    if (!linear || !linear->weight.defined() || linear->weight.numel() == 0) continue;
    WINNOW_CHECK_KIND(linear->weight.scalar_type() != at::kDouble, ErrorKind::unsupported,
                      "add_adapters: a model in float64 is not supported");
    linears.emplace_back(linear);
  }
  const at::NoGradGuard no_grad;
  const auto map = model.weight_map();
  const Probe probe(linears);
  std::map<std::string, Place> places;
  for (const auto& name : map.names()) {
    if (!name.ends_with(".weight")) continue;
    const auto codes = map.value(name);
    if (codes.scalar_type() != at::kDouble || codes.dim() != 2) continue;
    if (auto place = place_of(codes, linears)) {
      places.emplace(name.substr(0, name.size() - std::string(".weight").size()), std::move(*place));
    }
  }
  return places;
}

std::regex compiled(const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error&) {
    fail(ErrorKind::argument, "add_adapters: '{}' is no regular expression that is understood", pattern);
  }
}

bool among(const ModuleNames& wanted, const std::string& module) {
  if (!wanted.pattern.empty()) return std::regex_match(module, compiled(wanted.pattern));
  return std::any_of(wanted.names.begin(), wanted.names.end(),
                     [&](const auto& name) { return module == name || module.ends_with("." + name); });
}

bool in_layers(const PeftConfig& config, const std::string& module) {
  if (config.layers.empty()) return true;
  auto names = config.layer_names;
  if (names.empty()) names.emplace_back("[^.]*");
  for (const auto& name : names) {
    std::smatch found;
    if (!std::regex_search(module, found, compiled("^(.*\\.)?" + name + "\\.(\\d+)\\."))) continue;
    const auto layer = std::stoll(found[2].str());
    return std::find(config.layers.begin(), config.layers.end(), layer) != config.layers.end();
  }
  return false;
}

bool targeted(const PeftConfig& config, const std::string& module) {
  if (among(config.excluded, module)) return false;
  if (config.targets.pattern == "all-linear") return module != "lm_head" && module != "embed_out" && module != "score";
  return among(config.targets, module) && in_layers(config, module);
}

template <typename T>
T by_pattern(const std::map<std::string, T>& patterns, const std::string& module, T fallback) {
  for (const auto& [pattern, value] : patterns) {
    if (std::regex_match(module, compiled("(.*\\.)?(" + pattern + ")"))) return value;
  }
  return fallback;
}

void check_targets(const PeftConfig& config, const std::map<std::string, Place>& places,
                   const std::set<std::string>& chosen) {
  std::vector<std::string> leaves;
  for (const auto& [module, place] : places) leaves.push_back(module.substr(module.rfind('.') + 1));
  for (const auto& name : config.targets.names) {
    const ModuleNames one{.names = {name}};
    const bool used = std::any_of(chosen.begin(), chosen.end(), [&](const auto& module) { return among(one, module); });
    WINNOW_CHECK(used || !config.layers.empty() || !config.excluded.empty(),
                 "add_adapters: target_modules must name linear layers of the model, '{}' names none{}", name,
                 did_you_mean(name, leaves));
  }
  WINNOW_CHECK(!chosen.empty(),
               "add_adapters: target_modules must match a linear layer of the model, '{}' matches none",
               config.targets.pattern.empty() ? join(config.targets.names) : config.targets.pattern);
}

// Parameters of modules that learn whole.
std::vector<std::pair<std::string, at::Tensor>> saved_parameters(Pretrained& model, const PeftConfig& config) {
  std::vector<std::pair<std::string, at::Tensor>> saved;
  const auto map = model.weight_map();
  for (const auto& module : config.saved_modules) {
    const auto before = saved.size();
    for (const auto& name : map.names()) {
      const auto owner = name.substr(0, name.rfind('.'));
      if (!among({.names = {module}}, owner)) continue;
      const auto value = map.value(name);
      for (const auto& parameter : model.parameters()) {
        if (parameter.is_alias_of(value) && parameter.sizes() == value.sizes()) saved.emplace_back(name, parameter);
      }
    }
    WINNOW_CHECK(saved.size() > before, "add_adapters: modules_to_save must name modules of the model, '{}' names none",
                 module);
  }
  return saved;
}

}  // namespace

PeftAdapters add_adapters(Pretrained& model, const PeftConfig& config) {
  check(config.lora);
  PeftAdapters result{.config = config, .adapters = {}, .saved = saved_parameters(model, config)};
  auto places = find_places(model);
  std::set<std::string> chosen;
  for (const auto& [module, place] : places) {
    const bool saved = among({.names = config.saved_modules}, module);
    if (!saved && targeted(config, module)) chosen.insert(module);
  }
  check_targets(config, places, chosen);
  for (auto& parameter : model.parameters()) parameter.requires_grad_(false);
  for (const auto& [name, parameter] : result.saved) parameter.requires_grad_(true);
  for (const auto& module : chosen) {
    auto& place = places.at(module);
    auto options = config.lora;
    options.rank = by_pattern(config.rank_pattern, module, options.rank);
    options.alpha = by_pattern(config.alpha_pattern, module, options.alpha);
    options.seed = derive_seed(config.lora.seed, static_cast<uint64_t>(result.adapters.size()));
    auto& storage = lora_of(*place.linear);
    storage.add_part(module, options, std::move(place.rows));
    result.adapters.push_back({.module = module, .linear = place.linear, .part = storage.parts.size() - 1});
    result.transposed = result.transposed || place.transposed;
  }
  return result;
}

namespace {

// The tensors of the file, which share memory with the model.
io::TensorMap file_tensors(const PeftAdapters& adapters) {
  io::TensorMap tensors;
  for (const auto& adapter : adapters.adapters) {
    const auto* storage = find_lora(*adapter.linear);
    WINNOW_CHECK(storage != nullptr && adapter.part < storage->parts.size(),
                 "save_adapters: the adapter of {} must still be there", adapter.module);
    const auto& part = storage->parts[adapter.part];
    tensors.emplace(kPrefix + adapter.module + ".lora_A.weight", part.a.detach());
    tensors.emplace(kPrefix + adapter.module + ".lora_B.weight", part.b.detach());
  }
  for (const auto& [name, parameter] : adapters.saved) tensors.emplace(kPrefix + name, parameter.detach());
  return tensors;
}

}  // namespace

PeftAdapters load_adapters(Pretrained& model, const std::filesystem::path& folder) {
  const auto json = io::JsonObject::read(folder / "adapter_config.json");
  const auto config = read_peft_config(json);
  const auto weights = folder / "adapter_model.safetensors";
  const io::Checkpoint checkpoint(weights);
  auto adapters = add_adapters(model, config);
  try {
    io::load_state(file_tensors(adapters), checkpoint);
  } catch (...) {
    drop_lora(model);
    throw;
  }
  return adapters;
}

void save_adapters(const PeftAdapters& adapters, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  auto tensors = file_tensors(adapters);
  for (auto& [name, tensor] : tensors) tensor = tensor.to(at::kCPU).contiguous();
  io::save_safetensors((folder / "adapter_model.safetensors").string(), tensors, {{"format", "pt"}});
  io::write_json(folder / "adapter_config.json", peft_config_json(adapters));
}

}  // namespace winnow::models
