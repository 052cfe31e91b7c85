#pragma once
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace winnow {

class Hookable;

namespace detail {
// Number of hooks alive in the process; while it is 0 a module pays one relaxed load for being hookable.
inline std::atomic<int64_t> live_hooks{0};
at::Tensor run_hooks(const Hookable* module, at::Tensor output);
}  // namespace detail

// True while some ForwardHooks object holds a hook. Code that fuses several modules into one call must not do so then.
inline bool hooks_active() {
  return detail::live_hooks.load(std::memory_order_relaxed) != 0;
}

// Base of a module whose output can be observed or replaced. Such a module ends its forward with
//     return hooked(std::move(output));
// and nothing else is needed. All modules of winnow/nn and winnow/attention are hookable.
class Hookable {
 public:
  virtual ~Hookable();

 protected:
  Hookable() = default;
  Hookable(const Hookable&) noexcept {}  // hooks belong to one object: a copy starts without
  Hookable& operator=(const Hookable&) noexcept { return *this; }
  at::Tensor hooked(at::Tensor output) const {
    return hooks_active() ? detail::run_hooks(this, std::move(output)) : output;
  }
};

// Forward hooks on named submodules, alive as long as this object:
//     ForwardHooks hooks(*vit);
//     hooks.observe("blocks.3.attn", [&](const at::Tensor& out) { seen = out; });
//     hooks.replace("blocks.3", [&](const at::Tensor& out) { return out + direction; });
// Names are those of named_modules(); "" is the root itself. Hooks of one module run in the order in which they were
// added, each on the result of the one before. What is replaced takes part in autograd. Under activation checkpointing
// a hook also runs in the recomputation. The module must outlive the hooks. Adding, removing and running hooks is
// thread safe; a hook may not add or remove hooks of any module.
class ForwardHooks {
 public:
  using Observer = std::function<void(const at::Tensor&)>;
  using Replacer = std::function<at::Tensor(const at::Tensor&)>;

  explicit ForwardHooks(torch::nn::Module& root);
  ~ForwardHooks();
  ForwardHooks(const ForwardHooks&) = delete;
  ForwardHooks& operator=(const ForwardHooks&) = delete;

  // Throws winnow::Error if there is no such submodule (the nearest name is given) or it is not Hookable.
  void observe(std::string_view name, Observer observer);
  void replace(std::string_view name, Replacer replacer);
  // Removes all hooks of this object.
  void clear();

  // Names of the submodules that can be hooked.
  std::vector<std::string> names() const;

 private:
  const Hookable* find(std::string_view name) const;

  torch::nn::Module& root_;
  std::vector<std::pair<const Hookable*, uint64_t>> held_;
};

}  // namespace winnow
