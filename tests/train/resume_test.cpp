#include <gtest/gtest.h>
#include <torch/torch.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "toy_run.h"
#include "winnow/core/program.h"
#include "winnow/data/loader.h"
#include "winnow/io/json_lines.h"
#include "winnow/train/checkpoint.h"
#include "winnow/train/ema.h"
#include "winnow/train/lars.h"
#include "winnow/train/trainer.h"

namespace winnow::train {
namespace {

namespace fs = std::filesystem;

// Something of a method's own that must survive: it counts the steps in a tensor.
struct Counter : Stateful {
  at::Tensor count = at::zeros({1}, at::kLong);
  StateDict state() const override { return {.tensors = {{"count", count}}}; }
  void load_state(const StateDict& state) override { count.copy_(state_tensor(state, "count", count, "Counter")); }
};

// Everything that has state at once: dropout, noise from the run's and the process's generator, average, accumulation,
// warm-up.
struct Everything {
  ToyNet net{7, 0.3};
  FusedAdamW optimizer{weight_decay_groups(*net, 0.05)};
  Counter counter;
  ToySource source{4};
  std::optional<Trainer> trainer;
  TrainResult result;

  explicit Everything(TrainerOptions options) {
    trainer.emplace(*net, optimizer, std::move(options));
    trainer->add_state("counter", counter);
    trainer->callbacks.after_update = [this](StepContext&) { counter.count.add_(1); };
  }
  void fit(int64_t stop_after = -1) {
    trainer->callbacks.on_step = [stop_after](const StepContext& c, const at::Tensor&) {
      if (c.step + 1 == stop_after) request_stop(SIGTERM);
    };
    result = trainer->fit(source, [&](const ToyBatch& b, StepContext& c) {
      auto r = toy_loss(net, b, c, 0.1);
      r.loss = r.loss + 0.01 * (net->second->weight * at::randn({1, 8})).sum();  // the process's own generator
      return r;
    });
    request_stop(0);
  }
};

TrainerOptions thorough(const std::string& out) {
  return {.steps = 12,
          .accumulate = 2,
          .clip_norm = 1,
          .ema_decay = 0.9,
          .ema_warm_up = true,
          .schedule = {.lr = 0.01, .warmup = 0.3},
          .log_every = 5,
          .checkpoint_every = 4,
          .out = out,
          .progress = false,
          .tensorboard = false,
          .resume = Resume::automatic};
}

class ResumeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    whole_.emplace(thorough(folder_ / "whole"));
    whole_->fit();
  }
  void expect_equal_to_unbroken(Everything& run, const std::string& out) {
    EXPECT_TENSOR_EQ(flat_weights(*run.net), flat_weights(*whole_->net));
    EXPECT_TENSOR_EQ(run.counter.count, at::full({1}, 12, at::kLong));
    EXPECT_TENSOR_EQ(run.trainer->ema()->average("first.weight"), whole_->trainer->ema()->average("first.weight"));
    EXPECT_EQ(run.result.loss, whole_->result.loss);
    EXPECT_EQ(run.source.state(), whole_->source.state());
    EXPECT_EQ(io::read_json_lines(folder_ / out + "/metrics.jsonl"),
              io::read_json_lines(folder_ / "whole/metrics.jsonl"));
  }
  testing::TemporaryFolder folder_;
  std::optional<Everything> whole_;
};

TEST_F(ResumeTest, ARunBrokenOffAnywhereEndsWithTheSameBits) {
  for (const int64_t stop_after : {1, 4, 5, 11}) {
    const auto out = "broken" + std::to_string(stop_after);
    at::manual_seed(11);
    {
      Everything first(thorough(folder_ / out));
      first.fit(stop_after);
      EXPECT_EQ(first.result.step, stop_after);
    }
    at::manual_seed(999);  // must not matter
    Everything second(thorough(folder_ / out));
    second.fit();
    EXPECT_EQ(second.result.step, 12);
    expect_equal_to_unbroken(second, out);
  }
}

TEST_F(ResumeTest, ARunThatWentFurtherThanItsCheckpointRepeatsTheSteps) {
  fs::copy(folder_ / "whole", folder_ / "copy", fs::copy_options::recursive);
  fs::remove_all(folder_ / "copy/checkpoints/step_000000012");
  Everything again(thorough(folder_ / "copy"));  // from step 8, metrics up to 12 are there already
  again.fit();
  expect_equal_to_unbroken(again, "copy");
}

TEST_F(ResumeTest, AFinishedRunHasNothingLeftToDo) {
  Everything again(thorough(folder_ / "whole"));
  again.fit();
  EXPECT_EQ(again.result.step, 12);
  EXPECT_EQ(again.result.loss, whole_->result.loss);
  EXPECT_TENSOR_EQ(flat_weights(*again.net), flat_weights(*whole_->net));
}

