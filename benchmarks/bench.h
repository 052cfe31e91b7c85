// Ratios measured side by side in one run: both sides interleaved, repeated, medians, one thread decides.
//
//   int main(int argc, char** argv) {
//     return bench::run("gather_tokens", argc, argv, [](bench::Report& report) {
//       report.compare("B64 L196 D192", {"winnow", [&] { ... }}, {"at::gather", [&] { ... }}, {.target = 1.2});
//       report.note("read bandwidth, GB/s", bench::read_bandwidth());
//     });
//   }
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace winnow::bench {

// One side of a comparison: a label and the work. The work is called many times and must not depend on earlier calls.
struct Side {
  std::string label;
  std::function<void()> work = {};
  // Instead of work: runs this many calls and returns the seconds that they took (a Peer, which times itself).
  std::function<double(int64_t calls)> timed = {};
  // Told the number of threads of the measurement, where the work does not follow at::set_num_threads.
  std::function<void(int64_t threads)> set_threads = {};
};

struct CompareOptions {
  double target = 0;          // ratio wanted (other time / our time); 0: only reported
  int64_t rounds = 15;        // interleaved rounds; the median of the per-round ratios is the result
  double min_seconds = 0.02;  // of one sample: short work is repeated inside it
  bool two_threads = true;    // measure with two threads too (reported beside, with cpu/wall)
};

struct Comparison {
  std::string name;
  int64_t threads;
  std::string ours, other;
  double our_ms, other_ms;  // medians of one call
  double ratio;             // median of other / ours per round
  double low, high;         // quartiles of the ratio
  double cpu_per_wall;      // of our side; below 1.8 with two threads the figure is noisy
  double target;
};

class Report {
 public:
  // Measures both sides with one thread, then with two where asked, and prints a line for each. Returns the one-thread
  // result.
  Comparison compare(const std::string& name, const Side& ours, const Side& other, const CompareOptions& options = {});
  // A figure beside the ratios: a bound, a count.
  void note(const std::string& name, double value);
  // Median milliseconds of one call with the current threads.
  double time_ms(const std::function<void()>& work, int64_t rounds = 15, double min_seconds = 0.02);
  // True in a smoke run (--smoke): one round, to see that everything works.
  [[nodiscard]] bool smoke() const { return smoke_; }
  // Whether --only leaves a part of this name in: asked by programs with parts that take long.
  [[nodiscard]] bool wants(const std::string& part) const { return part.find(only_) != std::string::npos; }

 private:
  friend int run(const std::string&, int, char**, const std::function<void(Report&)>&);
  Comparison measure(const std::string& name, const Side& ours, const Side& other, const CompareOptions& options,
                     int64_t threads);
  bool smoke_ = false;
  bool one_thread_ = false;
  std::string only_;
  std::vector<Comparison> comparisons_;
  std::vector<std::pair<std::string, double>> notes_;
};

// The frame of a benchmark program: --json FILE, --smoke, --help; prints machine and versions first.
int run(const std::string& name, int argc, char** argv, const std::function<void(Report&)>& body);

// Bounds of this machine, measured now with the current threads: GB/s of a SIMD sum over 256 MB; GFLOP/s of a 1024^3
// fp32 product.
double read_bandwidth();
double gemm_peak();

// The processor's name as the system gives it.
std::string processor_name();

// Keeps the compiler from dropping a result.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

}  // namespace winnow::bench
