// The program that the reliability test kills, resumes and starves: a small network with everything that has state
// (AdamW, average, dropout, noise, a shuffled loader with a worker) through the library's own Trainer.
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <cstdio>
#include <memory>

#include "winnow/core/program.h"
#include "winnow/data/loader.h"
#include "winnow/nn/drop.h"
#include "winnow/tensor/generator.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/trainer.h"

namespace {

using namespace winnow;

struct NetImpl : torch::nn::Module {
  explicit NetImpl(uint64_t seed) {
    first = register_module("first", torch::nn::Linear(16, 64));
    dropout = register_module("dropout", winnow::Dropout(winnow::DropOptions{.p = 0.1, .seed = seed}));
    second = register_module("second", torch::nn::Linear(64, 4));
    const auto generator = make_generator(seed);
    const at::NoGradGuard no_grad;
    for (auto& p : parameters()) p.copy_(at::randn(p.sizes(), generator) * 0.2);
  }
  at::Tensor forward(const at::Tensor& x) { return second->forward(dropout->forward(torch::gelu(first->forward(x)))); }

  torch::nn::Linear first{nullptr}, second{nullptr};
  winnow::Dropout dropout{nullptr};
};
TORCH_MODULE(Net);

int body(Config& config) {
  const auto options = config.read<train::TrainerOptions>("train");
  config.finish();

  const auto x = at::randn({200, 16}, make_generator(1));
  const auto y = x.narrow(1, 0, 4).argmax(1);
  data::Loader loader(std::make_shared<data::TensorDataset>(x, y), {.batch_size = 16, .seed = 3, .workers = 1});
  Net net(5);
  train::FusedAdamW optimizer(train::weight_decay_groups(*net, 0.05), {.beta2 = 0.95});
  train::Trainer trainer(*net, optimizer, options);
  std::puts("training");  // the sign to the test that the process is past its start
  std::fflush(stdout);
  const auto result = trainer.fit(loader, [&](const data::Batch& batch, train::StepContext& context) {
    const auto noisy = batch.images + 0.1 * at::randn(batch.images.sizes(), context.generator);
    return train::StepResult{.loss = torch::cross_entropy_loss(net->forward(noisy), batch.labels)};
  });
  return result.exit_code();
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv,
                     {.name = "reliability_trainer",
                      .summary = "Trains a small network, to be killed and resumed.",
                      .options_table = help<train::TrainerOptions>("train"),
                      .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }},
                     body);
}
