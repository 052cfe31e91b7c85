#include "winnow/nn/hooks.h"

#include <map>
#include <mutex>
#include <shared_mutex>

#include "winnow/core/error.h"
#include "winnow/core/text.h"

namespace winnow {

namespace {

struct Hook {
  uint64_t id;
  ForwardHooks::Replacer fn;
};

struct Registry {
  std::shared_mutex mutex;
  std::map<const Hookable*, std::vector<Hook>> hooks;
  uint64_t next_id = 1;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

uint64_t add_hook(const Hookable* module, ForwardHooks::Replacer fn) {
  auto& r = registry();
  const std::unique_lock lock(r.mutex);
  const auto id = r.next_id++;
  r.hooks[module].push_back({id, std::move(fn)});
  detail::live_hooks.fetch_add(1);
  return id;
}

void remove_hook(const Hookable* module, uint64_t id) {
  auto& r = registry();
  const std::unique_lock lock(r.mutex);
  const auto found = r.hooks.find(module);
  if (found == r.hooks.end()) return;
  const auto removed = std::erase_if(found->second, [&](const Hook& hook) { return hook.id == id; });
  detail::live_hooks.fetch_sub(static_cast<int64_t>(removed));
  if (found->second.empty()) r.hooks.erase(found);
}

}  // namespace

namespace detail {

at::Tensor run_hooks(const Hookable* module, at::Tensor output) {
  auto& r = registry();
  const std::shared_lock lock(r.mutex);
  const auto found = r.hooks.find(module);
  if (found == r.hooks.end()) return output;
  for (const auto& hook : found->second) output = hook.fn(output);
  return output;
}

}  // namespace detail

Hookable::~Hookable() = default;

ForwardHooks::ForwardHooks(torch::nn::Module& root) : root_(root) {}

ForwardHooks::~ForwardHooks() {
  clear();
}

void ForwardHooks::clear() {
  for (const auto& [module, id] : held_) remove_hook(module, id);
  held_.clear();
}

std::vector<std::string> ForwardHooks::names() const {
  std::vector<std::string> names;
  // The root may live on the stack, where named_modules(), which shares ownership, cannot be asked to include it.
  if (dynamic_cast<const Hookable*>(&root_)) names.emplace_back();
  for (const auto& item : root_.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    if (dynamic_cast<const Hookable*>(item.value().get())) names.push_back(item.key());
  }
  return names;
}

const Hookable* ForwardHooks::find(std::string_view name) const {
  const torch::nn::Module* module = name.empty() ? &root_ : nullptr;
  std::vector<std::string> all;
  for (const auto& item : root_.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    if (item.key() == name) module = item.value().get();
    all.push_back(item.key());
  }
  if (!module) {
    fail(ErrorKind::argument, "ForwardHooks: name must be that of a submodule, got '{}'{}", name,
         did_you_mean(name, all));
  }
  const auto* hookable = dynamic_cast<const Hookable*>(module);
  WINNOW_CHECK(hookable, "ForwardHooks: name must be that of a winnow::Hookable module, got '{}', a {}", name,
               module->name());
  return hookable;
}

void ForwardHooks::observe(std::string_view name, Observer observer) {
  WINNOW_CHECK(observer, "ForwardHooks: observer must be callable");
  replace(name, [observer = std::move(observer)](const at::Tensor& output) {
    observer(output);
    return output;
  });
}

void ForwardHooks::replace(std::string_view name, Replacer replacer) {
  WINNOW_CHECK(replacer, "ForwardHooks: replacer must be callable");
  const auto* module = find(name);
  held_.emplace_back(module, add_hook(module, std::move(replacer)));
}

}  // namespace winnow
