#include "winnow/train/checkpoint.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::train {
namespace {

namespace fs = std::filesystem;

Checkpoint example(int64_t step) {
  Checkpoint result;
  result.step = step;
  result.parts["model"].tensors = {{"weight", at::arange(12, at::kFloat).view({3, 4}) + step},
                                   {"empty", at::zeros({0})}};
  result.parts["optimizer"].values = {{"rate", 0.1 + 0.2}, {"steps", {{"weight", step}}}};
  result.parts["rng"].tensors = {{"state", at::arange(7, at::kByte)}};
  result.options = {{"steps", 10}};
  return result;
}

std::vector<int64_t> steps_under(const fs::path& root) {
  std::vector<int64_t> result;
  for (const auto& entry : list_checkpoints(root)) result.push_back(entry.step);
  return result;
}

// Entries of the folder beside the checkpoints.
std::vector<std::string> others_under(const fs::path& root) {
  std::vector<std::string> result;
  for (const auto& entry : fs::directory_iterator(root)) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with("step_") || name.find('.') != std::string::npos) result.push_back(name);
  }
  return result;
}

void truncate_by(const fs::path& path, uintmax_t bytes) {
  fs::resize_file(path, fs::file_size(path) - bytes);
}

void flip_bit(const fs::path& path, int64_t from_end) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-from_end, std::ios::end);
  const auto place = file.tellg();
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(place);
  file.put(byte);
}

TEST(Checkpoint, ComesBackToTheBit) {
  const testing::TemporaryFolder root;
  const auto path = save_checkpoint(root.path(), example(3), 2);
  EXPECT_EQ(path.filename(), "step_000000003");
  const auto loaded = load_checkpoint(path);
  EXPECT_EQ(loaded.step, 3);
  EXPECT_EQ(loaded.options, example(3).options);
  ASSERT_EQ(loaded.parts.size(), 3u);
  EXPECT_TENSOR_EQ(loaded.parts.at("model").tensors.at("weight"), example(3).parts["model"].tensors["weight"]);
  EXPECT_EQ(loaded.parts.at("model").tensors.at("empty").numel(), 0);
  EXPECT_TENSOR_EQ(loaded.parts.at("rng").tensors.at("state"), at::arange(7, at::kByte));
  EXPECT_EQ(loaded.parts.at("optimizer").values.at("rate").get<double>(), 0.1 + 0.2);
}

TEST(Checkpoint, TheLastOnesAreKeptByNumber) {
  const testing::TemporaryFolder root;
  for (const int64_t step : {9, 10, 100, 1000}) save_checkpoint(root.path(), example(step), 2);
  EXPECT_EQ(steps_under(root.path()), (std::vector<int64_t>{100, 1000}));
  EXPECT_TRUE(others_under(root.path()).empty());
}

TEST(Checkpoint, AFolderThatIsThereAlreadyIsMovedAsideNotDeleted) {
  const testing::TemporaryFolder root;
  const auto path = save_checkpoint(root.path(), example(3), 2);
  truncate_by(path / "model.safetensors", 1);
  save_checkpoint(root.path(), example(3), 2);
  EXPECT_EQ(load_checkpoint(path).step, 3);
  EXPECT_TRUE(fs::exists(path.string() + ".old/checkpoint.json"));
  EXPECT_EQ(steps_under(root.path()), std::vector<int64_t>{3});
}

TEST(Checkpoint, WhatAKilledRunLeftIsIgnoredAndSweptUp) {
  const testing::TemporaryFolder root;
  fs::create_directories(root.path() / ".step_000000005.writing");
  std::ofstream(root.path() / ".step_000000005.writing" / "model.safetensors") << "half";
  fs::create_directories(root.path() / ".step_000000001.deleting");
  EXPECT_TRUE(list_checkpoints(root.path()).empty());
  EXPECT_FALSE(load_newest_checkpoint(root.path()).has_value());
  save_checkpoint(root.path(), example(6), 1);
  EXPECT_TRUE(others_under(root.path()).empty());
}

TEST(Checkpoint, OtherNamesAreNoCheckpoints) {
  const testing::TemporaryFolder root;
  for (const char* name : {"step_", "step_12x", "step_000000007.old", "steps_3", "notes"}) {
    fs::create_directories(root.path() / name);
  }
  std::ofstream(root.path() / "step_000000008") << "a file";
  EXPECT_TRUE(list_checkpoints(root.path()).empty());
  EXPECT_TRUE(list_checkpoints(root.path() / "absent").empty());
}

