#include "winnow/train/trainer.h"

#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <utility>

#include "train_loop.h"
#include "winnow/core/error.h"
#include "winnow/core/log.h"
#include "winnow/core/random.h"
#include "winnow/nn/drop.h"
#include "winnow/tensor/generator.h"

namespace winnow::train {
namespace {

constexpr const char* kReservedParts[] = {"model", "optimizer", "scaler", "ema", "data", "loop", "rng"};

void check_part_name(const std::string& name) {
  const bool legal = !name.empty() && name.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-") == std::string::npos;
  WINNOW_CHECK(legal, "Trainer: a name must be letters, digits, '_' and '-', got '{}'", name);
}

}  // namespace

struct Trainer::Impl {
  torch::nn::Module& model;
  Optimizer& optimizer;
  Schedule schedule;
  std::shared_ptr<ProcessGroup> group = std::make_shared<ProcessGroup>();
  std::unique_ptr<Ema> ema;
  GradScaler scaler = GradScaler();
  std::vector<std::pair<std::string, Stateful*>> parts;
  std::vector<std::pair<std::string, at::Generator>> generators;
  nlohmann::json run_options = nlohmann::json::object();
  bool used = false;
};

Trainer::Trainer(torch::nn::Module& model, Optimizer& optimizer, TrainerOptions options)
    : options_(std::move(options)),
      impl_(
          new Impl{.model = model, .optimizer = optimizer, .schedule = {}, .ema = {}, .parts = {}, .generators = {}}) {
  check(options_);
  WINNOW_CHECK(options_.steps >= 1 || options_.epochs >= 1, "Trainer: steps or epochs must be >= 1, got {} and {}",
               options_.steps, options_.epochs);
  if (options_.ema_decay > 0) {
    impl_->ema = std::make_unique<Ema>(model, EmaOptions{.decay = options_.ema_decay, .warm_up = options_.ema_warm_up});
  }
}

Trainer::~Trainer() = default;

void Trainer::set_schedule(Schedule schedule) {
  impl_->schedule = std::move(schedule);
}

void Trainer::set_process_group(std::shared_ptr<ProcessGroup> group) {
  WINNOW_CHECK(group != nullptr, "Trainer: group must be set");
  impl_->group = std::move(group);
}

void Trainer::add_state(const std::string& name, Stateful& part) {
  check_part_name(name);
  const bool taken =
      std::find(std::begin(kReservedParts), std::end(kReservedParts), name) != std::end(kReservedParts) ||
      std::any_of(impl_->parts.begin(), impl_->parts.end(), [&](const auto& p) { return p.first == name; });
  WINNOW_CHECK(!taken, "Trainer: the name '{}' is taken", name);
  impl_->parts.emplace_back(name, &part);
}

void Trainer::add_generator(const std::string& name, const at::Generator& generator) {
  check_part_name(name);
  WINNOW_CHECK(generator.defined(), "Trainer: generator '{}' is undefined", name);
  impl_->generators.emplace_back("user." + name, generator);
}

void Trainer::set_run_options(nlohmann::json options) {
  impl_->run_options = std::move(options);
}

Ema* Trainer::ema() {
  return impl_->ema.get();
}

TrainResult Trainer::run(const Data& data) {
  auto& impl = *impl_;
  WINNOW_CHECK(!impl.used, "Trainer: fit can be called once");
  impl.used = true;
  WINNOW_CHECK(data.batches_per_epoch >= 1, "Trainer: the data source must have at least one batch, got {}",
               data.batches_per_epoch);
  const int64_t total =
      options_.steps > 0 ? options_.steps : options_.epochs * data.batches_per_epoch / options_.accumulate;
  WINNOW_CHECK(total >= 1, "Trainer: {} epochs of {} batches must make at least one step of {} batches",
               options_.epochs, data.batches_per_epoch, options_.accumulate);

  auto& group = *impl.group;
  const auto generator = make_generator(group.rank() == 0 ? options_.seed : derive_seed(options_.seed, group.rank()));
  RunParts parts{.model = &impl.model,
                 .stateful = {{"optimizer", &impl.optimizer}, {"scaler", &impl.scaler}},
                 .generators = {{"trainer", generator}, {"cpu", at::globalContext().defaultGenerator(at::kCPU)}},
                 .data_state = data.state,
                 .load_data_state = data.load_state};
  if (impl.ema) parts.stateful.emplace_back("ema", impl.ema.get());
  for (const auto& part : impl.parts) parts.stateful.push_back(part);
  if (at::hasCUDA()) parts.generators.emplace_back("cuda", at::globalContext().defaultGenerator(at::kCUDA));
  const auto drops = drop_generators(impl.model);
  for (size_t i = 0; i < drops.size(); ++i) parts.generators.emplace_back(fmt::format("drop.{}", i), drops[i]);
  for (const auto& user : impl.generators) parts.generators.push_back(user);

  const auto start = starting_point(options_, group.is_main());
  group.barrier();
  StateDict loop_state;
  if (start) {
    loop_state = restore(parts, start->checkpoint, start->source, group);
    warn_of_changed_options(start->checkpoint.options.value("trainer", nlohmann::json()),
                            nlohmann::json::parse(to_json(options_)));
    log_info("going on after step {} from '{}'", start->checkpoint.step, start->source);
  }
  auto schedule = impl.schedule ? impl.schedule : make_schedule(options_.schedule, static_cast<double>(total));
  TrainLoop loop({.model = impl.model,
                  .optimizer = impl.optimizer,
                  .options = options_,
                  .callbacks = callbacks,
                  .group = impl.group,
                  .ema = impl.ema.get(),
                  .scaler = impl.scaler,
                  .schedule = std::move(schedule),
                  .run_options = impl.run_options,
                  .total_steps = total,
                  .batches_per_epoch = data.batches_per_epoch,
                  .step = data.step},
                 std::move(parts), generator);
  return loop.run(start ? start->checkpoint.step : 0, start ? &loop_state : nullptr);
}

}  // namespace winnow::train
