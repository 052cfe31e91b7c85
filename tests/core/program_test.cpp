#include "winnow/core/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <new>

#include "core/sample_options.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/file.h"
#include "winnow/core/log.h"
#include "winnow/core/text.h"
#include "winnow/core/version.h"

namespace winnow {
namespace {

using testing::Sample;
using testing::TemporaryFolder;

struct Result {
  int code = 0;
  std::string out, err;
};

ProgramInfo sample_info() {
  return {
      .name = "sample", .summary = "Shows a sample.", .options_table = help<Sample>("m"), .set_threads = [](int64_t) {
      }};
}

int nothing(Config&) {
  return 0;
}

Result run(const ProgramInfo& info, std::vector<std::string> arguments, const std::function<int(Config&)>& body) {
  arguments.insert(arguments.begin(), "program");
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Result result;
  result.code = run_program(static_cast<int>(arguments.size()), argv.data(), info, body);
  result.out = ::testing::internal::GetCapturedStdout();
  result.err = ::testing::internal::GetCapturedStderr();
  return result;
}

Result run(std::vector<std::string> arguments, const std::function<int(Config&)>& body = nothing) {
  return run(sample_info(), std::move(arguments), body);
}

TEST(ProgramTest, ReadsTheFileThenTheAssignmentsInOrder) {
  const TemporaryFolder folder;
  write_file(folder / "a.yaml", "m: {size: 3, ratio: 0.5}\n");
  const auto result =
      run({"--config", folder / "a.yaml", "--set", "m.ratio=0.1", "--set", "m.ratio=0.25", "--set=m.sizes=[1,2]"},
          [](Config& config) {
            const auto sample = config.read<Sample>("m");
            config.finish();
            EXPECT_EQ(sample.size, 3);
            EXPECT_EQ(sample.ratio, 0.25);
            EXPECT_EQ(sample.sizes, (std::vector<int64_t>{1, 2}));
            return 0;
          });
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
}

TEST(ProgramTest, HelpShowsArgumentsAndTheTableOfOptions) {
  int64_t steps = 25;
  bool quick = false;
  auto info = sample_info();
  info.arguments = {{"--steps", &steps, "how many"}, {"--quick", &quick, "fewer"}};
  const auto result = run(info, {"--help"}, [](Config&) { return 9; });
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* part : {"Shows a sample.", "--config", "--set", "--threads", "--log-level", "--version", "--steps",
                           "25", "how many", "--quick", "m.ratio", "share (number in [0, 1))"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
  }
  EXPECT_EQ(run({"--version"}).out, fmt::format("winnow {}\n", version()));
}

TEST(ProgramTest, AProgramWithoutOptionsOffersNoConfiguration) {
  const ProgramInfo plain = {.name = "plain", .summary = "Plain."};
  EXPECT_EQ(run(plain, {"--help"}, nothing).out.find("--config"), std::string::npos);
  EXPECT_EQ(run(plain, {"--set", "a=1"}, nothing).code, 2);
  EXPECT_EQ(run(plain, {"--threads", "1"}, nothing).code, 2);
}

TEST(ProgramTest, ArgumentsReachTheirTargets) {
  int64_t steps = 5;
  double rate = 1;
  bool quick = false;
  std::string image, name = "x";
  std::vector<std::string> files;
  std::vector<int64_t> seeds = {1};
  auto info = sample_info();
  info.arguments = {{"IMAGE", &image, "in", true}, {"--steps", &steps, ""}, {"--rate", &rate, ""},
                    {"--quick", &quick, ""},       {"--name", &name, ""},   {"--files", &files, ""},
                    {"--seeds", &seeds, ""}};
  const auto result =
      run(info, {"a.png", "--steps", "7", "--quick", "--rate=0.5", "--files", "b", "c", "--seeds", "3", "4"}, nothing);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(image, "a.png");
  EXPECT_EQ(steps, 7);
  EXPECT_EQ(rate, 0.5);
  EXPECT_TRUE(quick);
  EXPECT_EQ(name, "x");
  EXPECT_EQ(files, (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(seeds, (std::vector<int64_t>{3, 4}));
}

TEST(ProgramTest, ThreadsAreHandedOnBeforeTheBody) {
  int64_t threads = 0;
  auto info = sample_info();
  info.set_threads = [&](int64_t n) { threads = n; };
  run(info, {}, [&](Config&) {
    EXPECT_EQ(threads, 0);
    return 0;
  });
  run(info, {"--threads", "3"}, [&](Config&) {
    EXPECT_EQ(threads, 3);
    return 0;
  });
  EXPECT_EQ(threads, 3);
}

TEST(ProgramTest, AWrongCommandLineEndsWithTwoAndOneLine) {
  int64_t steps = 5;
  std::string image;
  auto info = sample_info();
  info.arguments = {{"IMAGE", &image, "in", true}, {"--steps", &steps, ""}};
  const auto expect = [&](const std::vector<std::string>& arguments, const std::string& message) {
    const auto result = run(info, arguments, [](Config& config) {
      config.read<Sample>("m");
      config.finish();
      return 0;
    });
    EXPECT_EQ(result.code, 2) << message;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "sample: " + message + "\n");
  };
  expect({"a", "--stpes", "3"}, "unknown option --stpes; did you mean --steps?");
  expect({"a", "b"}, "unexpected argument b");
  expect({}, "IMAGE is required");
  expect({"a", "--steps", "many"}, "Could not convert: --steps = many");
  expect({"a", "--threads", "0"}, "--threads: Value 0 not in range 1 to 4096");
  expect({"a", "--log-level", "loud"},
         "--log-level: log level must be one of debug, info, warning, error, off, got \"loud\"");
  expect({"a", "--set", "m.size"}, "--set m.size: must be KEY=VALUE, as in train.lr=0.001");
  expect({"a", "--set", "m.size=0"}, "--set m.size=0: m.size must be >= 1, got 0");
  expect({"a", "--set", "m.sise=2"}, "--set m.sise=2: m.size must be given (integer >= 1); is it meant by m.sise?");
  expect({"a"}, "m.size must be given (integer >= 1): use --set m.size=VALUE or --config FILE");
}

TEST(ProgramTest, AnythingWrongInAFileEndsWithOneAndOneLine) {
  const TemporaryFolder folder;
  const auto path = folder / "a.yaml";
  const auto expect = [&](const std::string& text, const std::string& message) {
    write_file(path, text);
    const auto result = run({"--config", path}, [](Config& config) {
      config.read<Sample>("m");
      config.finish();
      return 0;
    });
    EXPECT_EQ(result.code, 1) << message;
    EXPECT_EQ(result.err, "sample: " + path + message + "\n");
  };
  expect("m: {size: 0}", ":1: m.size must be >= 1, got 0");
  expect("m: {size: 1, sizee: 2}", ":1: m.sizee: unknown key; did you mean m.size?");
  std::filesystem::remove(path);
  EXPECT_EQ(run({"--config", path}).err, "sample: " + path + ": cannot open: No such file or directory\n");
  EXPECT_EQ(run({"--config", path}).code, 1);
}

struct LikeLibTorch : std::exception {
  const char* what() const noexcept override {
    return "\n shapes differ \nException raised from f at g.cpp:1\n#0 main";
  }
};

TEST(ProgramTest, EveryExceptionOfTheBodyIsOneLineAndOne) {
  const auto expect = [](const std::function<int(Config&)>& body, const std::string& message) {
    const auto result = run({}, body);
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.err, "sample: " + message + "\n");
  };
  expect([](Config&) -> int { fail(ErrorKind::argument, "f: k must be {}", 3); }, "f: k must be 3");
  expect([](Config&) -> int { throw std::bad_alloc(); }, "out of memory");
  expect([](Config&) -> int { throw LikeLibTorch(); }, "shapes differ");
  expect([](Config&) -> int { throw std::runtime_error(""); }, "unknown error");
  expect([](Config&) -> int { throw 3; }, "unknown error");
  expect([](Config&) -> int { throw std::runtime_error("a\x1b[31m"); }, "a\\x1b[31m");
}

TEST(ProgramTest, TheResultOfTheBodyIsTheExitCode) {
  EXPECT_EQ(run({}, [](Config&) { return 0; }).code, 0);
  EXPECT_EQ(run({}, [](Config&) { return 1; }).code, 1);
}

TEST(ProgramTest, TheLogLevelIsSet) {
  EXPECT_EQ(run({"--log-level", "error"},
                [](Config&) {
                  EXPECT_EQ(log_level(), LogLevel::error);
                  return 0;
                })
                .code,
            0);
  set_log_level(LogLevel::info);
}

TEST(ProgramTest, AFileIsReadByDefaultWhereTheProgramNamesOne) {
  const TemporaryFolder folder;
  write_file(folder / "a.yaml", "m: {size: 8}");
  auto info = sample_info();
  info.config = folder / "a.yaml";
  EXPECT_EQ(run(info, {}, [](Config& config) { return static_cast<int>(config.read<Sample>("m").size); }).code, 8);
}

TEST(StopSignalTest, TheFirstSignalAsksAndTheProgramEndsWithItsNumber) {
  for (const auto signal : {SIGINT, SIGTERM}) {
    const auto result = run({}, [&](Config&) {
      EXPECT_FALSE(stop_requested());
      std::raise(signal);
      EXPECT_TRUE(stop_requested());
      EXPECT_EQ(stop_signal(), signal);
      return 0;
    });
    EXPECT_EQ(result.code, 128 + signal);
    EXPECT_EQ(result.err, "");
    EXPECT_FALSE(stop_requested());
  }
}

TEST(StopSignalTest, WorkWithNothingToSaveLeavesByException) {
  const auto result = run({}, [](Config&) {
    throw_if_stopped();
    std::raise(SIGINT);
    throw_if_stopped();
    return 0;
  });
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(result.err, "");
}

TEST(StopSignalTest, AnErrorAfterTheSignalIsStillAnError) {
  const auto result = run({}, [](Config&) -> int {
    request_stop(SIGTERM);
    fail(ErrorKind::file, "cannot save");
  });
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "sample: cannot save\n");
}

// Runs the function in a child process and returns how it ended.
int status_of_child(const std::function<void()>& body) {
  const auto child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(StopSignalTest, TheSecondSignalKills) {
  const auto status = status_of_child([] {
    const StopSignal stop;
    std::raise(SIGINT);
    std::raise(SIGTERM);
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST(StopSignalTest, TheHandlersThatWereThereComeBack) {
  const auto before = std::signal(SIGTERM, SIG_IGN);
  {
    const StopSignal stop;
  }
  EXPECT_EQ(std::signal(SIGTERM, before), SIG_IGN);
}

// Standard output of a child is this descriptor while it runs a program that prints.
int status_with_output(int descriptor, const std::string& error_path, bool flush) {
  return status_of_child([&] {
    ::dup2(descriptor, STDOUT_FILENO);
    const auto errors = ::open(error_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(errors, STDERR_FILENO);
    std::string name = "program";
    char* argv[] = {name.data(), nullptr};
    const auto code = run_program(1, argv, sample_info(), [&](Config&) {
      for (int i = 0; i < 1000; ++i) std::fputs("a line of output\n", stdout);
      if (flush) std::fflush(stdout);  // fails unseen: nothing is left for the last flush to fail on
      return 0;
    });
    ::_exit(code);
  });
}

TEST(ProgramTest, AFullDiskUnderStandardOutputIsAnError) {
  const TemporaryFolder folder;
  const auto full = ::open("/dev/full", O_WRONLY);
  EXPECT_EQ(WEXITSTATUS(status_with_output(full, folder / "last", false)), 1);
  EXPECT_EQ(read_file(folder / "last"), "sample: cannot write to standard output: No space left on device\n");
  EXPECT_EQ(WEXITSTATUS(status_with_output(full, folder / "before", true)), 1);
  EXPECT_EQ(read_file(folder / "before"), "sample: cannot write to standard output: is the disk full?\n");
  ::close(full);
}

TEST(ProgramTest, AClosedPipeUnderStandardOutputIsQuiet) {
  const TemporaryFolder folder;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  const auto status = status_with_output(ends[1], folder / "err", false);
  ::close(ends[1]);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_file(folder / "err"), "");
}

}  // namespace
}  // namespace winnow
