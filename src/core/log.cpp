#include "winnow/core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <vector>

#include "winnow/core/error.h"
#include "winnow/core/progress.h"
#include "winnow/core/text.h"

namespace winnow {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::off: return spdlog::level::off;
  }
  return spdlog::level::info;
}

// Lines for a person, on stderr.
class TerminalSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line;
    if (message.level == spdlog::level::warn) line = "warning: ";
    if (message.level == spdlog::level::err) line = "error: ";
    if (message.level == spdlog::level::debug) {
      const auto since = message.time.time_since_epoch();
      const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since).count() % 86'400'000;
      line = fmt::format("{:02}:{:02}:{:02}.{:03} ", ms / 3'600'000, ms / 60'000 % 60, ms / 1000 % 60, ms % 1000);
    }
    line.append(message.payload.data(), message.payload.size());
    line += '\n';
    detail::clear_progress_line();
    std::fwrite(line.data(), 1, line.size(), stderr);
  }
  void flush_() override { std::fflush(stderr); }
};

// The logger and its list of sinks; changing the list waits for lines under way.
struct Log {
  std::mutex mutex;
  spdlog::logger logger{"winnow", std::make_shared<TerminalSink>()};
};

// Made at the first line and never destroyed, so that destructors of other statics may log.
Log& global_log() {
  static auto* log = [] {
    auto* made = new Log;
    made->logger.set_level(spdlog::level::info);
    made->logger.set_error_handler([](const std::string&) {});  // a log that cannot be written stops nothing
    return made;
  }();
  return *log;
}

}  // namespace

void set_log_level(LogLevel level) {
  global_log().logger.set_level(to_spdlog(level));
}

LogLevel log_level() {
  switch (global_log().logger.level()) {
    case spdlog::level::debug: return LogLevel::debug;
    case spdlog::level::info: return LogLevel::info;
    case spdlog::level::warn: return LogLevel::warning;
    case spdlog::level::err: return LogLevel::error;
    default: return LogLevel::off;
  }
}

LogLevel parse_log_level(std::string_view name) {
  static const std::vector<std::string> names = {"debug", "info", "warning", "error", "off"};
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<LogLevel>(i);
  }
  fail(ErrorKind::argument, "log level must be one of {}, got \"{}\"{}", join(names), printable(name),
       did_you_mean(name, names));
}

void log_to_file(const std::string& path) {
  std::shared_ptr<spdlog::sinks::sink> sink;
  if (!path.empty()) {
    try {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    } catch (const spdlog::spdlog_ex&) {
      fail(ErrorKind::file, "{}: cannot open the log file", printable(path));
    }
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
  }
  auto& log = global_log();
  const std::lock_guard lock(log.mutex);
  auto& sinks = log.logger.sinks();
  sinks.resize(1);
  if (sink) sinks.push_back(std::move(sink));
}

void detail::log(LogLevel level, fmt::string_view format, fmt::format_args args) {
  auto& log = global_log();
  if (!log.logger.should_log(to_spdlog(level))) return;
  const auto text = fmt::vformat(format, args);
  const std::lock_guard lock(log.mutex);
  log.logger.log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
  log.logger.flush();
}

}  // namespace winnow
