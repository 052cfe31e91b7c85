#include "bench.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "winnow/core/atomic_file.h"
#include "winnow/core/program.h"
#include "winnow/core/version.h"

namespace winnow::bench {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(place);
  const auto high = std::min(low + 1, values.size() - 1);
  return values[low] + (place - static_cast<double>(low)) * (values[high] - values[low]);
}

double seconds_of(const Side& side, int64_t calls) {
  if (side.timed) {
    return side.timed(calls) / static_cast<double>(calls);
  }
  const double start = now();
  for (int64_t i = 0; i < calls; ++i) {
    side.work();
  }
  return (now() - start) / static_cast<double>(calls);
}

// Calls per sample so that a sample lasts min_seconds; also the warm-up.
int64_t calls_for(const Side& side, double min_seconds) {
  seconds_of(side, 1);
  const double once = std::max(seconds_of(side, 1), 1e-7);
  return std::max<int64_t>(1, static_cast<int64_t>(min_seconds / once));
}

}  // namespace

double Report::time_ms(const std::function<void()>& work, int64_t rounds, double min_seconds) {
  const Side side{.label = "", .work = work};
  const int64_t calls = calls_for(side, smoke_ ? 0 : min_seconds);
  std::vector<double> times;
  for (int64_t i = 0; i < (smoke_ ? 1 : rounds); ++i) {
    times.push_back(1e3 * seconds_of(side, calls));
  }
  return quantile(times, 0.5);
}

Comparison Report::measure(const std::string& name, const Side& ours, const Side& other, const CompareOptions& options,
                           int64_t threads) {
  const double min_seconds = smoke_ ? 0 : options.min_seconds;
  const int64_t our_calls = calls_for(ours, min_seconds);
  const int64_t other_calls = calls_for(other, min_seconds);
  std::vector<double> our_times, other_times, ratios;
  double cpu = 0, wall = 0;
  // Beside a busy neighbour two threads wait for each other: a third of the rounds is enough to see that.
  const int64_t rounds = smoke_ ? 1 : threads == 1 ? options.rounds : (options.rounds + 2) / 3;
  for (int64_t round = 0; round < rounds; ++round) {
    const double cpu_start = cpu_seconds(), start = now();
    our_times.push_back(seconds_of(ours, our_calls));
    cpu += cpu_seconds() - cpu_start;
    wall += now() - start;
    other_times.push_back(seconds_of(other, other_calls));
    ratios.push_back(other_times.back() / our_times.back());
  }
  return {.name = name,
          .threads = threads,
          .ours = ours.label,
          .other = other.label,
          .our_ms = 1e3 * quantile(our_times, 0.5),
          .other_ms = 1e3 * quantile(other_times, 0.5),
          .ratio = quantile(ratios, 0.5),
          .low = quantile(ratios, 0.25),
          .high = quantile(ratios, 0.75),
          .cpu_per_wall = cpu / wall,
          .target = options.target};
}

Comparison Report::compare(const std::string& name, const Side& ours, const Side& other,
                           const CompareOptions& options) {
  Comparison decides;
  for (const int threads : {1, 2}) {
    if (threads == 2 && (!options.two_threads || smoke_ || one_thread_)) {
      break;
    }
    at::set_num_threads(threads);
    for (const Side* side : {&ours, &other}) {
      if (side->set_threads) {
        side->set_threads(threads);
      }
    }
    const auto result = measure(name, ours, other, options, threads);
    const char* verdict = threads == 2                    ? (result.cpu_per_wall < 1.8 ? "noisy" : "")
                          : result.target == 0            ? ""
                          : result.ratio >= result.target ? "met"
                                                          : "MISSED";
    fmt::print(
        "{:<44} {}t  {:>10} {:9.3f} ms  {:>14} {:9.3f} ms  ratio {:5.2f} [{:.2f}, {:.2f}]{} cpu/wall {:.2f} {}\n", name,
        threads, result.ours, result.our_ms, result.other, result.other_ms, result.ratio, result.low, result.high,
        result.target > 0 ? fmt::format(" want {:.2f}", result.target) : "", result.cpu_per_wall, verdict);
    std::fflush(stdout);
    if (threads == 1) {
      decides = result;
    }
    comparisons_.push_back(result);
  }
  at::set_num_threads(1);
  return decides;
}

