// Log lines on stderr (spdlog). Info lines are the text alone, so that a program reads like a program; warnings and
// errors are preceded by "warning: " and "error: ", and debug lines by the time. Safe from any thread; a progress bar
// on the same terminal is cleared first and drawn again at its next update.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace winnow {

enum class LogLevel { debug, info, warning, error, off };

// Lines below the level are dropped. At the start: info.
void set_log_level(LogLevel level);
LogLevel log_level();
// "debug", "info", "warning", "error" or "off"; else Error (argument).
LogLevel parse_log_level(std::string_view name);

// Every line also to this file, with date and time, appended; an empty path ends it. Error (file) if it cannot be
// opened.
void log_to_file(const std::string& path);

namespace detail {
void log(LogLevel level, fmt::string_view format, fmt::format_args args);
}

template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  detail::log(LogLevel::debug, format, fmt::make_format_args(args...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  detail::log(LogLevel::info, format, fmt::make_format_args(args...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  detail::log(LogLevel::warning, format, fmt::make_format_args(args...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  detail::log(LogLevel::error, format, fmt::make_format_args(args...));
}

}  // namespace winnow