TEST_F(ResumeTest, ADamagedNewestIsPassedOverOnlyByAuto) {
  const std::string newest = folder_ / "whole/checkpoints/step_000000012/model.safetensors";
  fs::resize_file(newest, fs::file_size(newest) - 4);
  auto options = thorough(folder_ / "whole");
  options.resume = Resume::latest;
  EXPECT_ERROR(Everything(options).fit(),
               "(truncated or changed); resume: auto goes on from the newest one that can be read");
  Everything again(thorough(folder_ / "whole"));
  again.fit();
  expect_equal_to_unbroken(again, "whole");
  EXPECT_TRUE(fs::exists(folder_ / "whole/checkpoints/step_000000012.old/model.safetensors"));
}

TEST_F(ResumeTest, AnEarlierRunIsNeitherContinuedNorOverwrittenUnasked) {
  auto options = thorough(folder_ / "whole");
  options.resume = Resume::never;
  EXPECT_ERROR(Everything(options).fit(),
               "holds an earlier run (step 12); resume: auto goes on with it, overwrite: true removes it");
  EXPECT_TRUE(fs::exists(folder_ / "whole/checkpoints/step_000000012/model.safetensors"));
  options.overwrite = true;
  options.steps = 3;
  Everything anew(options);
  anew.fit();
  EXPECT_EQ(list_checkpoints(folder_ / "whole/checkpoints").size(), 1u);
  EXPECT_EQ(io::read_json_lines(folder_ / "whole/metrics.jsonl").size(), 1u);
}

TEST_F(ResumeTest, FromANamedCheckpoint) {
  auto options = thorough(folder_ / "branch");
  options.resume_from = folder_ / "whole/checkpoints/step_000000004";
  Everything branch(options);
  branch.fit();
  EXPECT_TENSOR_EQ(flat_weights(*branch.net), flat_weights(*whole_->net));
}

TEST_F(ResumeTest, WhatDoesNotFitIsNamed) {
  auto options = thorough(folder_ / "absent");
  options.resume = Resume::latest;
  EXPECT_ERROR(Everything(options).fit(), "Trainer: resume: latest, but there is no checkpoint under '");
  options.out = "";
  EXPECT_ERROR(Everything(options).fit(), "Trainer: resume needs an output folder, out is empty");
  options = thorough(folder_ / "whole");
  options.steps = 10;
  EXPECT_ERROR(Everything(options).fit(), "Trainer: the checkpoint is of step 12, beyond the 10 steps of this run");
  ToyNet net(7);
  Lars other(weight_decay_groups(*net, 0.0));
  Trainer trainer(*net, other, thorough(folder_ / "whole"));
  ToySource source(4);
  EXPECT_ERROR(trainer.fit(source, [&](const ToyBatch& b, StepContext& c) { return toy_loss(net, b, c); }),
               "step_000000012': lars: the saved state is of another optimiser, 'adamw'");
}

// Through the library's own loader, over the end of an epoch, with workers.
TEST(Resume, WithTheLoaderTheDataGoOnWhereTheyStopped) {
  const auto images = at::randn({37, 3}, make_generator(2));
  const auto labels = at::arange(37) % 3;
  const testing::TemporaryFolder folder;
  const auto train = [&](const std::string& out, int64_t stop_after, std::vector<at::Tensor>& seen) {
    ToyNet net(7);
    Sgd optimizer(weight_decay_groups(*net, 0.0), {.momentum = 0.9});
    data::Loader loader(std::make_shared<data::TensorDataset>(images, labels),
                        {.batch_size = 5, .seed = 3, .workers = 1});
    TrainerOptions options{.steps = 20, .schedule = {.lr = 0.01}, .checkpoint_every = 3, .out = folder / out};
    options.progress = options.tensorboard = false;
    options.resume = Resume::automatic;
    Trainer trainer(*net, optimizer, options);
    trainer.callbacks.on_step = [&](const StepContext& c, const at::Tensor&) {
      if (c.step + 1 == stop_after) request_stop(SIGINT);
    };
    trainer.fit(loader, [&](const data::Batch& batch, StepContext&) {
      seen.push_back(batch.indices.clone());
      return StepResult{.loss = torch::mse_loss(net->forward(batch.images), batch.labels.view({-1, 1}).to(at::kFloat))};
    });
    request_stop(0);
    return flat_weights(*net);
  };
  std::vector<at::Tensor> whole, parts;
  const auto wanted = train("whole", -1, whole);
  train("parts", 10, parts);
  const auto got = train("parts", -1, parts);
  EXPECT_TENSOR_EQ(got, wanted);
  ASSERT_EQ(parts.size(), whole.size());
  EXPECT_TENSOR_EQ(at::stack(parts), at::stack(whole));
}

}  // namespace
}  // namespace winnow::train
