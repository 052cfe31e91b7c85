#include "winnow/core/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "winnow/core/log.h"
#include "winnow/core/text.h"

namespace winnow {
namespace {

using Style = ProgressOptions::Style;

// A progress on a stream in memory whose clock the test moves.
struct Bench {
  explicit Bench(Style style, int columns = 90) {
    options.style = style;
    options.columns = columns;
    options.stream = stream.get();
    options.clock = [this] { return time; };
  }
  std::string output() {
    std::fflush(stream.get());
    return {buffer, size};
  }

  double time = 1000;
  char* buffer = nullptr;
  size_t size = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream{::open_memstream(&buffer, &size), &std::fclose};
  ProgressOptions options;

  ~Bench() {
    stream.reset();
    std::free(buffer);
  }
};

TEST(ProgressTest, TheBarShowsShareRateTimeLeftAndNote) {
  Bench bench(Style::bar);
  Progress progress("train", 200, bench.options);
  bench.time += 10;
  progress.update(50, "loss 0.5");
  EXPECT_EQ(progress.line(), "train  25% [====>               ]  50/200  5.0 it/s  30 s left  loss 0.5");
  EXPECT_EQ(bench.output(), "\r" + progress.line() + "\x1b[K");
  EXPECT_EQ(progress.rate(), 5);
}

TEST(ProgressTest, TheEndSaysHowLongItTookAndClosesTheLine) {
  Bench bench(Style::bar);
  {
    Progress progress("train", 4, bench.options);
    bench.time += 2;
    progress.update(4);
  }
  EXPECT_TRUE(bench.output().ends_with("\rtrain 100% [====================]  4/4  2.0 it/s  in 2.0 s\x1b[K\n"))
      << printable(bench.output());
}

TEST(ProgressTest, TheBarIsDrawnNoMoreOftenThanAsked) {
  Bench bench(Style::bar);
  Progress progress("", 1000, bench.options);
  for (int i = 1; i <= 1000; ++i) {
    bench.time += 0.001;
    progress.add();
  }
  const auto text = bench.output();
  EXPECT_NEAR(static_cast<double>(std::count(text.begin(), text.end(), '\r')), 10, 1);
}

TEST(ProgressTest, WithoutATerminalThereArePlainLinesEveryTenSeconds) {
  Bench bench(Style::lines);
  {
    Progress progress("train", 100, bench.options);
    for (int i = 1; i <= 25; ++i) {
      bench.time += 1;
      progress.update(i, "loss 1");
    }
  }
  EXPECT_EQ(bench.output(),
            "train  10%  10/100  1.0 it/s  1 min 30 s left  loss 1\n"
            "train  20%  20/100  1.0 it/s  1 min 20 s left  loss 1\n"
            "train  25%  25/100  1.0 it/s  in 25 s  loss 1\n");
}

TEST(ProgressTest, AFileIsNoTerminal) {
  Bench bench(Style::automatic);
  {
    Progress progress("a", 2, bench.options);
    bench.time += 1;
    progress.update(2);
  }
  EXPECT_EQ(bench.output(), "a 100%  2/2  2.0 it/s  in 1.0 s\n");
}

TEST(ProgressTest, AnUnknownTotalShowsNeitherBarNorTimeLeft) {
  Bench bench(Style::bar);
  bench.options.unit = "img";
  Progress progress("read", 0, bench.options);
  bench.time += 4;
  progress.update(2);
  EXPECT_EQ(progress.line(), "read  2  2.00 s/img");
}

TEST(ProgressTest, TheRateOfAResumedRunLeavesOutWhatWasDoneBefore) {
  Bench bench(Style::bar);
  Progress progress("", 1000, bench.options);
  progress.start_from(900);
  bench.time += 10;
  progress.update(920);
  EXPECT_EQ(progress.rate(), 2);
  EXPECT_NE(progress.line().find("40 s left"), std::string::npos) << progress.line();
}

TEST(ProgressTest, TheRateFollowsAChangeOfPaceWithinAMinute) {
  Bench bench(Style::bar);
  Progress progress("", 0, bench.options);
  int64_t done = 0;
  for (int i = 0; i < 300; ++i, ++done) {
    bench.time += 1;
    progress.update(done + 1);
  }
  EXPECT_NEAR(progress.rate(), 1, 0.01);
  for (int i = 0; i < 60; ++i) {
    bench.time += 1;
    progress.update(done += 10);
  }
  EXPECT_NEAR(progress.rate(), 10 - 9 * std::exp(-2.0), 0.3);  // two time constants of 30 s later
}

TEST(ProgressTest, ANarrowTerminalGetsAShorterBarThenNoneThenACutLine) {
  for (const int columns : {20, 40, 50, 60, 80, 200}) {
    Bench bench(Style::bar, columns);
    Progress progress("train", 200, bench.options);
    bench.time += 10;
    progress.update(50, "loss 0.5");
    EXPECT_LT(progress.line().size(), static_cast<size_t>(columns)) << progress.line();
    EXPECT_EQ(progress.line().find('[') != std::string::npos, columns >= 60) << progress.line();
  }
}

TEST(ProgressTest, StepsPastTheTotalAndNoStepsAreHarmless) {
  Bench bench(Style::bar);
  Progress over("", 10, bench.options);
  bench.time += 1;
  over.update(15);
  EXPECT_EQ(over.line(), "100% [====================]  15/10  15.0 it/s");
  Progress none("", 10, bench.options);
  none.finish();
  EXPECT_EQ(none.line(), "  0% [                    ]  0/10  in 0.0 s");
}

TEST(ProgressTest, SilentWritesNothing) {
  Bench bench(Style::silent);
  {
    Progress progress("a", 2, bench.options);
    bench.time += 100;
    progress.update(1);
  }
  EXPECT_EQ(bench.output(), "");
}

TEST(ProgressTest, ALogLineFirstClearsTheBar) {
  Bench bench(Style::bar);
  Progress progress("a", 2, bench.options);
  bench.time += 1;
  progress.update(1);
  ::testing::internal::CaptureStderr();
  log_info("between");
  log_info("once only");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "between\nonce only\n");
  EXPECT_TRUE(bench.output().ends_with("\x1b[K\r\x1b[K"));
}

}  // namespace
}  // namespace winnow
