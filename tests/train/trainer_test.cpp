#include "winnow/train/trainer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "toy_run.h"
#include "winnow/core/program.h"
#include "winnow/io/json_lines.h"
#include "winnow/io/safetensors.h"
#include "winnow/train/ema.h"
#include "winnow/train/grad_scaler.h"

namespace winnow::train {
namespace {

namespace fs = std::filesystem;

TrainerOptions quiet(int64_t steps) {
  return {.steps = steps, .schedule = {.kind = ScheduleKind::constant, .lr = 0.05}, .progress = false};
}

struct Toy {
  ToyNet net{7};
  Sgd optimizer{weight_decay_groups(*net, 0.0)};
};

TEST(Trainer, EqualsTheLoopWrittenByHand) {
  Toy run;
  Trainer trainer(*run.net, run.optimizer, quiet(20));
  ToySource source(8);
  const auto result = trainer.fit(source, [&](const ToyBatch& b, StepContext& c) { return toy_loss(run.net, b, c); });

  ToyNet net(7);
  ToySource by_hand(8);
  at::Tensor loss;
  for (int i = 0; i < 20; ++i) {
    net->zero_grad();
    const auto batch = by_hand.next();
    loss = torch::mse_loss(net->forward(batch.x), batch.y);
    loss.backward();
    const at::NoGradGuard no_grad;
    for (auto& p : net->parameters()) p.sub_(p.grad() * 0.05);
  }
  EXPECT_TENSOR_NEAR(flat_weights(*run.net), flat_weights(*net), 1e-6);
  EXPECT_NEAR(result.loss, loss.item<double>(), 1e-6);
  EXPECT_EQ(result.step, 20);
  EXPECT_TRUE(result.finished());
  EXPECT_EQ(result.exit_code(), 0);
}

TEST(Trainer, AccumulatingSmallBatchesEqualsOneLargeBatch) {
  Toy large, small;
  ToySource source_large(12), source_small(3);
  Trainer(*large.net, large.optimizer, quiet(6)).fit(source_large, [&](const ToyBatch& b, StepContext& c) {
    return toy_loss(large.net, b, c);
  });
  auto options = quiet(6);
  options.accumulate = 4;
  std::vector<int64_t> micro_steps;
  Trainer(*small.net, small.optimizer, options).fit(source_small, [&](const ToyBatch& b, StepContext& c) {
    micro_steps.push_back(c.micro_step);
    return toy_loss(small.net, b, c);
  });
  EXPECT_TENSOR_NEAR(flat_weights(*small.net), flat_weights(*large.net), 1e-6);
  EXPECT_EQ(micro_steps.size(), 24u);
  EXPECT_EQ(micro_steps[7], 3);
}

TEST(Trainer, TheSameSeedGivesTheSameWeightsAndAnotherSeedOthers) {
  const auto train = [](uint64_t seed) {
    Toy run;
    auto options = quiet(5);
    options.seed = seed;
    ToySource source(4);
    Trainer(*run.net, run.optimizer, options).fit(source, [&](const ToyBatch& b, StepContext& c) {
      return toy_loss(run.net, b, c, 0.1);
    });
    return flat_weights(*run.net);
  };
  EXPECT_TENSOR_EQ(train(3), train(3));
  EXPECT_FALSE(at::equal(train(3), train(4)));
}

TEST(Trainer, EpochsAreCountedInBatchesOverAccumulation) {
  Toy run;
  auto options = quiet(0);
  options.epochs = 3;
  options.accumulate = 2;
  ToySource source(4);  // 6 batches an epoch
  std::vector<double> epochs;
  const auto result = Trainer(*run.net, run.optimizer, options).fit(source, [&](const ToyBatch& b, StepContext& c) {
    if (c.micro_step == 0) epochs.push_back(c.epoch);
    return toy_loss(run.net, b, c);
  });
  EXPECT_EQ(result.total_steps, 9);
  EXPECT_DOUBLE_EQ(epochs[0], 0);
  EXPECT_DOUBLE_EQ(epochs[1], 1.0 / 3);
  EXPECT_DOUBLE_EQ(epochs[8], 8.0 / 3);
}

TEST(Trainer, TheRateOfAStepIsTheScheduleAtTheStepsBeforeIt) {
  Toy run;
  Trainer trainer(*run.net, run.optimizer, quiet(4));
  trainer.set_schedule(LinearLr{.lr = 0.4, .end_lr = 0, .total = 4});
  ToySource source(4);
  std::vector<double> rates;
  trainer.callbacks.on_step = [&](const StepContext& c, const at::Tensor&) { rates.push_back(c.lr); };
  trainer.fit(source, [&](const ToyBatch& b, StepContext& c) { return toy_loss(run.net, b, c); });
  ASSERT_EQ(rates.size(), 4u);
  EXPECT_DOUBLE_EQ(rates[0], 0.4);
  EXPECT_DOUBLE_EQ(rates[3], 0.1);
}

TEST(Trainer, ClippingBoundsTheStep) {
  Toy run;
  const auto before = flat_weights(*run.net);
  auto options = quiet(1);
  options.clip_norm = 0.01;
  ToySource source(4);
  Trainer(*run.net, run.optimizer, options).fit(source, [&](const ToyBatch& b, StepContext& c) {
    return StepResult{.loss = toy_loss(run.net, b, c).loss * 1000};
  });
  EXPECT_NEAR((flat_weights(*run.net) - before).norm().item<double>(), 0.05 * 0.01, 1e-6);
}

TEST(Trainer, EvaluationSeesTheAverageInEvaluationModeWithoutGradients) {
  Toy run;
  auto options = quiet(4);
  options.ema_decay = 0.5;
  options.eval_every = 2;
  Trainer trainer(*run.net, run.optimizer, options);
  int evaluations = 0;
  trainer.callbacks.evaluate = [&] {
    ++evaluations;
    EXPECT_FALSE(run.net->is_training());
    EXPECT_FALSE(at::GradMode::is_enabled());
    return Metrics{{"norm", flat_weights(*run.net).norm().item<double>()}};
  };
  ToySource source(4);
  const auto result = trainer.fit(source, [&](const ToyBatch& b, StepContext& c) {
    EXPECT_TRUE(run.net->is_training());
    return toy_loss(run.net, b, c);
  });
  EXPECT_EQ(evaluations, 2);
  std::vector<at::Tensor> averages;
  for (const auto& item : run.net->named_parameters()) averages.push_back(trainer.ema()->average(item.key()).flatten());
  EXPECT_NEAR(result.evaluation.at("norm"), at::cat(averages).norm().item<double>(), 1e-6);
  EXPECT_NE(result.evaluation.at("norm"), flat_weights(*run.net).norm().item<double>());
}

TEST(Trainer, CallbacksSeeGradientsBeforeAndWeightsAfterTheUpdate) {
  Toy run;
  Trainer trainer(*run.net, run.optimizer, quiet(3));
  trainer.callbacks.before_update = [&](StepContext&) {
    for (auto& p : run.net->parameters()) p.mutable_grad().zero_();  // nothing may move
  };
  int calls = 0;
  trainer.callbacks.after_update = [&](StepContext&) { ++calls; };
  const auto before = flat_weights(*run.net);
  ToySource source(4);
  trainer.fit(source, [&](const ToyBatch& b, StepContext& c) { return toy_loss(run.net, b, c); });
  EXPECT_TENSOR_EQ(flat_weights(*run.net), before);
  EXPECT_EQ(calls, 3);
}

TEST(Trainer, AStepFunctionMayPutTheGradientsInPlaceItself) {
  Toy by_trainer, by_itself;
  ToySource one(4), two(4);
  Trainer(*by_trainer.net, by_trainer.optimizer, quiet(3)).fit(one, [&](const ToyBatch& b, StepContext& c) {
    return toy_loss(by_trainer.net, b, c);
  });
  Trainer(*by_itself.net, by_itself.optimizer, quiet(3)).fit(two, [&](const ToyBatch& b, StepContext& c) {
    toy_loss(by_itself.net, b, c).loss.backward();
    return StepResult{};
  });
  EXPECT_TENSOR_EQ(flat_weights(*by_itself.net), flat_weights(*by_trainer.net));
}

TEST(Trainer, Fp16LeavesOutAnOverflowingStepAndHalvesTheScale) {
  Toy run;
  auto options = quiet(3);
  options.precision = Precision::fp16;
  const auto before = flat_weights(*run.net);
  std::vector<at::Tensor> weights;
  Trainer trainer(*run.net, run.optimizer, options);
  trainer.callbacks.on_step = [&](const StepContext&, const at::Tensor&) { weights.push_back(flat_weights(*run.net)); };
  ToySource source(4);
  trainer.fit(source, [&](const ToyBatch& b, StepContext& c) {
    auto loss = torch::mse_loss(run.net->forward(b.x).to(at::kFloat), b.y);
    if (c.step == 0)
      loss = loss + run.net->first->weight.sum() * 1e38f - (run.net->first->weight.sum() * 1e38f).detach();
    return StepResult{.loss = loss};
  });
  ASSERT_EQ(weights.size(), 3u);
  EXPECT_TENSOR_EQ(weights[0], before);  // 1e38 * 65536 is infinite
  EXPECT_FALSE(at::equal(weights[1], before));
  EXPECT_TRUE(at::isfinite(weights[2]).all().item<bool>());
}

TEST(Trainer, Bf16TrainsCloseToFp32) {
  Toy exact, half;
  ToySource one(8), two(8);
  const auto fit = [](Toy& run, ToySource& source, Precision precision) {
    auto options = quiet(10);
    options.precision = precision;
    return Trainer(*run.net, run.optimizer, options).fit(source, [&](const ToyBatch& b, StepContext&) {
      const auto y = run.net->forward(b.x);
      EXPECT_EQ(y.scalar_type(), precision == Precision::bf16 ? at::kBFloat16 : at::kFloat);
      return StepResult{.loss = torch::mse_loss(y.to(at::kFloat), b.y)};
    });
  };
  fit(exact, one, Precision::fp32);
  fit(half, two, Precision::bf16);
  EXPECT_TENSOR_NEAR(flat_weights(*half.net), flat_weights(*exact.net), 0.02);
  EXPECT_FALSE(at::equal(flat_weights(*half.net), flat_weights(*exact.net)));
}

TEST(Trainer, WritesMetricsEventsAndFinalWeights) {
  const testing::TemporaryFolder folder;
  Toy run;
  auto options = quiet(5);
  options.out = folder.path().string();
  options.log_every = 2;
  options.ema_decay = 0.5;
  Trainer trainer(*run.net, run.optimizer, options);
  trainer.callbacks.evaluate = [] { return Metrics{{"accuracy", 0.5}}; };
  trainer.callbacks.pictures = [](const fs::path& where, int64_t step) {
    std::ofstream(where / ("step_" + std::to_string(step) + ".png")) << "x";
  };
  std::vector<double> losses;
  trainer.callbacks.on_step = [&](const StepContext&, const at::Tensor& loss) {
    losses.push_back(loss.item<double>());
  };
  ToySource source(4);
  trainer.fit(source, [&](const ToyBatch& b, StepContext& c) {
    auto result = toy_loss(run.net, b, c);
    result.metrics["twice"] = result.loss * 2;
    return result;
  });
  const auto lines = io::read_json_lines(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 4u);  // after 2, 4, 5 and the evaluation
  EXPECT_EQ(lines[0].at("step"), 2);
  EXPECT_NEAR(lines[0].at("loss").get<double>(), (losses[0] + losses[1]) / 2, 1e-6);
  EXPECT_NEAR(lines[0].at("twice").get<double>(), 2 * losses[1], 1e-6);
  EXPECT_EQ(lines[0].at("lr"), 0.05);
  EXPECT_NEAR(lines[2].at("loss").get<double>(), losses[4], 1e-6);
  EXPECT_EQ(lines[3].at("eval/accuracy"), 0.5);
  EXPECT_TENSOR_EQ(io::load_safetensors(folder.path() / "model.safetensors").at("first.weight"),
                   run.net->first->weight.detach());
  EXPECT_TENSOR_EQ(io::load_safetensors(folder.path() / "model_ema.safetensors").at("first.weight"),
                   trainer.ema()->average("first.weight"));
  EXPECT_FALSE(fs::is_empty(folder.path() / "tensorboard"));
  EXPECT_TRUE(fs::exists(folder.path() / "pictures/step_5.png"));
}

TEST(Trainer, ALossThatIsNotFiniteNamesTheStepAndTheLastCheckpoint) {
  const testing::TemporaryFolder folder;
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Toy run;
    auto options = quiet(9);
    options.out = folder / std::to_string(std::isnan(bad));
    options.checkpoint_every = 2;
    ToySource source(4);
    Trainer trainer(*run.net, run.optimizer, options);
    const std::string wanted = "Trainer: the loss is " + std::string(std::isnan(bad) ? "nan" : "inf") +
                               " at step 6 of 9 (lr 0.05); the last good checkpoint is '" + options.out +
                               "/checkpoints/step_000000004'";
    EXPECT_ERROR(trainer.fit(source,
                             [&](const ToyBatch& b, StepContext& c) {
                               auto result = toy_loss(run.net, b, c);
                               if (c.step == 5) result.loss = result.loss + bad;
                               return result;
                             }),
                 wanted);
    EXPECT_TRUE(at::isfinite(flat_weights(*run.net)).all().item<bool>());
  }
}

TEST(Trainer, WeightsThatAreNotFiniteAreNeverSaved) {
  const testing::TemporaryFolder folder;
  Toy run;
  auto options = quiet(4);
  options.out = folder.path().string();
  options.checkpoint_every = 1;
  Trainer trainer(*run.net, run.optimizer, options);
  trainer.callbacks.after_update = [&](StepContext& c) {
    const at::NoGradGuard no_grad;
    if (c.step == 1) run.net->second->bias.fill_(NAN);
  };
  ToySource source(4);
  EXPECT_ERROR(trainer.fit(source, [&](const ToyBatch& b, StepContext& c) { return toy_loss(run.net, b, c); }),
               "Trainer: a weight is infinite or NaN after step 2 of 4 (lr 0.05); the last good checkpoint is '");
}

TEST(Trainer, ASignalFinishesTheStepSavesAndTellsTheExitCode) {
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    const testing::TemporaryFolder folder;
    Toy run;
    auto options = quiet(100);
    options.out = folder.path().string();
    Trainer trainer(*run.net, run.optimizer, options);
    trainer.callbacks.on_step = [&](const StepContext& c, const at::Tensor&) {
      if (c.step == 6) request_stop(signal);
    };
    ToySource source(4);
    const auto result = trainer.fit(source, [&](const ToyBatch& b, StepContext& c) { return toy_loss(run.net, b, c); });
    request_stop(0);
    EXPECT_EQ(result.exit_code(), code);
    EXPECT_EQ(result.step, 7);
    EXPECT_FALSE(result.finished());
    EXPECT_TRUE(fs::exists(folder.path() / "checkpoints/step_000000007/checkpoint.json"));
  }
}

