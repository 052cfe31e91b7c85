// Pre-trains a network of one's own, here a small convolutional MLP-mixer, as a masked autoencoder: derive from
// mae::Encoder, say its geometry, how an image becomes tokens and how the kept tokens are encoded.
//   ./dev data fashion-mnist && build/release/bin/own_encoder
// 600 steps take half a minute on one core; the held-out error ends near 0.36, that of the mean image is 0.70.

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include "winnow/core/program.h"
#include "winnow/data/datasets.h"
#include "winnow/data/transforms.h"
#include "winnow/mae/masked_autoencoder.h"
#include "winnow/nn/position.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/patches.h"
#include "winnow/train/optimizer.h"
#include "winnow/train/param_groups.h"

namespace {

using namespace winnow;  // NOLINT: a program

// Two convolutions that stay inside a patch, then layers that mix each token with the mean of all tokens.
struct ConvMixer : mae::Encoder {
  static constexpr int64_t kDim = 64;
  torch::nn::Conv2d fine{nullptr}, coarse{nullptr};
  torch::nn::Linear first{nullptr}, second{nullptr};
  at::Tensor positions = sincos_2d_pos_embed(kDim, 4, 4);  // [L, kDim]

  ConvMixer() {
    fine = register_module("fine", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 16, 3)));
    coarse = register_module("coarse", torch::nn::Conv2d(torch::nn::Conv2dOptions(16, kDim, 5)));
    first = register_module("first", torch::nn::Linear(2 * kDim, 2 * kDim));
    second = register_module("second", torch::nn::Linear(2 * kDim, kDim));
  }
  mae::EncoderGeometry geometry() const override {
    return {.channels = 1, .image_height = 28, .image_width = 28, .patch = 7, .dim = kDim, .prefix_tokens = 0};
  }
  at::Tensor embed(const at::Tensor& images) override {  // every patch becomes a picture of its own: nothing leaks
    const auto B = images.size(0);
    const auto patches = images.view({B, 4, 7, 4, 7}).transpose(2, 3).reshape({B * 16, 1, 7, 7});
    return coarse(at::gelu(fine(patches))).view({B, 16, kDim}) + positions;
  }
  at::Tensor encode(const at::Tensor& tokens) override {
    const auto all = tokens.mean(1, /*keepdim=*/true).expand_as(tokens);
    return tokens + second(at::gelu(first(at::cat({tokens, all}, -1))));
  }
};

int own_encoder(int64_t steps) {
  const auto pixels = data::fashion_mnist("data/fashion-mnist", data::Part::train)->images();
  const auto images = data::to_float(pixels, data::fashion_mnist_normalization());  // [60000, 1, 28, 28]
  const auto held_out = images.slice(0, 58000), mean = images.slice(0, 0, 58000).mean(0, true);
  mae::MaskedAutoencoder model(std::make_shared<ConvMixer>(),
                               mae::MaskedAutoencoderOptions{.decoder = {.dim = 48, .depth = 1, .heads = 4}});
  train::FusedAdamW adamw(train::weight_decay_groups(*model, 0.05), {.beta2 = 0.95});
  const auto generator = make_generator(1);
  for (int64_t step = 0; step < steps; ++step) {
    throw_if_stopped();
    const auto rows = at::randint(58000, {64}, generator, at::kLong);
    const auto loss = model->forward(images.index_select(0, rows), static_cast<uint64_t>(step)).loss;
    adamw.zero_grad();
    loss.backward();
    adamw.step(2e-3);
    if ((step + 1) % 100 == 0) fmt::print("step {:4d}  loss {:.4f}\n", step + 1, loss.item<double>());
  }
  const at::NoGradGuard no_grad;
  const auto out = model->forward(held_out, uint64_t{0});
  const auto mean_patches = patchify(mean, 7).expand_as(out.pred).contiguous();
  const auto baseline = mae::MaskedPixelLoss{{.patch = 7}}(mean_patches, held_out, out.mask).item<double>();
  fmt::print("held-out masked error {:.4f}, of the mean image {:.4f}\n", out.loss.item<double>(), baseline);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int64_t steps = 600;
  return run_program(argc, argv,
                     {.name = "own_encoder",
                      .summary = "Pre-trains a convolutional network of one's own as a masked autoencoder.",
                      .arguments = {{"--steps", &steps, "optimiser steps"}},
                      .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }},
                     [&](Config&) { return own_encoder(steps); });
}
