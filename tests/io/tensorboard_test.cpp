#include "winnow/io/tensorboard.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <bit>
#include <chrono>
#include <limits>
#include <set>

#include "event_file.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/file.h"
#include "winnow/io/png.h"

namespace winnow::testing {
namespace {

std::vector<Message> read_events(const io::TensorBoardWriter& writer) {
  std::vector<Message> events;
  for (const auto& record : read_records(read_file(writer.path().string()))) events.emplace_back(record);
  return events;
}

// Summary.value of an event that holds one.
Message value_of(const Message& event) {
  return event.sub(5).sub(1);
}

TEST(TensorBoard, TheFileStartsWithItsVersionAndTheTime) {
  const TemporaryFolder folder;
  const io::TensorBoardWriter writer(folder / "a/b", {.suffix = ".train"});
  const auto events = read_events(writer);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].strings.at(3).at(0), "brain.Event:2");
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(events[0].real(1), now, 60);
  const auto name = writer.path().filename().string();
  EXPECT_TRUE(name.starts_with("events.out.tfevents.") && name.ends_with(".train")) << name;
}

TEST(TensorBoard, ScalarsCarryTagStepAndValue) {
  const TemporaryFolder folder;
  io::TensorBoardWriter writer(folder.path());
  writer.scalar("loss/train", 0.625, 3);
  writer.scalar("loss/train", -1e10, int64_t{1} << 40);
  writer.flush();
  const auto events = read_events(writer);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[1].number(2), 3u);
  EXPECT_EQ(events[2].number(2), uint64_t{1} << 40);
  EXPECT_EQ(value_of(events[1]).strings.at(1).at(0), "loss/train");
  EXPECT_EQ(std::bit_cast<float>(static_cast<uint32_t>(value_of(events[1]).number(2))), 0.625f);
  EXPECT_EQ(std::bit_cast<float>(static_cast<uint32_t>(value_of(events[2]).number(2))), -1e10f);
}

TEST(TensorBoard, ImagesAreStoredAsPng) {
  const TemporaryFolder folder;
  io::TensorBoardWriter writer(folder.path());
  const auto picture = at::arange(24, at::kByte).view({2, 4, 3});
  writer.image("samples", picture, 7);
  writer.flush();
  const auto image = value_of(read_events(writer).at(1)).sub(4);
  EXPECT_EQ(image.number(1), 2u);
  EXPECT_EQ(image.number(2), 4u);
  EXPECT_EQ(image.number(3), 3u);
  EXPECT_TENSOR_EQ(io::read_png(io::as_bytes(image.strings.at(4).at(0))), picture);
  EXPECT_ERROR(writer.image("samples", at::zeros({2, 4}, at::kByte), 7),
               "TensorBoardWriter: image must be uint8 [H, W, C], got uint8 [2, 4]");
}

TEST(TensorBoard, TextNamesItsPlugin) {
  const TemporaryFolder folder;
  io::TensorBoardWriter writer(folder.path());
  writer.text("options", "# seed 3", 0);
  writer.flush();
  const auto value = value_of(read_events(writer).at(1));
  EXPECT_EQ(value.sub(8).number(1), 7u);  // DT_STRING
  EXPECT_EQ(value.sub(8).sub(2).sub(2).number(1), 1u);
  EXPECT_EQ(value.sub(8).strings.at(8).at(0), "# seed 3");
  EXPECT_EQ(value.sub(9).sub(1).strings.at(1).at(0), "text");
}

TEST(TensorBoard, HistogramsCountTheFiniteValues) {
  const TemporaryFolder folder;
  io::TensorBoardWriter writer(folder.path());
  const auto inf = std::numeric_limits<float>::infinity();
  writer.histogram("w", at::tensor({0.0f, 1.0f, 1.5f, 4.0f, inf, std::nanf("")}).view({2, 3}), 1, 4);
  writer.histogram("same", at::full({3}, 2), 1, 2);
  writer.histogram("none", at::empty({0}), 1, 2);
  writer.flush();
  const auto events = read_events(writer);
  const auto histogram = value_of(events.at(1)).sub(5);
  EXPECT_EQ(histogram.real(1), 0);
  EXPECT_EQ(histogram.real(2), 4);
  EXPECT_EQ(histogram.real(3), 4);
  EXPECT_EQ(histogram.real(4), 6.5);
  EXPECT_EQ(histogram.real(5), 19.25);
  EXPECT_EQ(histogram.reals(6), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(histogram.reals(7), (std::vector<double>{1, 2, 0, 1}));
  const auto same = value_of(events.at(2)).sub(5).reals(7);
  EXPECT_EQ(same[0] + same[1], 3);
  EXPECT_EQ(value_of(events.at(3)).sub(5).real(3), 0);
  EXPECT_ERROR(writer.histogram("w", at::ones({1}), 0, 0), "TensorBoardWriter: bins must be >= 1, got 0");
}

TEST(TensorBoard, AResumedRunHidesWhatCameAfterItsCheckpoint) {
  const TemporaryFolder folder;
  const io::TensorBoardWriter writer(folder.path(), {.purge_step = 120});
  const auto events = read_events(writer);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].number(2), 120u);
  EXPECT_EQ(events[1].sub(7).number(1), 1u);  // SessionLog.START
}

TEST(TensorBoard, EachWriterHasAFileOfItsOwnAndWritesAllAtItsEnd) {
  const TemporaryFolder folder;
  std::set<std::filesystem::path> paths;
  for (int i = 0; i < 3; ++i) {
    io::TensorBoardWriter writer(folder.path());
    for (int step = 0; step < 10000; ++step) writer.scalar("x", step, step);
    paths.insert(writer.path());
  }
  ASSERT_EQ(paths.size(), 3u);
  for (const auto& path : paths) EXPECT_EQ(read_records(read_file(path.string())).size(), 10001u);
  EXPECT_ERROR(io::TensorBoardWriter(folder.path(), {.suffix = "a/b"}),
               "TensorBoardWriter: suffix must not hold '/', got a/b");
}

}  // namespace
}  // namespace winnow::testing
