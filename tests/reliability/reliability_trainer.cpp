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

// One number that moves with every weight.
double projection(const torch::nn::Module& module) {
  double sum = 0;
  for (const auto& p : module.parameters()) {
    const auto flat = p.detach().flatten().to(at::kDouble);
    sum += (flat * at::cos(at::arange(flat.numel(), at::kDouble))).sum().item<double>();
  }
  return sum;
}

int body(Config& config, bool plain) {
  const auto options = config.read<train::TrainerOptions>("train");
  config.finish();

  const auto x = at::randn({200, 16}, make_generator(1));
  const auto y = x.narrow(1, 0, 4).argmax(1);
  const auto group = train::ProcessGroup::from_environment();
  data::Loader loader(
      std::make_shared<data::TensorDataset>(x, y),
      {.batch_size = 16 / group->size(), .seed = 3, .rank = group->rank(), .world_size = group->size(), .workers = 1});
  Net net(5);
  if (plain) net->dropout->options.p = 0;
  train::FusedAdamW optimizer(train::weight_decay_groups(*net, 0.05), {.beta2 = 0.95});
  train::Trainer trainer(*net, optimizer, options);
  trainer.set_process_group(group);
  std::puts("training");  // the sign to the test that the process is past its start
  std::fflush(stdout);
  const auto result = trainer.fit(loader, [&](const data::Batch& batch, train::StepContext& context) {
    auto noisy = batch.images;
    if (!plain) noisy = noisy + 0.1 * at::randn(noisy.sizes(), context.generator);
    return train::StepResult{.loss = torch::cross_entropy_loss(net->forward(noisy), batch.labels)};
  });
  std::printf("weights %.9g\n", projection(*net));
  return result.exit_code();
}

}  // namespace

int main(int argc, char** argv) {
  bool plain = false;
  return run_program(
      argc, argv,
      {.name = "reliability_trainer",
       .summary = "Trains a small network, to be killed and resumed.",
       .options_table = help<train::TrainerOptions>("train"),
       .arguments = {{"--plain", &plain, "without noise and dropout, so that processes can be compared"}},
       .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }},
      [&](Config& config) { return body(config, plain); });
}
