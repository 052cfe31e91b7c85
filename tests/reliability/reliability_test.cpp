// Runs that are killed, stopped, starved of disk and given damaged files. Environment: WINNOW_KILLS, how often the
// killing test kills (5 if absent).
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>

#include "child.h"
#include "support/temporary_folder.h"

namespace winnow::reliability {
namespace {

namespace fs = std::filesystem;

// A rate that does not depend on the length of the run.
constexpr const char* kConstant = "train.schedule={kind: constant, lr: 3.0e-3}";

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Reliability : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = root_ / "run.yaml";
    std::ofstream(config_) << "train:\n"
                              "  steps: 300\n"
                              "  clip_norm: 1.0\n"
                              "  ema_decay: 0.99\n"
                              "  log_every: 10\n"
                              "  checkpoint_every: 15\n"
                              "  keep_last: 2\n"
                              "  resume: auto\n"
                              "  progress: false\n"
                              "  tensorboard: false\n"
                              "  schedule: {lr: 3.0e-3, warmup: 0.1}\n";
  }
  std::vector<std::string> command(const fs::path& out, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> result = {
        WINNOW_RELIABILITY_TRAINER, "--config", config_.string(), "--threads", "1", "--log-level", "error", "--set",
        "train.out=" + out.string()};
    for (const auto& set : more) result.insert(result.end(), {"--set", set});
    return result;
  }
  std::vector<std::string> checkpoints(const fs::path& out) const {
    std::vector<std::string> result;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(out / "checkpoints", error)) {
      result.push_back(entry.path().filename().string());
    }
    std::sort(result.begin(), result.end());
    return result;
  }
  // A failed run: exit 1 and one line that begins with the program's name and has the text.
  void expect_one_clear_line(const Ending& ending, const std::string& text) {
    EXPECT_EQ(ending.exit_code, 1) << ending.err;
    EXPECT_EQ(std::count(ending.err.begin(), ending.err.end(), '\n'), 1) << ending.err;
    EXPECT_TRUE(ending.err.starts_with("reliability_trainer: ")) << ending.err;
    EXPECT_NE(ending.err.find(text), std::string::npos) << "wanted: " << text << "\ngot: " << ending.err;
  }
  // The bytes of two files; a difference is reported without printing them.
  static void expect_same_file(const fs::path& a, const fs::path& b) {
    const auto bytes = bytes_of(a);
    EXPECT_FALSE(bytes.empty()) << a;
    EXPECT_TRUE(bytes == bytes_of(b)) << a << " differs from " << b;
  }
  // A run of 30 steps with checkpoints after 15 and 30.
  fs::path short_run() {
    const auto out = root_ / "short";
    const auto ending = run(command(out, {"train.steps=30", kConstant}));
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
    EXPECT_EQ(checkpoints(out), (std::vector<std::string>{"step_000000015", "step_000000030"}));
    return out;
  }

  const testing::TemporaryFolder folder_;
  const fs::path root_ = folder_.path();
  fs::path config_;
};

TEST_F(Reliability, KilledAtRandomMomentsAndResumedTheWeightsAreEqualToTheBit) {
  const char* wanted_text = std::getenv("WINNOW_KILLS");
  const int wanted = wanted_text != nullptr ? std::max(1, std::atoi(wanted_text)) : 5;
  const auto whole = root_ / "whole";
  const auto start = std::chrono::steady_clock::now();
  {
    Child unbroken(command(whole));
    ASSERT_TRUE(unbroken.wait_for("training"));
    ASSERT_EQ(unbroken.wait().exit_code, 0);
  }
  const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  std::mt19937_64 random(static_cast<uint64_t>(::getpid()));
  std::uniform_real_distribution<double> moment(0, seconds / 3);
  int kills = 0;
  for (int runs = 0; kills < wanted; ++runs) {
    ASSERT_LT(runs, 20 * wanted) << "the runs end before they are killed";
    const auto out = root_ / ("killed" + std::to_string(runs));
    for (bool finished = false; !finished;) {
      Child child(command(out));
      ASSERT_TRUE(child.wait_for("training")) << child.wait().err;
      if (kills < wanted) {
        std::this_thread::sleep_for(std::chrono::duration<double>(moment(random)));
        child.send(SIGKILL);
      }
      const auto ending = child.wait();
      if (ending.signal == SIGKILL) {
        ++kills;
        continue;
      }
      ASSERT_EQ(ending.exit_code, 0) << ending.err;
      finished = true;
    }
    expect_same_file(out / "model.safetensors", whole / "model.safetensors");
    expect_same_file(out / "model_ema.safetensors", whole / "model_ema.safetensors");
    EXPECT_EQ(checkpoints(out).size(), 2u);
  }
  std::printf("killed %d times\n", kills);
}

// A port of the loopback interface that nobody listens on at this moment.
int free_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  const bool bound = ::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  ::close(listener);
  return bound ? ntohs(address.sin_port) : 0;
}

double printed_weights(const Ending& ending) {
  const auto place = ending.out.find("weights ");
  return place == std::string::npos ? NAN : std::stod(ending.out.substr(place + 8));
}

