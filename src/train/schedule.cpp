#include "winnow/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "winnow/core/error.h"

namespace winnow::train {
namespace {

double clamp_time(const char* who, double t) {
  WINNOW_CHECK(!std::isnan(t), "{}: the time must be a number, got NaN", who);
  return std::max(t, 0.0);
}

void check_rate(const char* who, const char* name, double rate) {
  WINNOW_CHECK(std::isfinite(rate) && rate >= 0, "{}: {} must be finite and >= 0, got {}", who, name, rate);
}

void check_positive(const char* who, const char* name, double value) {
  WINNOW_CHECK(std::isfinite(value) && value > 0, "{}: {} must be finite and > 0, got {}", who, name, value);
}

void check_warmup(const char* who, double warmup, double total) {
  WINNOW_CHECK(std::isfinite(warmup) && warmup >= 0, "{}: warmup must be finite and >= 0, got {}", who, warmup);
  WINNOW_CHECK(std::isfinite(total) && total > warmup, "{}: total must be > warmup = {}, got {}", who, warmup, total);
}

// From `high` at share 0 to `low` at share 1 along half a cosine.
double cosine(double high, double low, double share) {
  return low + (high - low) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

}  // namespace

Schedule in_epochs(Schedule schedule, double steps_per_epoch) {
  WINNOW_CHECK(schedule != nullptr, "in_epochs: schedule must be set");
  check_positive("in_epochs", "steps_per_epoch", steps_per_epoch);
  return [schedule = std::move(schedule), steps_per_epoch](double step) { return schedule(step / steps_per_epoch); };
}

double scaled_lr(double blr, int64_t batch) {
  check_rate("scaled_lr", "blr", blr);
  WINNOW_CHECK(batch >= 1, "scaled_lr: batch must be >= 1, got {}", batch);
  return blr * static_cast<double>(batch) / 256;
}

double ConstantLr::operator()(double t) const {
  check_rate("ConstantLr", "lr", lr);
  clamp_time("ConstantLr", t);
  return lr;
}

double StepLr::operator()(double t) const {
  check_rate("StepLr", "lr", lr);
  check_positive("StepLr", "every", every);
  check_positive("StepLr", "factor", factor);
  return lr * std::pow(factor, std::floor(clamp_time("StepLr", t) / every));
}

double MultiStepLr::operator()(double t) const {
  check_rate("MultiStepLr", "lr", lr);
  check_positive("MultiStepLr", "factor", factor);
  WINNOW_CHECK(std::is_sorted(milestones.begin(), milestones.end()), "MultiStepLr: milestones must be ascending");
  const auto passed = std::upper_bound(milestones.begin(), milestones.end(), clamp_time("MultiStepLr", t));
  return lr * std::pow(factor, static_cast<double>(passed - milestones.begin()));
}

double LinearLr::operator()(double t) const {
  check_rate("LinearLr", "lr", lr);
  check_rate("LinearLr", "end_lr", end_lr);
  check_positive("LinearLr", "total", total);
  return std::lerp(lr, end_lr, std::min(clamp_time("LinearLr", t) / total, 1.0));
}

double CosineLr::operator()(double t) const {
  check_rate("CosineLr", "lr", lr);
  check_rate("CosineLr", "min_lr", min_lr);
  check_positive("CosineLr", "total", total);
  return cosine(lr, min_lr, std::min(clamp_time("CosineLr", t) / total, 1.0));
}

double WarmupCosine::operator()(double t) const {
  check_rate("WarmupCosine", "lr", lr);
  check_rate("WarmupCosine", "min_lr", min_lr);
  check_warmup("WarmupCosine", warmup, total);
  const double time = clamp_time("WarmupCosine", t);
  if (time < warmup) return lr * time / warmup;
  return cosine(lr, min_lr, std::min((time - warmup) / (total - warmup), 1.0));
}

double OneCycle::operator()(double t) const {
  check_rate("OneCycle", "lr", lr);
  check_positive("OneCycle", "total", total);
  WINNOW_CHECK(rise >= 0 && rise <= 1, "OneCycle: rise must be in [0, 1], got {}", rise);
  WINNOW_CHECK(div >= 1, "OneCycle: div must be >= 1, got {}", div);
  WINNOW_CHECK(final_div >= 1, "OneCycle: final_div must be >= 1, got {}", final_div);
  const double time = std::min(clamp_time("OneCycle", t), total);
  const double peak = rise * total;
  if (time < peak) return cosine(lr / div, lr, time / peak);
  const double fall = total - peak;
  return cosine(lr, lr / (div * final_div), fall > 0 ? (time - peak) / fall : 0.0);
}

double InverseSqrt::operator()(double t) const {
  check_rate("InverseSqrt", "lr", lr);
  WINNOW_CHECK(std::isfinite(warmup) && warmup >= 0, "InverseSqrt: warmup must be finite and >= 0, got {}", warmup);
  const double time = clamp_time("InverseSqrt", t);
  if (time < warmup) return lr * time / warmup;
  return warmup > 0 ? lr * std::sqrt(warmup / time) : lr / std::sqrt(std::max(time, 1.0));
}

double PolynomialLr::operator()(double t) const {
  check_rate("PolynomialLr", "lr", lr);
  check_rate("PolynomialLr", "end_lr", end_lr);
  check_positive("PolynomialLr", "power", power);
  check_warmup("PolynomialLr", warmup, total);
  const double time = clamp_time("PolynomialLr", t);
  if (time < warmup) return lr * time / warmup;
  const double left = 1 - std::min((time - warmup) / (total - warmup), 1.0);
  return end_lr + (lr - end_lr) * std::pow(left, power);
}

double ChainedLr::operator()(double t) const {
  WINNOW_CHECK(!parts.empty(), "ChainedLr: there must be at least one part");
  const double time = clamp_time("ChainedLr", t);
  double begin = 0;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    WINNOW_CHECK(parts[i].until >= begin, "ChainedLr: until must be ascending, got {} after {}", parts[i].until, begin);
    if (time < parts[i].until) return parts[i].schedule(time - begin);
    begin = parts[i].until;
  }
  return parts.back().schedule(time - begin);
}

Fields<ScheduleOptions> ScheduleOptions::fields() {
  return Fields<ScheduleOptions>("Schedule")
      .add("kind", &ScheduleOptions::kind, "course of the learning rate over the run")
      .add("lr", &ScheduleOptions::lr, "highest learning rate", at_least(0))
      .add("min_lr", &ScheduleOptions::min_lr, "last rate of linear, cosine and polynomial", at_least(0))
      .add("warmup", &ScheduleOptions::warmup, "share of the run that rises linearly from 0 (one_cycle: the rise)",
           in_range(0, 1, Ends::right_open))
      .add("factor", &ScheduleOptions::factor, "of step and multi_step, at each fall", above(0))
      .add("milestones", &ScheduleOptions::milestones,
           "multi_step: shares of the run at which the rate falls; step: one, the length of a level",
           in_range(0, 1, Ends::open))
      .add("power", &ScheduleOptions::power, "of polynomial", above(0))
      .rule([](const ScheduleOptions& o) {
        WINNOW_CHECK(o.kind != ScheduleKind::step || o.milestones.size() == 1,
                     "Schedule: milestones must be one share of the run with kind step, got {} values",
                     o.milestones.size());
        WINNOW_CHECK(o.kind != ScheduleKind::multi_step || !o.milestones.empty(),
                     "Schedule: milestones must be given with kind multi_step");
        WINNOW_CHECK(std::is_sorted(o.milestones.begin(), o.milestones.end()),
                     "Schedule: milestones must be ascending");
      });
}

Schedule make_schedule(const ScheduleOptions& options, double total) {
  check(options);
  check_positive("make_schedule", "total", total);
  const double warmup = options.warmup * total;
  const double rest = total - warmup;
  Schedule main;
  switch (options.kind) {
    case ScheduleKind::one_cycle: return OneCycle{.lr = options.lr, .total = total, .rise = options.warmup};
    case ScheduleKind::inverse_sqrt: return InverseSqrt{.lr = options.lr, .warmup = warmup};
    case ScheduleKind::cosine:
      return WarmupCosine{.lr = options.lr, .min_lr = options.min_lr, .warmup = warmup, .total = total};
    case ScheduleKind::polynomial:
      return PolynomialLr{
          .lr = options.lr, .end_lr = options.min_lr, .power = options.power, .warmup = warmup, .total = total};
    case ScheduleKind::constant: main = ConstantLr{.lr = options.lr}; break;
    case ScheduleKind::linear: main = LinearLr{.lr = options.lr, .end_lr = options.min_lr, .total = rest}; break;
    case ScheduleKind::step:
      main = StepLr{.lr = options.lr, .every = options.milestones[0] * total, .factor = options.factor};
      break;
    case ScheduleKind::multi_step: {
      auto milestones = options.milestones;
      for (auto& milestone : milestones) milestone = milestone * total - warmup;
      main = MultiStepLr{.lr = options.lr, .milestones = milestones, .factor = options.factor};
      break;
    }
  }
  if (warmup == 0) return main;
  return ChainedLr{.parts = {{LinearLr{.lr = 0, .end_lr = options.lr, .total = warmup}, warmup}, {main, total}}};
}

}  // namespace winnow::train
