#include "winnow/train/schedule.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <string>

#include "support/error.h"
#include "support/golden.h"

namespace winnow::train {
namespace {

using testing::golden::Case;

TEST(Schedule, LinearScalingRule) {
  EXPECT_DOUBLE_EQ(scaled_lr(1.5e-4, 4096), 2.4e-3);
  EXPECT_DOUBLE_EQ(scaled_lr(0.1, 64), 0.025);
}

TEST(Schedule, WarmupCosineAtThePointsOfThePaper) {
  const WarmupCosine lr{.lr = 2.4e-3, .warmup = 40, .total = 800};
  EXPECT_DOUBLE_EQ(lr(0), 0);
  EXPECT_DOUBLE_EQ(lr(20), 1.2e-3);
  EXPECT_DOUBLE_EQ(lr(40), 2.4e-3);
  EXPECT_NEAR(lr(420), 1.2e-3, 1e-15);
  EXPECT_NEAR(lr(800), 0, 1e-18);
}

TEST(Schedule, WarmupOfZeroStartsAtThePeak) {
  EXPECT_DOUBLE_EQ((WarmupCosine{.lr = 0.3, .min_lr = 0.01, .warmup = 0, .total = 20})(0), 0.3);
  EXPECT_DOUBLE_EQ((InverseSqrt{.lr = 0.3})(0), 0.3);
  EXPECT_DOUBLE_EQ((PolynomialLr{.lr = 0.3, .total = 5})(0), 0.3);
  for (const auto kind : {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::polynomial,
                          ScheduleKind::inverse_sqrt}) {
    EXPECT_DOUBLE_EQ(make_schedule({.kind = kind, .lr = 0.3}, 10)(0), 0.3) << enum_name(kind);
  }
}

TEST(Schedule, ConstantStepAndMultiStep) {
  EXPECT_DOUBLE_EQ(ConstantLr{.lr = 0.2}(1e9), 0.2);
  const StepLr step{.lr = 1, .every = 10, .factor = 0.5};
  EXPECT_DOUBLE_EQ(step(0), 1);
  EXPECT_DOUBLE_EQ(step(9.999), 1);
  EXPECT_DOUBLE_EQ(step(10), 0.5);
  EXPECT_DOUBLE_EQ(step(35), 0.125);
  const MultiStepLr multi{.lr = 1, .milestones = {3, 5, 5}, .factor = 0.1};
  EXPECT_DOUBLE_EQ(multi(2.9), 1);
  EXPECT_DOUBLE_EQ(multi(3), 0.1);
  EXPECT_NEAR(multi(5), 1e-3, 1e-18);  // two milestones at once
}

TEST(Schedule, LinearAndCosineAtQuarters) {
  const LinearLr line{.lr = 1, .end_lr = 0.2, .total = 8};
  EXPECT_DOUBLE_EQ(line(0), 1);
  EXPECT_DOUBLE_EQ(line(2), 0.8);
  EXPECT_DOUBLE_EQ(line(8), 0.2);
  const CosineLr cosine{.lr = 1, .min_lr = 0.5, .total = 6};
  EXPECT_DOUBLE_EQ(cosine(0), 1);
  EXPECT_NEAR(cosine(2), 0.5 + 0.25 * 1.5, 1e-15);  // cos 60 degrees = 1/2
  EXPECT_NEAR(cosine(3), 0.75, 1e-15);
  EXPECT_DOUBLE_EQ(cosine(6), 0.5);
}

TEST(Schedule, OneCycleRisesFromTheStartToThePeakAndFallsToTheEnd) {
  const OneCycle lr{.lr = 1, .total = 100, .rise = 0.4, .div = 10, .final_div = 100};
  EXPECT_NEAR(lr(0), 0.1, 1e-15);
  EXPECT_NEAR(lr(20), 0.55, 1e-15);  // half way up
  EXPECT_NEAR(lr(40), 1, 1e-15);
  EXPECT_NEAR(lr(70), (1 + 0.001) / 2, 1e-15);  // half way down
  EXPECT_NEAR(lr(100), 0.001, 1e-15);
  EXPECT_NEAR((OneCycle{.lr = 1, .total = 10, .rise = 0})(0), 1, 1e-15);
  EXPECT_NEAR((OneCycle{.lr = 1, .total = 10, .rise = 1})(10), 1, 1e-15);
}

TEST(Schedule, InverseSqrtAndPolynomial) {
  const InverseSqrt root{.lr = 1, .warmup = 100};
  EXPECT_DOUBLE_EQ(root(25), 0.25);
  EXPECT_DOUBLE_EQ(root(100), 1);
  EXPECT_DOUBLE_EQ(root(400), 0.5);
  const PolynomialLr square{.lr = 1, .end_lr = 0.1, .power = 2, .warmup = 2, .total = 12};
  EXPECT_DOUBLE_EQ(square(1), 0.5);
  EXPECT_DOUBLE_EQ(square(2), 1);
  EXPECT_NEAR(square(7), 0.1 + 0.9 * 0.25, 1e-15);
  EXPECT_DOUBLE_EQ(square(12), 0.1);
}

TEST(Schedule, ChainedPartsHaveTheirOwnClock) {
  const ChainedLr chained{.parts = {{LinearLr{.lr = 0, .end_lr = 1, .total = 10}, 10},
                                    {StepLr{.lr = 1, .every = 5, .factor = 0.5}, 20},
                                    {ConstantLr{.lr = 0.01}, 0}}};
  EXPECT_DOUBLE_EQ(chained(5), 0.5);
  EXPECT_DOUBLE_EQ(chained(10), 1);
  EXPECT_DOUBLE_EQ(chained(15), 0.5);
  EXPECT_DOUBLE_EQ(chained(20), 0.01);
  EXPECT_DOUBLE_EQ(chained(1e6), 0.01);
}

TEST(Schedule, AfterTheEndTheLastValueStaysAndBeforeTheStartTheFirst) {
  const std::vector<std::pair<Schedule, double>> schedules = {
      {LinearLr{.lr = 1, .end_lr = 0.2, .total = 8}, 8},
      {CosineLr{.lr = 1, .min_lr = 0.1, .total = 8}, 8},
      {WarmupCosine{.lr = 1, .min_lr = 0.1, .warmup = 2, .total = 8}, 8},
      {OneCycle{.lr = 1, .total = 8}, 8},
      {PolynomialLr{.lr = 1, .end_lr = 0.1, .warmup = 2, .total = 8}, 8}};
  for (const auto& [schedule, total] : schedules) {
    EXPECT_DOUBLE_EQ(schedule(total + 100), schedule(total));
    EXPECT_DOUBLE_EQ(schedule(-3), schedule(0));
  }
}

TEST(Schedule, InEpochsCountsFractionsOfAnEpoch) {
  const auto lr = in_epochs(WarmupCosine{.lr = 1, .warmup = 2, .total = 10}, 50);
  EXPECT_DOUBLE_EQ(lr(25), 0.25);  // half an epoch of the two
  EXPECT_DOUBLE_EQ(lr(100), 1);
}

TEST(Schedule, OptionsAreSharesOfTheRun) {
  const auto cosine = make_schedule({.kind = ScheduleKind::cosine, .lr = 2, .warmup = 0.1}, 200);
  EXPECT_DOUBLE_EQ(cosine(10), 1);
  EXPECT_DOUBLE_EQ(cosine(20), 2);
  EXPECT_NEAR(cosine(110), 1, 1e-15);
  const auto linear = make_schedule({.kind = ScheduleKind::linear, .lr = 2, .min_lr = 1, .warmup = 0.5}, 200);
  EXPECT_DOUBLE_EQ(linear(50), 1);
  EXPECT_DOUBLE_EQ(linear(150), 1.5);
  const auto multi =
      make_schedule({.kind = ScheduleKind::multi_step, .lr = 2, .warmup = 0.1, .milestones = {0.5, 0.75}}, 200);
  EXPECT_DOUBLE_EQ(multi(10), 1);
  EXPECT_DOUBLE_EQ(multi(99), 2);
  EXPECT_DOUBLE_EQ(multi(100), 0.2);
  EXPECT_NEAR(multi(150), 0.02, 1e-16);
  const auto step = make_schedule({.kind = ScheduleKind::step, .lr = 2, .factor = 0.5, .milestones = {0.25}}, 200);
  EXPECT_DOUBLE_EQ(step(49), 2);
  EXPECT_DOUBLE_EQ(step(100), 0.5);
  const auto constant = make_schedule({.kind = ScheduleKind::constant, .lr = 2, .warmup = 0.5}, 200);
  EXPECT_DOUBLE_EQ(constant(50), 1);
  EXPECT_DOUBLE_EQ(constant(150), 2);
}

TEST(Schedule, BadArgumentsAreNamed) {
  EXPECT_ERROR((WarmupCosine{.lr = 1, .warmup = 5, .total = 5})(0), "WarmupCosine: total must be > warmup = 5, got 5");
  EXPECT_ERROR((WarmupCosine{.lr = -1, .total = 5})(0), "WarmupCosine: lr must be finite and >= 0, got -1");
  EXPECT_ERROR((WarmupCosine{.lr = 1, .total = 5})(NAN), "WarmupCosine: the time must be a number, got NaN");
  EXPECT_ERROR((StepLr{.lr = 1, .every = 0})(0), "StepLr: every must be finite and > 0, got 0");
  EXPECT_ERROR((MultiStepLr{.lr = 1, .milestones = {3, 2}})(0), "MultiStepLr: milestones must be ascending");
  EXPECT_ERROR((OneCycle{.lr = 1, .total = 5, .rise = 2})(0), "OneCycle: rise must be in [0, 1], got 2");
  EXPECT_ERROR(ChainedLr{}(0), "ChainedLr: there must be at least one part");
  EXPECT_ERROR(scaled_lr(1, 0), "scaled_lr: batch must be >= 1, got 0");
  EXPECT_ERROR(make_schedule({.kind = ScheduleKind::step}, 10),
               "milestones must be one share of the run with kind step");
  EXPECT_ERROR(make_schedule({.warmup = 1}, 10), "Schedule: warmup must be in [0, 1), got 1");
  EXPECT_ERROR(make_schedule({}, 0), "make_schedule: total must be finite and > 0, got 0");
}

TEST(ScheduleGolden, RatesMatchTheOfficialCode) {
  testing::golden::for_each(
      "mae", "schedule",
      [](const Case& c) {
        const auto epochs = c["in.epoch"];
        for (const auto& name : c.names("in.lr_min_warm_total")) {
          const auto number = name.substr(std::string("in.lr_min_warm_total").size());
          const auto setting = c[name];
          const auto value = [&](int64_t i) { return setting[i].item<double>(); };
          const WarmupCosine schedule{.lr = value(0), .min_lr = value(1), .warmup = value(2), .total = value(3)};
          std::vector<double> rates;
          for (int64_t i = 0; i < epochs.size(0); ++i) {
            const double epoch = epochs[i].item<double>();
            if (epoch > schedule.total) continue;
            const double lr = schedule(epoch);
            rates.insert(rates.end(), {lr, lr * 0.3});  // without and with the lr_scale of a group
          }
          c.expect("out.lr" + number, at::tensor(rates, at::kDouble).view({-1, 2}));
        }
      },
      {.rtol = 1e-10, .atol = 1e-12});
}

}  // namespace
}  // namespace winnow::train
