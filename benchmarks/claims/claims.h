// The frame of a claim experiment: seeds, marks, mean and spread, JSON.
//
//   int main(int argc, char** argv) {
//     return claims::run("topk_sae", argc, argv, [](uint64_t seed, claims::Table& table) {
//       ...
//       table.at_most("FVU, topk / relu", topk.fvu / relu.fvu, 0.5);
//       table.at_least("MMCS, topk - relu", topk.mmcs - relu.mmcs, 0.2);
//     });
//   }
//
// A row passes if the mean over seeds meets the mark and no seed is on the wrong side of the baseline. The program ends
// with 0 if every row passes, with 1 if one does not, with 2 on a wrong command line.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace winnow::claims {

// What one seed after another measured.
class Table {
 public:
  explicit Table(bool quick) : quick_(quick) {}

  // A quick run: one seed, a fraction of the steps, looser marks.
  bool quick() const { return quick_; }

  // The value must be at most the mark on average and below the baseline for every seed. The default baseline is that
  // of a ratio.
  void at_most(const std::string& name, double value, double mark, double baseline = 1.0);
  // The same upwards. The default baseline is that of a difference.
  void at_least(const std::string& name, double value, double mark, double baseline = 0.0);
  // Reported, not judged.
  void report(const std::string& name, double value);

  enum class Rule { report, at_most, at_least };
  struct Row {
    std::string name;
    Rule rule;
    double mark, baseline;
    std::vector<double> values;  // one per seed

    double mean() const;
    double spread() const;  // standard deviation over seeds, divided by n - 1; 0 for one
    // A value that is not finite never passes.
    bool passes() const;
  };
  const std::vector<Row>& rows() const { return rows_; }
  bool passes() const;

 private:
  void add(const std::string& name, double value, Rule rule, double mark, double baseline);
  bool quick_;
  std::vector<Row> rows_;
};

struct About {
  std::string claim = "";    // in one sentence, with the paper
  std::string minutes = "";  // of the full run on 2 cores, and of the quick one
  int64_t seeds = 3;
  int64_t quick_seed = 1;  // the one seed of a quick run, unless --first-seed says another
};

// Measures what one seed gives into the table, with the same names for every seed.
using Experiment = std::function<void(uint64_t seed, Table& table)>;

// Options: --seeds N, --first-seed S (1), --quick, --json FILE, --threads N (1 by default: neighbours on the machine
// then slow the run but do not stall it), --help. Prints a line per row and the processor, and writes the same as JSON.
int run(const std::string& name, int argc, char** argv, const Experiment& experiment, const About& about = {});

}  // namespace winnow::claims
