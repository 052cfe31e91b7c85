// The one exception type of winnow and the check that throws it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace winnow {

// What a caller can do about an error: correct the argument, correct the configuration, look at the file, or choose
// something that is supported.
enum class ErrorKind { argument, config, file, unsupported };

// "argument", "config", "file" or "unsupported".
const char* to_string(ErrorKind kind);

// Thrown by every public function on bad input, before any work is done. The text is one line that names what was
// wanted, what came, and the argument, key or file. winnow never aborts and throws nothing else of its own.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message);

  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

namespace detail {
// Out of line so that a failing check costs its caller one call.
[[noreturn]] void throw_error(ErrorKind kind, fmt::string_view format, fmt::format_args args);
}  // namespace detail

// Throws Error of this kind with the formatted text.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  detail::throw_error(kind, format, fmt::make_format_args(args...));
}

}  // namespace winnow

// Throws winnow::Error of the given kind unless the condition holds: WINNOW_CHECK_KIND(ok, ErrorKind::file, "...", x).
// The arguments of the message are evaluated only on failure.
#define WINNOW_CHECK_KIND(condition, kind, ...) \
  do {                                          \
    if (!(condition)) [[unlikely]] {            \
      ::winnow::fail(kind, __VA_ARGS__);        \
    }                                           \
  } while (false)

// The check of arguments: WINNOW_CHECK(k >= 1 && k <= n, "topk: k must be in [1, {}], got {}", n, k).
#define WINNOW_CHECK(condition, ...) WINNOW_CHECK_KIND(condition, ::winnow::ErrorKind::argument, __VA_ARGS__)