struct NoData {
  ToyBatch next() { return {}; }
  int64_t batches_per_epoch() const { return 0; }
  nlohmann::json state() const { return {}; }
  void load_state(const nlohmann::json&) {}
};

TEST(Trainer, WhatCannotBeDoneIsSaidBeforeAnythingIsDone) {
  Toy run;
  EXPECT_ERROR(Trainer(*run.net, run.optimizer, quiet(0)), "Trainer: steps or epochs must be >= 1, got 0 and 0");
  auto bad = quiet(1);
  bad.accumulate = 0;
  EXPECT_ERROR(Trainer(*run.net, run.optimizer, bad), "Trainer: accumulate must be >= 1, got 0");
  NoData nothing;
  const auto no_step = [](const ToyBatch&, StepContext&) { return StepResult{}; };
  EXPECT_ERROR(Trainer(*run.net, run.optimizer, quiet(1)).fit(nothing, no_step),
               "Trainer: the data source must have at least one batch, got 0");
  auto short_run = quiet(0);
  short_run.epochs = 1;
  short_run.accumulate = 7;
  ToySource source(4);
  EXPECT_ERROR(Trainer(*run.net, run.optimizer, short_run).fit(source, no_step),
               "Trainer: 1 epochs of 6 batches must make at least one step of 7 batches");
  Trainer trainer(*run.net, run.optimizer, quiet(1));
  EXPECT_ERROR(trainer.fit(source, [&](const ToyBatch&, StepContext&) { return StepResult{.loss = at::ones({2})}; }),
               "Trainer: the loss must be a scalar, got shape [2]");
  EXPECT_ERROR(trainer.fit(source, no_step), "Trainer: fit can be called once");
  Trainer without(*run.net, run.optimizer, quiet(1));
  EXPECT_ERROR(without.fit(source, [&](const ToyBatch&, StepContext&) { return StepResult{.loss = at::ones({})}; }),
               "Trainer: the loss must require a gradient");
  GradScaler part;
  EXPECT_ERROR(without.add_state("model", part), "Trainer: the name 'model' is taken");
  EXPECT_ERROR(without.add_state("a/b", part), "Trainer: a name must be letters, digits, '_' and '-', got 'a/b'");
}

}  // namespace
}  // namespace winnow::train
