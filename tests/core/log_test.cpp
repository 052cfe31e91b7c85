#include "winnow/core/log.h"

#include <gtest/gtest.h>

#include <regex>
#include <thread>
#include <vector>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"

namespace winnow {
namespace {

using testing::TemporaryFolder;

// What the lines look like on stderr.
template <typename Body>
std::string captured(Body body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Log, InfoIsTheTextAloneAndTroubleIsNamed) {
  const auto text = captured([] {
    log_info("epoch {} of {}", 1, 3);
    log_warning("slow");
    log_error("gone");
    log_debug("not shown");
  });
  EXPECT_EQ(text, "epoch 1 of 3\nwarning: slow\nerror: gone\n");
}

TEST(Log, LinesBelowTheLevelAreDropped) {
  set_log_level(LogLevel::error);
  EXPECT_EQ(log_level(), LogLevel::error);
  const auto quiet = captured([] {
    log_warning("w");
    log_error("e");
  });
  set_log_level(LogLevel::off);
  EXPECT_EQ(log_level(), LogLevel::off);
  const auto silent = captured([] { log_error("e"); });
  set_log_level(LogLevel::debug);
  const auto chatty = captured([] { log_debug("d"); });
  set_log_level(LogLevel::info);
  EXPECT_EQ(quiet, "error: e\n");
  EXPECT_EQ(silent, "");
  EXPECT_TRUE(std::regex_match(chatty, std::regex("[0-9:]{8}\\.[0-9]{3} d\n"))) << chatty;
}

TEST(Log, LevelsAreReadByName) {
  EXPECT_EQ(parse_log_level("warning"), LogLevel::warning);
  EXPECT_EQ(parse_log_level("off"), LogLevel::off);
  EXPECT_ERROR_KIND(parse_log_level("warn"), ErrorKind::argument,
                    "log level must be one of debug, info, warning, error, off, got \"warn\"; did you mean warning?");
}

TEST(Log, AFileGetsEveryLineWithItsTimeUntilItIsTakenAway) {
  const TemporaryFolder folder;
  captured([&] {
    log_to_file(folder / "run.log");
    log_info("one");
    log_warning("two");
    log_to_file("");
    log_info("three");
  });
  const auto lines = split(read_file(folder / "run.log"), '\n');
  ASSERT_EQ(lines.size(), 3u);  // the last is empty
  const std::string stamp = "[0-9-]{10} [0-9:]{8}\\.[0-9]{3} ";
  EXPECT_TRUE(std::regex_match(lines[0], std::regex(stamp + "info one"))) << lines[0];
  EXPECT_TRUE(std::regex_match(lines[1], std::regex(stamp + "warning two"))) << lines[1];
  EXPECT_ERROR_KIND(log_to_file(folder.path()), ErrorKind::file, folder.string() + ": cannot open the log file");
}

TEST(Log, LinesOfSeveralThreadsStayWhole) {
  const auto text = captured([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 50; ++i) log_info("thread {} line {}", t, i);
      });
    }
    for (auto& thread : threads) thread.join();
  });
  const auto lines = split(trim(text), '\n');
  EXPECT_EQ(lines.size(), 200u);
  for (const auto& line : lines) EXPECT_TRUE(std::regex_match(line, std::regex("thread [0-3] line [0-9]+"))) << line;
}

}  // namespace
}  // namespace winnow
