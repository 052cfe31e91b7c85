#include "winnow/core/program.h"

#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <new>

#include "winnow/core/log.h"
#include "winnow/core/progress.h"
#include "winnow/core/text.h"
#include "winnow/core/version.h"

namespace winnow {
namespace {

// Ends parsing with exit code 0 and this text on standard output: --help and --version.
struct Answer {
  std::string text;
};

struct CommandLine {
  std::string config, log_level;
  std::vector<std::string> assignments;
  int64_t threads = 0;
};

// The text of an unexpected argument, with the nearest option.
[[noreturn]] void fail_unexpected(const CLI::App& app, const std::string& argument) {
  std::vector<std::string> names;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  const auto word = argument.substr(0, argument.find('='));
  const auto what = argument.starts_with("-") ? "unknown option" : "unexpected argument";
  throw UsageError(fmt::format("{} {}{}", what, printable(argument), did_you_mean(word, names)));
}

void add_argument(CLI::App& app, const Argument& argument) {
  std::visit(
      [&](auto* target) {
        CLI::Option* option = nullptr;
        using Target = std::remove_pointer_t<decltype(target)>;
        if constexpr (std::is_same_v<Target, bool>) {
          option = app.add_flag(argument.name, *target, argument.help);
        } else {
          option = app.add_option(argument.name, *target, argument.help);
          // Without this a default of "" or [] is shown as an empty pair of brackets.
          if constexpr (requires { target->empty(); }) {
            if (!target->empty()) option->capture_default_str();
          } else if (!argument.required) {
            option->capture_default_str();
          }
        }
        option->required(argument.required);
      },
      argument.target);
}

CommandLine parse_command_line(int argc, char** argv, const ProgramInfo& info) {
  CommandLine line;
  CLI::App app(info.summary, info.name);
  app.set_version_flag("--version", fmt::format("winnow {}", version()));
  for (const auto& argument : info.arguments) add_argument(app, argument);
  if (!info.options_table.empty()) {
    auto* config = app.add_option("--config", line.config, "YAML file of options")->type_name("FILE");
    if (!info.config.empty()) config->default_str(info.config);
    app.add_option("--set", line.assignments, "one option over the file's; may be repeated")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
    app.footer("Options of --config and --set, with their defaults:\n" + info.options_table);
  }
  if (info.set_threads) {
    app.add_option("--threads", line.threads, "CPU threads")->type_name("N")->check(CLI::Range(1, 4096));
  }
  app.add_option("--log-level", line.log_level, "debug, info, warning, error or off")->type_name("LEVEL");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    throw Answer{app.help()};
  } catch (const CLI::CallForVersion& e) {
    throw Answer{std::string(e.what()) + "\n"};
  } catch (const CLI::ExtrasError&) {
    const auto extras = app.remaining();
    fail_unexpected(app, extras.empty() ? "" : extras.front());
  } catch (const CLI::ParseError& e) {
    throw UsageError(current_exception_text());
  }
  return line;
}

Config read_config(const CommandLine& line, const ProgramInfo& info) {
  const auto& path = line.config.empty() ? info.config : line.config;
  auto config = path.empty() ? Config() : Config::load(path);
  for (const auto& assignment : line.assignments) config.set(assignment);
  return config;
}

// Whether the other end of the pipe that is our standard output has gone, as with `program | head`.
bool output_pipe_closed() {
  pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

void flush_output() {
  errno = 0;
  std::cout.flush();
  const auto failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  const auto error = errno;
  if (!failed || error == EPIPE || output_pipe_closed()) return;
  // A write that failed before the last one has left no reason behind.
  fail(ErrorKind::file, "cannot write to standard output: {}", error == 0 ? "is the disk full?" : std::strerror(error));
}

class IgnoreBrokenPipe {
 public:
  IgnoreBrokenPipe() : before_(std::signal(SIGPIPE, SIG_IGN)) {}
  ~IgnoreBrokenPipe() {
    if (before_ != SIG_ERR) std::signal(SIGPIPE, before_);
  }

 private:
  void (*before_)(int);
};

int run_body(int argc, char** argv, const ProgramInfo& info, const std::function<int(Config&)>& body) {
  const auto line = parse_command_line(argc, argv, info);
  if (!line.log_level.empty()) {
    try {
      set_log_level(parse_log_level(line.log_level));
    } catch (const Error& e) {
      throw UsageError(fmt::format("--log-level: {}", e.what()));
    }
  }
  if (info.set_threads && line.threads > 0) info.set_threads(line.threads);
  auto config = read_config(line, info);
  const auto code = body(config);
  flush_output();
  return stop_requested() ? 128 + stop_signal() : code;
}

}  // namespace

int run_program(int argc, char** argv, const ProgramInfo& info, const std::function<int(Config&)>& body) {
  const IgnoreBrokenPipe ignore_broken_pipe;
  const StopSignal stop;
  auto code = 1;
  std::string problem;
  try {
    return run_body(argc, argv, info, body);
  } catch (const Answer& answer) {
    std::fputs(answer.text.c_str(), stdout);
    try {
      flush_output();
      return 0;
    } catch (...) {
      problem = current_exception_text();
    }
  } catch (const UsageError&) {
    code = 2;
    problem = current_exception_text();
  } catch (const Interrupted&) {
    std::fflush(stdout);
    return 128 + (stop_requested() ? stop_signal() : SIGINT);
  } catch (...) {
    problem = current_exception_text();
  }
  std::fflush(stdout);
  detail::clear_progress_line();
  std::fputs(fmt::format("{}: {}\n", info.name, problem).c_str(), stderr);
  return code;
}

std::string current_exception_text() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return "out of memory";
  } catch (const std::exception& e) {
    // LibTorch puts a stack trace behind the first line.
    const auto text = trim(e.what());
    const auto first = trim(text.substr(0, text.find('\n')));
    return first.empty() ? "unknown error" : printable(first, 1000);
  } catch (...) {
    return "unknown error";
  }
}

}  // namespace winnow
