#include "winnow/io/json_lines.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/core/file.h"

namespace winnow::testing {
namespace {

TEST(JsonLines, EachObjectIsOneLineAndAppendingGoesOn) {
  const TemporaryFolder folder;
  const auto path = folder / "runs/a/metrics.jsonl";
  {
    io::JsonLinesWriter writer(path);
    writer.write({{"step", 1}, {"loss", 0.5}});
    EXPECT_EQ(read_file(path), "{\"loss\":0.5,\"step\":1}\n");  // there at once, not at the end
  }
  io::JsonLinesWriter(path).write({{"step", 2}, {"text", "a\nb"}, {"nan", std::numeric_limits<double>::quiet_NaN()}});
  const auto lines = io::read_json_lines(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1]["text"], "a\nb");
  EXPECT_TRUE(lines[1]["nan"].is_null());
}

TEST(JsonLines, OnlyObjectsInUtf8AreWritten) {
  const TemporaryFolder folder;
  io::JsonLinesWriter writer(folder / "m.jsonl");
  EXPECT_ERROR_KIND(writer.write(3), ErrorKind::argument, "JsonLinesWriter: a line must be an object, got number");
  EXPECT_ERROR_KIND(writer.write({{"a", "\xff"}}), ErrorKind::argument, "text must be UTF-8");
  EXPECT_EQ(read_file(folder / "m.jsonl"), "");
  EXPECT_ERROR_KIND(io::JsonLinesWriter(folder.path()), ErrorKind::file, "cannot be opened for appending");
}

TEST(JsonLines, AFullDiskIsAnErrorThatNamesTheFile) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  io::JsonLinesWriter writer("/dev/full");
  EXPECT_ERROR_KIND(writer.write({{"a", 1}}), ErrorKind::file, "/dev/full: cannot be written: No space left on device");
}

TEST(JsonLines, ATornLastLineIsDroppedAndABrokenOneInsideIsNamed) {
  const TemporaryFolder folder;
  const auto path = folder / "m.jsonl";
  std::ofstream(path) << "{\"step\":1}\n\n{\"step\":2}\n{\"st";
  EXPECT_EQ(io::read_json_lines(path).size(), 2u);
  std::ofstream(path) << "{\"step\":1}\n{\"st\n{\"step\":2}\n";
  EXPECT_ERROR_KIND(io::read_json_lines(path), ErrorKind::file, "m.jsonl: line 2: line 1, column");
}

TEST(JsonLines, TruncationKeepsTheStepsUpToTheCheckpoint) {
  const TemporaryFolder folder;
  const auto path = folder / "m.jsonl";
  EXPECT_EQ(io::truncate_json_lines(path, "step", 3), 0);
  EXPECT_FALSE(std::filesystem::exists(path));
  std::ofstream(path) << "{\"options\":1}\n{\"step\":3}\n{\"step\":5}\n{\"step\": 4, \"x\":2}\n{\"step\":6";
  EXPECT_EQ(io::truncate_json_lines(path, "step", 4), 1);
  EXPECT_EQ(read_file(path), "{\"options\":1}\n{\"step\":3}\n{\"step\": 4, \"x\":2}\n");
  EXPECT_EQ(io::truncate_json_lines(path, "step", 4), 0);
  io::JsonLinesWriter(path).write({{"step", 5}});
  EXPECT_EQ(io::read_json_lines(path).size(), 4u);
}

}  // namespace
}  // namespace winnow::testing