void Report::note(const std::string& name, double value) {
  fmt::print("{:<60} {:.4g}\n", name, value);
  notes_.emplace_back(name, value);
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 2);
    }
  }
  return "unknown processor";
}

// Four independent sums of vectors, so that neither latency nor the width of a register limits it.
float vector_sum(const float* data, int64_t begin, int64_t end) {
  using Vector = float __attribute__((vector_size(32), aligned(4)));
  Vector sums[4] = {};
  for (int64_t i = begin; i + 32 <= end; i += 32) {
    for (int64_t j = 0; j < 4; ++j) {
      sums[j] += *reinterpret_cast<const Vector*>(data + i + 8 * j);
    }
  }
  const Vector total = sums[0] + sums[1] + sums[2] + sums[3];
  return total[0] + total[1] + total[2] + total[3] + total[4] + total[5] + total[6] + total[7];
}

double read_bandwidth() {
  const auto data = at::ones({64 << 20}, at::kFloat);
  const auto* values = data.const_data_ptr<float>();
  std::vector<double> rates;
  for (int i = 0; i < 5; ++i) {
    const double start = now();
    at::parallel_for(0, data.numel(), data.numel() / at::get_num_threads(),
                     [&](int64_t begin, int64_t end) { keep(vector_sum(values, begin, end)); });
    rates.push_back(static_cast<double>(data.nbytes()) / (now() - start) * 1e-9);
  }
  return quantile(rates, 0.5);
}

double gemm_peak() {
  const auto a = at::ones({1024, 1024}), b = at::ones({1024, 1024});
  std::vector<double> rates;
  for (int i = 0; i < 9; ++i) {
    const double start = now();
    keep(at::mm(a, b));
    rates.push_back(2.0 * 1024 * 1024 * 1024 / (now() - start) * 1e-9);
  }
  return quantile(rates, 0.5);
}

int run(const std::string& name, int argc, char** argv, const std::function<void(Report&)>& body) {
  Report report;
  std::string json_file;
  const ProgramInfo info{.name = name + "_bench",
                         .summary = "Measures ratios side by side in one run; one thread decides.",
                         .arguments = {{"--json", &json_file, "also write the figures to this file"},
                                       {"--smoke", &report.smoke_, "one round of each, to see that it works"},
                                       {"--only", &report.only_, "only the parts whose name holds this text"},
                                       {"--one-thread", &report.one_thread_, "leave out the figures of two threads"}}};
  return run_program(argc, argv, info, [&](Config&) {
    at::set_num_threads(1);
    fmt::print("{} {} on {}\n", name, version(), processor_name());
    body(report);
    if (!json_file.empty()) {
      nlohmann::json out = {{"benchmark", name}, {"processor", processor_name()}, {"version", std::string(version())}};
      for (const auto& c : report.comparisons_) {
        out["comparisons"].push_back({{"name", c.name},
                                      {"threads", c.threads},
                                      {"ours", c.ours},
                                      {"other", c.other},
                                      {"our_ms", c.our_ms},
                                      {"other_ms", c.other_ms},
                                      {"ratio", c.ratio},
                                      {"ratio_quartiles", {c.low, c.high}},
                                      {"cpu_per_wall", c.cpu_per_wall},
                                      {"target", c.target}});
      }
      for (const auto& [key, value] : report.notes_) {
        out["notes"][key] = value;
      }
      write_file(json_file, out.dump(2) + "\n");
    }
    return 0;
  });
}

}  // namespace winnow::bench
