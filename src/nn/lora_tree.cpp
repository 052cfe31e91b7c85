// Adapters of whole networks: where they go, and how they end.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string_view>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/core/text.h"
#include "winnow/nn/lora.h"

namespace winnow {

namespace {

// '*' stands for any text.
bool fits(std::string_view pattern, std::string_view text) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (text.substr(0, star) != pattern.substr(0, star)) return false;
  const auto rest = pattern.substr(star + 1);
  for (auto from = star; from <= text.size(); ++from) {
    if (fits(rest, text.substr(from))) return true;
  }
  return false;
}

bool names_module(const std::string& pattern, const std::string& name) {
  return fits(pattern, name) || fits("*." + pattern, name);
}

template <class Act>
void each_lora(torch::nn::Module& root, Act&& act) {
  root.apply([&](torch::nn::Module& module) {
    if (auto* linear = module.as<LinearImpl>()) {
      if (auto* storage = find_lora(*linear)) act(*linear, *storage);
    }
  });
}

}  // namespace

LoraStorage* find_lora(const LinearImpl& linear) {
  return dynamic_cast<LoraStorage*>(linear.storage.get());
}

LoraStorage& lora_of(LinearImpl& linear) {
  if (auto* present = find_lora(linear)) return *present;
  auto storage = std::make_shared<LoraStorage>(linear);
  storage->train(linear.is_training());
  if (linear.bias.defined()) linear.bias.requires_grad_(false);
  linear.set_storage(storage);
  return *storage;
}

std::vector<std::string> add_lora(torch::nn::Module& root, const std::vector<std::string>& patterns,
                                  const LoraOptions& options) {
  check(options);
  std::vector<std::pair<std::string, LinearImpl*>> chosen;
  std::vector<std::string> known;
  std::vector<bool> used(patterns.size());
  for (const auto& item : root.named_modules()) {
    auto* linear = item.value()->as<LinearImpl>();
    if (linear == nullptr) continue;
    known.push_back(item.key());
    bool wanted = false;
    for (size_t i = 0; i < patterns.size(); ++i) {
      if (!names_module(patterns[i], item.key())) continue;
      wanted = used[i] = true;
    }
    if (wanted) chosen.emplace_back(item.key(), linear);
  }
  for (size_t i = 0; i < patterns.size(); ++i) {
    WINNOW_CHECK(used[i], "add_lora: patterns must match a Linear, '{}' matches none{}", patterns[i],
                 did_you_mean(patterns[i], known));
  }
  for (auto& parameter : root.parameters()) parameter.requires_grad_(false);
  std::vector<std::string> names;
  for (auto& [name, linear] : chosen) {
    auto own = options;
    own.seed = derive_seed(options.seed, static_cast<int64_t>(names.size()));
    lora_of(*linear).add_part(name, own);
    names.push_back(name);
  }
  return names;
}

void merge_lora(torch::nn::Module& root) {
  each_lora(root, [](LinearImpl&, LoraStorage& storage) { storage.merge(); });
}

void unmerge_lora(torch::nn::Module& root) {
  each_lora(root, [](LinearImpl&, LoraStorage& storage) { storage.unmerge(); });
}

void fold_lora(torch::nn::Module& root) {
  each_lora(root, [](LinearImpl& linear, LoraStorage& storage) {
    const auto weight = storage.dense();
    linear.set_weight(storage.base.defined() ? weight.to(storage.base.scalar_type()) : weight);
  });
}

void drop_lora(torch::nn::Module& root) {
  each_lora(root, [](LinearImpl& linear, LoraStorage& storage) {
    if (const auto inner = storage.inner) {
      linear.set_storage(inner);
    } else {
      linear.set_weight(storage.base_weight());
      linear.weight.requires_grad_(false);
    }
  });
}

std::vector<std::pair<std::string, at::Tensor>> lora_parameters(const torch::nn::Module& root) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  for (const auto& item : root.named_modules()) {
    const auto* storage = item.value()->as<LinearImpl>() ? find_lora(*item.value()->as<LinearImpl>()) : nullptr;
    if (storage == nullptr) continue;
    for (const auto& own : storage->named_parameters(/*recurse=*/false)) {
      result.emplace_back((item.key().empty() ? "" : item.key() + ".") + "storage." + own.key(), own.value());
    }
  }
  return result;
}

}  // namespace winnow
