#include "winnow/train/data_parallel.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "toy_run.h"
#include "winnow/train/process_group.h"
#include "winnow/train/trainer.h"

namespace winnow::train {
namespace {

const ProcessGroup::Options kLoopback{.timeout_seconds = 60, .address = "127.0.0.1"};

// Runs fn(group) as `size` ranks that meet over a file, one thread each, and rethrows the first failure.
void for_ranks(int64_t size, const std::function<void(std::shared_ptr<ProcessGroup>)>& fn) {
  const testing::TemporaryFolder folder;
  std::vector<std::thread> threads;
  std::vector<std::exception_ptr> failures(static_cast<size_t>(size));
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        fn(ProcessGroup::from_file(folder / "meeting", rank, size, kLoopback));
      } catch (...) {
        failures[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

TEST(ProcessGroup, CollectivesOfThreeRanks) {
  for_ranks(3, [](const std::shared_ptr<ProcessGroup>& group) {
    const auto rank = group->rank();
    auto sum = at::full({2}, static_cast<double>(rank + 1));
    group->all_reduce_sum(sum);
    EXPECT_TENSOR_EQ(sum, at::full({2}, 6.0));
    auto max = at::tensor({rank, -rank});
    group->all_reduce_max(max);
    EXPECT_TENSOR_EQ(max, at::tensor({2, 0}, at::kLong));
    auto shared = at::full({2}, static_cast<double>(rank));
    group->broadcast(shared, 1);
    EXPECT_TENSOR_EQ(shared, at::ones({2}));
    const auto all = group->all_gather(std::string(static_cast<size_t>(rank), 'x'));
    EXPECT_EQ(all, (std::vector<std::string>{"", "x", "xx"}));
    group->barrier();
  });
}

TEST(ProcessGroup, AloneEveryCollectiveIsTheIdentity) {
  ProcessGroup group;
  auto x = at::ones({2});
  group.all_reduce_sum(x);
  group.broadcast(x);
  group.barrier();
  EXPECT_TENSOR_EQ(x, at::ones({2}));
  EXPECT_EQ(group.all_gather("a"), std::vector<std::string>{"a"});
  EXPECT_TRUE(group.is_main());
  EXPECT_ERROR(group.broadcast(x, 1), "ProcessGroup: from must be in [0, 1), got 1");
}

// Sets the four variables for the life of the object; an empty value unsets.
struct Environment {
  explicit Environment(const std::map<std::string, std::string>& values) {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
      const auto found = values.find(name);
      if (found == values.end()) {
        ::unsetenv(name);
      } else {
        ::setenv(name, found->second.c_str(), 1);
      }
    }
  }
  ~Environment() {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) ::unsetenv(name);
  }
};

TEST(ProcessGroup, TheEnvironmentIsCheckedByName) {
  {
    const Environment none({});
    EXPECT_EQ(ProcessGroup::from_environment()->size(), 1);
  }
  {
    const Environment one({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
    EXPECT_EQ(ProcessGroup::from_environment()->size(), 1);
  }
  {
    const Environment part({{"WORLD_SIZE", "2"}});
    EXPECT_ERROR_KIND(ProcessGroup::from_environment(), ErrorKind::config,
                      "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT must be set together, RANK is not");
  }
  {
    const Environment outside({{"WORLD_SIZE", "2"}, {"RANK", "2"}});
    EXPECT_ERROR(ProcessGroup::from_environment(), "ProcessGroup: RANK must be an integer in [0, 1], got '2'");
  }
  {
    const Environment no_port({{"WORLD_SIZE", "2"}, {"RANK", "0"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "x"}});
    EXPECT_ERROR(ProcessGroup::from_environment(),
                 "ProcessGroup: MASTER_PORT must be an integer in [1, 65535], got 'x'");
  }
}

// Two layers of which one is used only if asked for, and one never.
struct PartlyUsedImpl : torch::nn::Module {
  PartlyUsedImpl() {
    always = register_parameter("always", at::ones({3}));
    sometimes = register_parameter("sometimes", at::ones({2}));
    never = register_parameter("never", at::ones({4}));
  }
  at::Tensor loss(double scale, bool all) const {
    auto result = (always * scale).sum();
    return all ? result + (sometimes * scale).sum() : result;
  }
  at::Tensor always, sometimes, never;
};
TORCH_MODULE(PartlyUsed);

TEST(DataParallel, GradientsAreTheMeanAndUnusedParametersAreHandled) {
  for (const int64_t bucket_bytes : {1, 16, 1 << 20}) {
    for_ranks(2, [bucket_bytes](const std::shared_ptr<ProcessGroup>& group) {
      PartlyUsed net;
      DataParallel parallel(*net, group, {.bucket_bytes = bucket_bytes});
      for (int step = 0; step < 3; ++step) {
        net->zero_grad();
        net->loss(group->rank() == 0 ? 2 : 4, /*all=*/group->rank() == 1).backward();
        parallel.finish();
        EXPECT_TENSOR_EQ(net->always.grad(), at::full({3}, 3.0f));
        EXPECT_TENSOR_EQ(net->sometimes.grad(), at::full({2}, 2.0f));  // (0 + 4) / 2
        EXPECT_FALSE(net->never.grad().defined());
      }
    });
  }
}

TEST(DataParallel, BucketsHoldAboutTheBytesAsked) {
  for_ranks(2, [](const std::shared_ptr<ProcessGroup>& group) {
    PartlyUsed net;  // 12, 8 and 16 bytes, filled from the last
    EXPECT_EQ(DataParallel(*net, group, {.bucket_bytes = 1}).bucket_count(), 3);
    EXPECT_EQ(DataParallel(*net, group, {.bucket_bytes = 24}).bucket_count(), 2);
    EXPECT_EQ(DataParallel(*net, group, {.bucket_bytes = 36}).bucket_count(), 1);
  });
}

TEST(DataParallel, StartsFromTheWeightsOfProcessZero) {
  for_ranks(2, [](const std::shared_ptr<ProcessGroup>& group) {
    ToyNet net(static_cast<uint64_t>(10 + group->rank()));
    const DataParallel parallel(*net, group);
    EXPECT_TENSOR_EQ(flat_weights(*net), flat_weights(*ToyNet(10)));
  });
}

TEST(DataParallel, ASecondBackwardPassInAStepIsAnError) {
  for_ranks(2, [](const std::shared_ptr<ProcessGroup>& group) {
    PartlyUsed net;
    DataParallel parallel(*net, group);
    net->loss(1, true).backward();
    EXPECT_ERROR(net->loss(1, true).backward(), "DataParallel: a step must have one backward pass");
    parallel.finish();
  });
}

// The share of this rank in each batch of a source.
class Share {
 public:
  Share(int64_t batch, int64_t rank, int64_t size) : source_(batch), rank_(rank), size_(size) {}
  ToyBatch next() {
    const auto whole = source_.next();
    const auto part = whole.x.size(0) / size_;
    return {whole.x.narrow(0, rank_ * part, part), whole.y.narrow(0, rank_ * part, part)};
  }
  int64_t batches_per_epoch() const { return source_.batches_per_epoch(); }
  nlohmann::json state() const { return source_.state(); }
  void load_state(const nlohmann::json& state) { source_.load_state(state); }

 private:
  ToySource source_;
  int64_t rank_, size_;
};

TEST(DataParallel, TwoProcessesTrainToTheWeightsOfOne) {
  for (const int64_t accumulate : {1, 2}) {
    const TrainerOptions options{.steps = 10,
                                 .accumulate = accumulate,
                                 .clip_norm = 1,
                                 .schedule = {.lr = 0.02, .warmup = 0.2},
                                 .progress = false};
    ToyNet alone(7);
    FusedAdamW optimizer(weight_decay_groups(*alone, 0.05));
    ToySource source(6);
    Trainer(*alone, optimizer, options).fit(source, [&](const ToyBatch& b, StepContext& c) {
      return toy_loss(alone, b, c);
    });
    for_ranks(2, [&](const std::shared_ptr<ProcessGroup>& group) {
      ToyNet net(static_cast<uint64_t>(7 + group->rank()));
      FusedAdamW rank_optimizer(weight_decay_groups(*net, 0.05));
      Share share(6, group->rank(), group->size());
      Trainer trainer(*net, rank_optimizer, options);
      trainer.set_process_group(group);
      trainer.fit(share, [&](const ToyBatch& b, StepContext& c) { return toy_loss(net, b, c); });
      EXPECT_TENSOR_NEAR(flat_weights(*net), flat_weights(*alone), 1e-5);
    });
  }
}

TEST(DataParallel, ABadLossOfOneProcessEndsAllOfThem) {
  std::atomic<int> ended = 0;
  for_ranks(2, [&](const std::shared_ptr<ProcessGroup>& group) {
    ToyNet net(7);
    Sgd optimizer(weight_decay_groups(*net, 0.0));
    Share share(6, group->rank(), group->size());
    Trainer trainer(*net, optimizer, {.steps = 5, .schedule = {.lr = 0.01}, .progress = false});
    trainer.set_process_group(group);
    try {
      trainer.fit(share, [&](const ToyBatch& b, StepContext& c) {
        auto result = toy_loss(net, b, c);
        if (c.rank == 1 && c.step == 2) result.loss = result.loss * NAN;
        return result;
      });
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("at step 3 of 5"), std::string::npos) << error.what();
      ++ended;
    }
  });
  EXPECT_EQ(ended, 2);
}

TEST(DataParallel, ResumesToTheBitWithTheGeneratorsOfAllProcesses) {
  const testing::TemporaryFolder folder;
  const auto train = [&](const std::string& out, std::vector<int64_t> totals) {
    at::Tensor result;
    for (const auto total : totals) {
      for_ranks(2, [&](const std::shared_ptr<ProcessGroup>& group) {
        ToyNet net(7);
        FusedAdamW optimizer(weight_decay_groups(*net, 0.05));
        Share share(6, group->rank(), group->size());
        TrainerOptions options{.steps = total, .schedule = {.kind = ScheduleKind::constant, .lr = 0.01}};
        options.out = folder / out;
        options.progress = options.tensorboard = false;
        options.resume = Resume::automatic;
        Trainer trainer(*net, optimizer, options);
        trainer.set_process_group(group);
        trainer.fit(share, [&](const ToyBatch& b, StepContext& c) { return toy_loss(net, b, c, 0.1); });
        if (group->is_main()) result = flat_weights(*net);
        group->barrier();
      });
    }
    return result;
  };
  EXPECT_TENSOR_EQ(train("parts", {3, 8}), train("whole", {8}));
}

}  // namespace
}  // namespace winnow::train