TEST(Checkpoint, EveryKindOfDamageIsNamed) {
  const testing::TemporaryFolder root;
  const auto fresh = [&] {
    fs::remove_all(root.path());
    return save_checkpoint(root.path(), example(3), 1);
  };
  auto path = fresh();
  truncate_by(path / "model.safetensors", 5);
  EXPECT_ERROR_KIND(load_checkpoint(path), ErrorKind::file, "(truncated or changed)");
  EXPECT_ERROR(load_checkpoint(path), path.string());
  path = fresh();
  flip_bit(path / "model.safetensors", 3);
  EXPECT_ERROR(load_checkpoint(path), "model.safetensors is corrupted (its sum differs from the one written)");
  path = fresh();
  fs::remove(path / "rng.safetensors");
  EXPECT_ERROR(load_checkpoint(path), "the file of 'rng' is missing, rng.safetensors");
  path = fresh();
  fs::remove(path / "checkpoint.json");
  EXPECT_ERROR(load_checkpoint(path), "checkpoint.json is missing");
  path = fresh();
  truncate_by(path / "checkpoint.json", 20);
  EXPECT_ERROR_KIND(load_checkpoint(path), ErrorKind::file, "checkpoint.json");
  EXPECT_ERROR(load_checkpoint(root.path() / "step_9"), "there is no such folder");
}

TEST(Checkpoint, AChangedNumberInTheIndexIsFound) {
  const testing::TemporaryFolder root;
  const auto path = save_checkpoint(root.path(), example(3), 1);
  std::string text;
  {
    std::ifstream in(path / "checkpoint.json");
    text.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto place = text.find("\"step\": 3");
  ASSERT_NE(place, std::string::npos);
  text[place + 8] = '4';
  std::ofstream(path / "checkpoint.json") << text;
  EXPECT_ERROR(load_checkpoint(path), "checkpoint.json is corrupted (its sum differs from the one written)");
}

TEST(Checkpoint, AnotherFormatIsRefusedByItsNumber) {
  const testing::TemporaryFolder root;
  const auto path = save_checkpoint(root.path(), example(3), 1);
  std::ofstream(path / "checkpoint.json") << R"({"format": 2, "step": 3})";
  EXPECT_ERROR(load_checkpoint(path), "format 2 is not known, this version reads up to 1");
}

TEST(Checkpoint, TheNewestThatCanBeReadIsFoundAndTheDamagedOneStays) {
  const testing::TemporaryFolder root;
  save_checkpoint(root.path(), example(1), 3);
  save_checkpoint(root.path(), example(2), 3);
  const auto newest = save_checkpoint(root.path(), example(3), 3);
  truncate_by(newest / "model.safetensors", 8);
  const auto found = load_newest_checkpoint(root.path());
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->checkpoint.step, 2);
  ASSERT_EQ(found->damaged.size(), 1u);
  EXPECT_NE(found->damaged[0].find("step_000000003"), std::string::npos);
  EXPECT_EQ(steps_under(root.path()), (std::vector<int64_t>{1, 2, 3}));
}

TEST(Checkpoint, IfNoneCanBeReadTheNewestIsExplained) {
  const testing::TemporaryFolder root;
  for (const int64_t step : {1, 2}) fs::remove(save_checkpoint(root.path(), example(step), 3) / "checkpoint.json");
  EXPECT_ERROR_KIND(load_newest_checkpoint(root.path()), ErrorKind::file,
                    "step_000000002': checkpoint.json is missing");
}

TEST(Checkpoint, AFailedWriteLeavesTheOlderOnesAndNothingElse) {
  const testing::TemporaryFolder root;
  save_checkpoint(root.path(), example(1), 3);
  auto unwritable = example(2);
  unwritable.parts["rng"].tensors["sparse"] = at::eye(2).to_sparse();  // fails after the files before it are written
  EXPECT_ERROR(save_checkpoint(root.path(), unwritable, 3), "sparse");
  EXPECT_EQ(steps_under(root.path()), std::vector<int64_t>{1});
  EXPECT_TRUE(others_under(root.path()).empty());
  EXPECT_EQ(load_checkpoint(list_checkpoints(root.path())[0].path).step, 1);
}

TEST(Checkpoint, ANumberThatJsonCannotHoldIsRefused) {
  const testing::TemporaryFolder root;
  auto bad = example(2);
  bad.parts["optimizer"].values["rates"] = {1.0, NAN};
  EXPECT_ERROR(save_checkpoint(root.path(), bad, 3), "save_checkpoint: optimizer/rates/1 must be finite, got nan");
  EXPECT_TRUE(list_checkpoints(root.path()).empty());
}

TEST(Checkpoint, BadArgumentsAreNamed) {
  const testing::TemporaryFolder root;
  EXPECT_ERROR(save_checkpoint(root.path(), example(-1), 1), "save_checkpoint: step must be >= 0, got -1");
  EXPECT_ERROR(save_checkpoint(root.path(), example(1), 0), "save_checkpoint: keep_last must be >= 1, got 0");
}

}  // namespace
}  // namespace winnow::train
