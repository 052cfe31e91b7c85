#pragma once
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "winnow/core/error.h"

namespace winnow {

namespace detail {
// An argument that knows what layer `index` should get says so by a member for_layer; all others are passed as they
// are.
template <class Arg>
decltype(auto) argument_for_layer(const Arg& arg, int64_t index) {
  if constexpr (requires { arg.for_layer(index); }) {
    return arg.for_layer(index);
  } else {
    return (arg);
  }
}
}  // namespace detail

// Repeated blocks, run one after the other. Block is a module holder such as TransformerBlock; children are named "0",
// "1", ... in order. Use the holder Stack<Block>; clone() copies the blocks.
template <class Block>
struct StackImpl : torch::nn::Cloneable<StackImpl<Block>> {
  StackImpl() = default;
  // `depth` blocks, block i made by make(i).
  template <class Make>
  StackImpl(int64_t depth, Make&& make) {
    WINNOW_CHECK(depth >= 0, "Stack: depth must be >= 0, got {}", depth);
    for (int64_t i = 0; i < depth; ++i) push_back(make(i));
  }
  void reset() override {}

  void push_back(Block block) {
    blocks_.push_back(this->register_module(std::to_string(blocks_.size()), std::move(block)));
  }

  // x through all blocks: x = block_i(x, args...). An argument with a member for_layer(i) is replaced by its result.
  template <class X, class... Args>
  X forward(X x, const Args&... args) {
    int64_t index = 0;
    for (auto& block : blocks_) {
      x = block->forward(x, detail::argument_for_layer(args, index)...);
      ++index;
    }
    return x;
  }

  std::shared_ptr<torch::nn::Module> clone(const std::optional<torch::Device>& device = std::nullopt) const override {
    auto copy = std::make_shared<StackImpl>();
    for (const auto& block : blocks_) {
      copy->push_back(Block(std::dynamic_pointer_cast<typename Block::ContainedType>(block->clone(device))));
    }
    copy->train(this->is_training());
    return copy;
  }

  int64_t size() const { return static_cast<int64_t>(blocks_.size()); }
  bool empty() const { return blocks_.empty(); }
  // Block i, 0 <= i < size(); throws winnow::Error otherwise.
  Block& operator[](int64_t i) {
    WINNOW_CHECK(i >= 0 && i < size(), "Stack: block must be in [0, {}), got {}", size(), i);
    return blocks_[static_cast<size_t>(i)];
  }
  auto begin() { return blocks_.begin(); }
  auto end() { return blocks_.end(); }

 private:
  std::vector<Block> blocks_;
};

template <class Block>
class Stack : public torch::nn::ModuleHolder<StackImpl<Block>> {
 public:
  using torch::nn::ModuleHolder<StackImpl<Block>>::ModuleHolder;
  using Impl = StackImpl<Block>;
  Block& operator[](int64_t i) { return (*this->get())[i]; }
};

}  // namespace winnow
