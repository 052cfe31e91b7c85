#include "claims.h"

#include <ATen/Parallel.h>
#include <fmt/core.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <numeric>

#include "winnow/core/error.h"
#include "winnow/core/log.h"
#include "winnow/core/program.h"
#include "winnow/core/version.h"
#include "winnow/io/json.h"

namespace winnow::claims {

void Table::at_most(const std::string& name, double value, double mark, double baseline) {
  add(name, value, Rule::at_most, mark, baseline);
}
void Table::at_least(const std::string& name, double value, double mark, double baseline) {
  add(name, value, Rule::at_least, mark, baseline);
}
void Table::report(const std::string& name, double value) {
  add(name, value, Rule::report, 0, 0);
}

void Table::add(const std::string& name, double value, Rule rule, double mark, double baseline) {
  log_info("  {}: {:.4f}", name, value);
  for (auto& row : rows_) {
    if (row.name != name) continue;
    WINNOW_CHECK(row.rule == rule && row.mark == mark && row.baseline == baseline,
                 "claims: row \"{}\" must have one mark for all seeds", name);
    row.values.push_back(value);
    return;
  }
  rows_.push_back({.name = name, .rule = rule, .mark = mark, .baseline = baseline, .values = {value}});
}

double Table::Row::mean() const {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Table::Row::spread() const {
  if (values.size() < 2) return 0;
  double sum = 0;
  for (const auto value : values) sum += (value - mean()) * (value - mean());
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

bool Table::Row::passes() const {
  if (rule == Rule::report) return true;
  if (!std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); })) return false;
  const auto better = [&](double value, double limit) {
    return rule == Rule::at_most ? value <= limit : value >= limit;
  };
  return better(mean(), mark) &&
         std::all_of(values.begin(), values.end(), [&](double value) { return better(value, baseline); });
}

bool Table::passes() const {
  return std::all_of(rows_.begin(), rows_.end(), [](const Row& row) { return row.passes(); });
}

namespace {

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string today() {
  const auto now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d", std::gmtime(&now));
  return text;
}

const char* rule_text(Table::Rule rule) {
  return rule == Table::Rule::at_most ? "<=" : rule == Table::Rule::at_least ? ">=" : "";
}

void print(const Table& table) {
  fmt::print("{:<58} {:>10} {:>9}  {:<12} {}\n", "", "mean", "spread", "mark", "");
  for (const auto& row : table.rows()) {
    const auto mark = row.rule == Table::Rule::report ? "" : fmt::format("{} {:.4g}", rule_text(row.rule), row.mark);
    const auto verdict = row.rule == Table::Rule::report ? "" : row.passes() ? "pass" : "FAIL";
    fmt::print("{:<58} {:>10.4f} {:>9.4f}  {:<12} {}\n", row.name, row.mean(), row.spread(), mark, verdict);
  }
}

io::Json to_json(const Table& table) {
  auto rows = io::Json::array();
  for (const auto& row : table.rows()) {
    io::Json entry = {{"name", row.name}, {"mean", row.mean()}, {"spread", row.spread()}, {"values", row.values}};
    if (row.rule != Table::Rule::report) {
      entry["rule"] = rule_text(row.rule);
      entry["mark"] = row.mark;
      entry["baseline"] = row.baseline;
      entry["pass"] = row.passes();
    }
    rows.push_back(std::move(entry));
  }
  return rows;
}

}  // namespace

int run(const std::string& name, int argc, char** argv, const Experiment& experiment, const About& about) {
  bool quick = false;
  int64_t seeds = about.seeds, first = 0, threads = 1;
  std::string json;
  ProgramInfo info{.name = name + "_claim",
                   .summary = about.claim + (about.minutes.empty() ? "" : " " + about.minutes + "."),
                   .arguments = {{"--seeds", &seeds, "number of seeds"},
                                 {"--first-seed", &first, "the first of them; 0: 1, or that of the quick run"},
                                 {"--quick", &quick, "one seed, few steps, looser marks"},
                                 {"--json", &json, "write the result to this file"}},
                   .set_threads = [&](int64_t n) { threads = n; }};
  return run_program(argc, argv, info, [&](Config&) {
    if (seeds < 1) throw UsageError(fmt::format("--seeds must be >= 1, got {}", seeds));
    if (first < 0) throw UsageError(fmt::format("--first-seed must be >= 0, got {}", first));
    at::set_num_threads(static_cast<int>(threads));
    if (quick) seeds = 1;
    if (first == 0) first = quick ? about.quick_seed : 1;
    const auto start = std::chrono::steady_clock::now();
    Table table(quick);
    for (int64_t i = 0; i < seeds; ++i) {
      log_info("{}: seed {} ({} of {})", name, first + i, i + 1, seeds);
      experiment(static_cast<uint64_t>(first + i), table);
      throw_if_stopped();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print("{}, {} seed{}{}, {}, {} thread{}, {}, {:.0f} s\n", name, seeds, seeds == 1 ? "" : "s",
               quick ? " (quick)" : "", processor(), threads, threads == 1 ? "" : "s", today(), seconds.count());
    print(table);
    if (!json.empty()) {
      io::write_json(json, {{"claim", name},
                            {"about", about.claim},
                            {"quick", quick},
                            {"seeds", seeds},
                            {"first_seed", first},
                            {"processor", processor()},
                            {"threads", threads},
                            {"date", today()},
                            {"seconds", seconds.count()},
                            {"winnow", version()},
                            {"libtorch", TORCH_VERSION},
                            {"pass", table.passes()},
                            {"rows", to_json(table)}});
    }
    if (table.passes()) return 0;
    log_error("{}: the claim does not hold in this run", name);
    return 1;
  });
}

}  // namespace winnow::claims
