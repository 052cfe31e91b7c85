// Learning-rate schedules: pure functions of the time t, in the unit that the caller counts in (optimiser steps or,
// fractional, epochs). A schedule has no state: resuming needs nothing but t. Times before 0 count as 0; after the end
// a schedule keeps its last value. Built with designated initialisers:
//
//     const Schedule lr = WarmupCosine{.lr = scaled_lr(1.5e-4, batch), .min_lr = 0, .warmup = 40, .total = 800};
//     lr(20.0);  // half of the peak
//
// Each call throws winnow::Error if a field is out of the range stated beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "winnow/core/options.h"

namespace winnow::train {

using Schedule = std::function<double(double t)>;

// The same rates for a schedule counted in epochs, over steps: t -> schedule(t / steps_per_epoch). steps_per_epoch > 0.
Schedule in_epochs(Schedule schedule, double steps_per_epoch);

// blr * batch / 256: the linear scaling rule. `batch` is the effective one: per process x processes x accumulation.
double scaled_lr(double blr, int64_t batch);

struct ConstantLr {
  double lr;
  double operator()(double t) const;
};

// lr * factor^floor(t / every).
struct StepLr {
  double lr;
  double every;         // > 0
  double factor = 0.1;  // > 0
  double operator()(double t) const;
};

// lr * factor^(number of milestones <= t).
struct MultiStepLr {
  double lr;
  std::vector<double> milestones;  // ascending
  double factor = 0.1;             // > 0
  double operator()(double t) const;
};

// From lr at 0 in a straight line to end_lr at total.
struct LinearLr {
  double lr;
  double end_lr;
  double total;  // > 0
  double operator()(double t) const;
};

// min_lr + (lr - min_lr) (1 + cos(pi t / total)) / 2.
struct CosineLr {
  double lr;
  double min_lr = 0;
  double total;  // > 0
  double operator()(double t) const;
};

// t < warmup: lr t / warmup; then a cosine from lr at `warmup` to min_lr at `total`. warmup = 0: no ramp.
// The per-iteration schedule of MAE, with t = epoch + iteration / iterations per epoch.
struct WarmupCosine {
  double lr;
  double min_lr = 0;
  double warmup = 0;  // >= 0
  double total;       // > warmup
  double operator()(double t) const;
};

// Cosine rise from lr / div to lr over the first `rise` of total, then cosine fall to lr / (div * final_div).
// Source: Smith and Topin, arXiv 1708.07120.
struct OneCycle {
  double lr;
  double total;            // > 0
  double rise = 0.3;       // in [0, 1]
  double div = 25;         // >= 1
  double final_div = 1e4;  // >= 1
  double operator()(double t) const;
};

// t < warmup: lr t / warmup; then lr sqrt(warmup / t); warmup = 0: lr / sqrt(max(t, 1)).
// Source: Vaswani et al., arXiv 1706.03762, section 5.3, scaled to the peak.
struct InverseSqrt {
  double lr;
  double warmup = 0;  // >= 0
  double operator()(double t) const;
};

// t < warmup: lr t / warmup; then end_lr + (lr - end_lr) (1 - (t - warmup) / (total - warmup))^power.
struct PolynomialLr {
  double lr;
  double end_lr = 0;
  double power = 1;   // > 0
  double warmup = 0;  // >= 0
  double total;       // > warmup
  double operator()(double t) const;
};

// Schedules one after the other: part i runs until parts[i].until, with its own time starting at 0 where it begins. The
// last part runs on: its `until` is ignored.
struct ChainedLr {
  struct Part {
    Schedule schedule;
    double until;  // ascending
  };
  std::vector<Part> parts;  // at least one
  double operator()(double t) const;
};

enum class ScheduleKind { constant, step, multi_step, linear, cosine, one_cycle, inverse_sqrt, polynomial };

inline EnumNames<ScheduleKind> enum_names(ScheduleKind) {
  return {{"constant", ScheduleKind::constant},
          {"step", ScheduleKind::step},
          {"multi_step", ScheduleKind::multi_step},
          {"linear", ScheduleKind::linear},
          {"cosine", ScheduleKind::cosine},
          {"one_cycle", ScheduleKind::one_cycle},
          {"inverse_sqrt", ScheduleKind::inverse_sqrt},
          {"polynomial", ScheduleKind::polynomial}};
}

// A schedule as it stands in a configuration file. `warmup` and `milestones` are shares of the run, so that a shorter
// run keeps its shape.
struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::cosine;
  double lr = 1e-3;     // peak
  double min_lr = 0;    // last value of linear, cosine, polynomial
  double warmup = 0;    // [0, 1): share of the run that rises linearly from 0; of one_cycle: the rise
  double factor = 0.1;  // of step and multi_step
  std::vector<double> milestones =
      {};            // of multi_step: shares of the run, ascending; of step: one share, the length of a level
  double power = 1;  // of polynomial
  static Fields<ScheduleOptions> fields();
};

// The schedule over t in [0, total], total > 0 in any unit.
Schedule make_schedule(const ScheduleOptions& options, double total);

}  // namespace winnow::train
