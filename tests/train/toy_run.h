// A small regression that the trainer's tests share: an MLP, rows of a fixed data set in a fixed order, noise from the
// run's generator.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>

#include "winnow/nn/drop.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/trainer.h"

namespace winnow::train {

struct ToyNetImpl : torch::nn::Module {
  explicit ToyNetImpl(uint64_t seed, double drop = 0.0) {
    const auto generator = make_generator(seed);
    first = register_module("first", torch::nn::Linear(3, 8));
    dropout = register_module("dropout", winnow::Dropout(winnow::DropOptions{.p = drop, .seed = 5}));
    second = register_module("second", torch::nn::Linear(8, 1));
    const at::NoGradGuard no_grad;
    for (auto& p : parameters()) p.copy_(at::randn(p.sizes(), generator) * 0.3);
  }
  at::Tensor forward(const at::Tensor& x) { return second->forward(dropout->forward(torch::tanh(first->forward(x)))); }

  torch::nn::Linear first{nullptr}, second{nullptr};
  winnow::Dropout dropout{nullptr};
};
TORCH_MODULE(ToyNet);

struct ToyBatch {
  at::Tensor x, y;
};

// Rows [n, n + batch) of 24 samples, around and around.
class ToySource {
 public:
  explicit ToySource(int64_t batch, int64_t samples = 24) : batch_(batch), samples_(samples) {
    x_ = at::randn({samples_, 3}, make_generator(1));
    y_ = (x_.sum(1, true) + 0.5 * x_.select(1, 0).unsqueeze(1).square());
  }
  ToyBatch next() {
    const auto begin = position_++ % batches_per_epoch() * batch_;
    return {x_.narrow(0, begin, batch_), y_.narrow(0, begin, batch_)};
  }
  int64_t batches_per_epoch() const { return samples_ / batch_; }
  nlohmann::json state() const { return {{"position", position_}}; }
  void load_state(const nlohmann::json& state) { position_ = state.at("position").get<int64_t>(); }

 private:
  int64_t batch_, samples_, position_ = 0;
  at::Tensor x_, y_;
};

inline StepResult toy_loss(ToyNet& net, const ToyBatch& batch, StepContext& context, double noise = 0.0) {
  auto x = batch.x;
  if (noise > 0) x = x + noise * at::randn(x.sizes(), context.generator);
  return {.loss = torch::mse_loss(net->forward(x), batch.y)};
}

inline at::Tensor flat_weights(const torch::nn::Module& module) {
  std::vector<at::Tensor> parts;
  for (const auto& p : module.parameters()) parts.push_back(p.detach().flatten());
  return at::cat(parts);
}

}  // namespace winnow::train
