#include "winnow/core/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "winnow/core/text.h"

namespace winnow {
namespace {

constexpr double kRateSeconds = 30;  // time over which a step's weight in the rate falls to 1/e
constexpr int64_t kBarWidth = 20;

std::mutex drawing;
std::FILE* line_on = nullptr;  // the terminal on which an unfinished bar stands; guarded by drawing

bool is_terminal(std::FILE* stream) {
  const auto descriptor = ::fileno(stream);
  const char* term = std::getenv("TERM");
  return descriptor >= 0 && ::isatty(descriptor) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

std::string rate_text(double rate, const std::string& unit) {
  if (!(rate > 0)) return "";
  if (rate < 1) return fmt::format("  {:.2f} s/{}", 1 / rate, unit);
  return rate < 100 ? fmt::format("  {:.1f} {}/s", rate, unit) : fmt::format("  {:.0f} {}/s", rate, unit);
}

}  // namespace

Progress::Progress(std::string title, int64_t total, ProgressOptions options)
    : title_(printable(title, 60)), total_(std::max<int64_t>(total, 0)), options_(std::move(options)) {
  using Style = ProgressOptions::Style;
  silent_ = options_.style == Style::silent;
  bar_ = options_.style == Style::bar || (options_.style == Style::automatic && is_terminal(options_.stream));
  start_ = measured_ = now();
  drawn_ = bar_ ? start_ - options_.redraw_seconds : start_;  // a bar is there from the first update
}

Progress::~Progress() {
  finish();
}

double Progress::now() const {
  if (options_.clock) return options_.clock();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int Progress::columns() const {
  if (options_.columns > 0) return options_.columns;
  winsize size = {};
  const auto known = ::ioctl(::fileno(options_.stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

void Progress::start_from(int64_t done) {
  done_ = first_ = measured_done_ = done;
  start_ = measured_ = now();
}

void Progress::measure(double time) {
  const auto passed = time - measured_;
  if (passed <= 0 || done_ == measured_done_) return;
  const auto latest = static_cast<double>(done_ - measured_done_) / passed;
  // At first the plain average since the start, later the exponential one.
  const auto weight = std::max(passed / (time - start_), 1 - std::exp(-passed / kRateSeconds));
  rate_ += weight * (latest - rate_);
  measured_ = time;
  measured_done_ = done_;
}

void Progress::update(int64_t done, std::string_view note) {
  done_ = done;
  if (silent_ || finished_) return;
  const auto time = now();
  if (time - drawn_ < (bar_ ? options_.redraw_seconds : options_.line_seconds)) {
    if (note_ != note) note_ = note;
    return;
  }
  note_ = note;
  measure(time);
  draw(time);
}

std::string Progress::line() const {
  std::string end = total_ > 0 ? fmt::format("  {}/{}", done_, total_) : fmt::format("  {}", done_);
  end += rate_text(rate_, options_.unit);
  if (finished_) {
    end += fmt::format("  in {}", human_duration(now() - start_));
  } else if (total_ > done_ && rate_ > 0) {
    end += fmt::format("  {} left", human_duration(static_cast<double>(total_ - done_) / rate_));
  }
  if (!note_.empty()) end += "  " + printable(note_);

  auto text = title_;
  if (total_ > 0) {
    const auto share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
    text += fmt::format("{}{:3.0f}%", text.empty() ? "" : " ", std::floor(100 * share));
    const auto room = columns() - 1 - static_cast<int64_t>(text.size() + end.size() + 3);
    const auto width = std::min(kBarWidth, room);
    if (bar_ && width >= 5) {
      const auto filled = std::llround(share * static_cast<double>(width));
      const auto head = filled > 0 && filled < width ? ">" : "";
      const auto dashes = static_cast<size_t>(filled - (*head != '\0' ? 1 : 0));
      text += fmt::format(" [{}{}{}]", std::string(dashes, '='), head,
                          std::string(static_cast<size_t>(width - filled), ' '));
    }
  }
  text += end;
  if (!bar_) return text;
  const auto limit = static_cast<size_t>(std::max(columns() - 1, 10));
  return text.size() <= limit ? text : printable(text, limit - 3);
}

void Progress::draw(double time) {
  const auto text = bar_ ? fmt::format("\r{}\x1b[K{}", line(), finished_ ? "\n" : "") : line() + "\n";
  const std::lock_guard lock(drawing);
  if (bar_) line_on = finished_ ? nullptr : options_.stream;
  std::fwrite(text.data(), 1, text.size(), options_.stream);  // a stream that cannot be written stops no work
  std::fflush(options_.stream);
  drawn_ = time;
}

void Progress::finish() {
  if (silent_ || finished_) return;
  const auto time = now();
  measure(time);
  finished_ = true;
  draw(time);
}

void detail::clear_progress_line() {
  const std::lock_guard lock(drawing);
  if (line_on == nullptr) return;
  std::fputs("\r\x1b[K", line_on);
  std::fflush(line_on);
  line_on = nullptr;
}

}  // namespace winnow