TEST_F(Reliability, TwoProcessesStartedByTheEnvironmentTrainToTheWeightsOfOne) {
  const std::vector<std::string> sets = {"train.steps=60"};
  auto alone = command(root_ / "alone", sets);
  alone.push_back("--plain");
  const auto wanted = run(alone);
  ASSERT_EQ(wanted.exit_code, 0) << wanted.err;
  const auto port = free_port();
  ASSERT_GT(port, 0);
  const auto rank_command = [&](int rank) {
    std::vector<std::string> result = {"/usr/bin/env", "RANK=" + std::to_string(rank), "WORLD_SIZE=2",
                                       "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + std::to_string(port)};
    auto rest = command(root_ / "together", sets);
    rest.push_back("--plain");
    result.insert(result.end(), rest.begin(), rest.end());
    return result;
  };
  Child second(rank_command(1));
  const auto first = run(rank_command(0));
  const auto other = second.wait();
  ASSERT_EQ(first.exit_code, 0) << first.err;
  ASSERT_EQ(other.exit_code, 0) << other.err;
  EXPECT_NEAR(printed_weights(first), printed_weights(wanted), 1e-3);
  EXPECT_EQ(printed_weights(first), printed_weights(other));
  EXPECT_EQ(checkpoints(root_ / "together").size(), 2u);
}

TEST_F(Reliability, SignalsEndTheRunWithACheckpointAndTheirExitCode) {
  const auto whole = root_ / "whole";
  ASSERT_EQ(run(command(whole, {"train.steps=3000", "train.checkpoint_every=0"})).exit_code, 0);
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    const auto out = root_ / std::to_string(code);
    const auto arguments = command(out, {"train.steps=3000", "train.checkpoint_every=0"});
    {
      Child child(arguments);
      ASSERT_TRUE(child.wait_for("training"));
      child.send(signal);
      const auto ending = child.wait();
      EXPECT_EQ(ending.exit_code, code) << ending.err;
      EXPECT_EQ(checkpoints(out).size(), 1u);
      EXPECT_FALSE(fs::exists(out / "model.safetensors"));
    }
    EXPECT_EQ(run(arguments).exit_code, 0);
    expect_same_file(out / "model.safetensors", whole / "model.safetensors");
  }
}

TEST_F(Reliability, AWriteThatFailsLeavesOlderFilesAndOneLine) {
  const auto out = short_run();
  fs::copy_file(out / "checkpoints/step_000000030/model.safetensors", root_ / "before");
  const auto ending = run(command(out, {"train.steps=60"}), /*file_limit=*/4096);
  expect_one_clear_line(ending, "File too large");
  EXPECT_EQ(checkpoints(out), (std::vector<std::string>{"step_000000015", "step_000000030"}));
  expect_same_file(out / "checkpoints/step_000000030/model.safetensors", root_ / "before");
  EXPECT_EQ(run(command(out, {"train.steps=60"})).exit_code, 0);  // with room again it goes on
}

TEST_F(Reliability, AFullDiskLeavesOlderFilesAndOneLine) {
  const auto disk = root_ / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "mounting a small tmpfs needs the rights of root; the failing write is tested without";
  }
  const auto ending = run(command(disk / "run", {"train.steps=300", "train.keep_last=100"}));
  const auto kept = checkpoints(disk / "run");
  EXPECT_TRUE(!kept.empty() && kept[0] == "step_000000015");
  for (const auto& name : kept) EXPECT_TRUE(name.starts_with("step_")) << name;  // no half of one
  const auto left = kept.size();
  EXPECT_LT(left, 20u);
  const auto again = run(command(disk / "run", {"train.steps=300", "train.keep_last=100"}));
  EXPECT_EQ(checkpoints(disk / "run").size(), left);
  ::umount(disk.c_str());
  expect_one_clear_line(ending, "No space left on device");
  expect_one_clear_line(again, "No space left on device");
}

TEST_F(Reliability, AnOutputFolderThatCannotBeWrittenIsOneLine) {
  std::ofstream(root_ / "file") << "in the way";
  expect_one_clear_line(run(command(root_ / "file" / "run")), (root_ / "file").string());
  expect_one_clear_line(run(command("/proc/winnow/run")), "/proc/winnow");
  EXPECT_EQ(bytes_of(root_ / "file"), "in the way");
}

TEST_F(Reliability, ADamagedCheckpointIsNamedAndPassedOverOnlyWhenTold) {
  const auto out = short_run();
  const auto newest = out / "checkpoints/step_000000030";
  fs::resize_file(newest / "model.safetensors", fs::file_size(newest / "model.safetensors") - 7);
  expect_one_clear_line(run(command(out, {"train.steps=45", "train.resume=latest"})), "model.safetensors must have");
  EXPECT_TRUE(fs::exists(newest / "model.safetensors"));
  EXPECT_EQ(run(command(out, {"train.steps=45", kConstant})).exit_code, 0);  // resume: auto
  const auto other = root_ / "other";
  EXPECT_EQ(run(command(other, {"train.steps=45", kConstant})).exit_code, 0);
  expect_same_file(out / "model.safetensors", other / "model.safetensors");
}

TEST_F(Reliability, WithoutAnyCheckpointThatCanBeReadNothingIsStartedAnew) {
  const auto out = short_run();
  for (const char* step : {"step_000000015", "step_000000030"}) {
    std::ofstream(out / "checkpoints" / step / "checkpoint.json") << "{}";
  }
  expect_one_clear_line(run(command(out, {"train.steps=45"})), "no checkpoint under");
  EXPECT_EQ(checkpoints(out).size(), 2u);
}

TEST_F(Reliability, ABadConfigurationNamesFileLineAndKey) {
  std::ofstream(config_) << "train:\n  steps: 30\n  checkpoint_evry: 5\n";
  expect_one_clear_line(run(command(root_ / "run")), "run.yaml:3: train.checkpoint_evry");
  std::ofstream(config_) << "train:\n  steps: [30\n";
  expect_one_clear_line(run(command(root_ / "run")), "run.yaml:");
  std::ofstream(config_) << "train:\n  steps: 30\n  accumulate: 0\n";
  expect_one_clear_line(run(command(root_ / "run")), "train.accumulate must be >= 1, got 0");
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

}  // namespace
}  // namespace winnow::reliability
