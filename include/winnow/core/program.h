// The frame of every program: command line, configuration, signals, errors and exit code.
//
//   int main(int argc, char** argv) {
//     bool quick = false;
//     ProgramInfo info{.name = "train_mae", .summary = "Trains a masked autoencoder.",
//                      .options_table = help<mae::Options>("model") + help<train::Options>("train"),
//                      .arguments = {{"--quick", &quick, "a tenth of the steps"}},
//                      .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
//     return run_program(argc, argv, info, [&](Config& config) {
//       auto model = config.read<mae::Options>("model");
//       auto train = config.read<train::Options>("train");
//       config.finish();
//       ...
//       return 0;
//     });
//   }
//
// Exit codes: 0 done; 2 wrong command line or --set (UsageError, CLI); 1 every other error; 130 and 143 after SIGINT
// and SIGTERM, once the program has come to a safe point and returned. An error is one line on stderr: "train_mae:
// TEXT". Given to every program: --help, --version, --config FILE (with options_table), --set KEY=VALUE (with
// options_table, repeatable), --threads N (with set_threads), --log-level LEVEL.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "winnow/core/config.h"
#include "winnow/core/stop_signal.h"

namespace winnow {

// An argument of one program. "--name" is an option (a flag if the target is a bool); a name without dashes ("IMAGE")
// is positional. The target holds the default, which help shows; a list takes several values.
struct Argument {
  using Target = std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*, std::vector<int64_t>*>;
  std::string name;
  Target target;
  std::string help;
  bool required = false;
};

struct ProgramInfo {
  std::string name;                // as in messages and usage
  std::string summary;             // one sentence
  std::string options_table = "";  // of --help: help<T>("section") of each section; empty: takes no configuration
  std::string config = "";         // the file that is read if --config is absent; empty: none
  std::vector<Argument> arguments = {};
  std::function<void(int64_t threads)> set_threads = {};  // called with --threads before the body
};

// Parses the command line, reads the configuration, installs the signal handlers, runs the body and returns the exit
// code: the body's result, or as above. No exception leaves it. Standard output is flushed, and a failed write to it (a
// full disk) is an error; a closed pipe is not (SIGPIPE is ignored meanwhile).
int run_program(int argc, char** argv, const ProgramInfo& info, const std::function<int(Config&)>& body);

// The first line of the text of the current exception, in words: call it in a catch (...) block. Long lines are cut.
std::string current_exception_text();

}  // namespace winnow
