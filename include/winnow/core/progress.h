// Progress of a long loop with rate and time left. On a terminal one line that redraws itself:
//
//   train  42% [========>           ]  1050/2500  31.2 it/s  46 s left  loss 0.213
//
// elsewhere (a file, a pipe, CI) a plain line every ten seconds and one at the end.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace winnow {

struct ProgressOptions {
  std::string unit = "it";      // of the rate: "img" gives "img/s"
  double redraw_seconds = 0.1;  // on a terminal
  double line_seconds = 10.0;   // elsewhere
  std::FILE* stream = stderr;
  int columns = 0;  // width of the line; 0: asked of the terminal
  enum class Style { automatic, bar, lines, silent } style = Style::automatic;  // automatic: bar on a terminal
  std::function<double()> clock = {};  // seconds, rising; empty: the steady clock. For tests
};

// One loop of `total` steps; total 0 means unknown: no bar and no time left. One thread at a time.
class Progress {
 public:
  Progress(std::string title, int64_t total, ProgressOptions options = {});
  ~Progress();  // finishes
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` steps are behind; `note` stands at the end of the line ("loss 0.213"). Cheap unless it is time to draw.
  void update(int64_t done, std::string_view note = {});
  void add(int64_t steps = 1, std::string_view note = {}) { update(done_ + steps, note); }

  // Starts counting the rate from here: steps that a resumed run had behind it already.
  void start_from(int64_t done);

  // Draws the last state and ends the line. Done by the destructor.
  void finish();

  // Steps per second: an average over about the last 30 seconds, weighted to the recent ones.
  [[nodiscard]] double rate() const { return rate_; }
  // The text as it would be drawn now, without the carriage return.
  [[nodiscard]] std::string line() const;

 private:
  [[nodiscard]] double now() const;
  [[nodiscard]] int columns() const;
  void draw(double time);
  void measure(double time);

  std::string title_, note_;
  int64_t total_, done_ = 0, first_ = 0, measured_done_ = 0;
  ProgressOptions options_;
  bool bar_ = false, silent_ = false, finished_ = false;
  double start_ = 0, drawn_ = 0, measured_ = 0, rate_ = 0;
};

namespace detail {
// Erases a bar that stands on the terminal so that another line can be printed there; any thread.
void clear_progress_line();
}  // namespace detail

}  // namespace winnow
