#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/file.h"
#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"

namespace winnow::testing {
namespace {
namespace fs = std::filesystem;

io::TensorMap four_tensors() {
  return {{"a", at::arange(4, at::kFloat)},
          {"b", at::arange(8, at::kFloat)},
          {"c", at::arange(2, at::kFloat)},
          {"d", at::ones({3}, at::kByte)}};
}

void expect_holds(const io::Checkpoint& checkpoint, const io::TensorMap& tensors) {
  ASSERT_EQ(checkpoint.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) EXPECT_TENSOR_EQ(checkpoint.tensor(name), tensor);
}

std::vector<std::string> files_of(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& item : fs::directory_iterator(folder)) names.push_back(item.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Checkpoint, AFileAFolderAndAnIndexReadAlike) {
  const TemporaryFolder folder;
  const fs::path one = folder / "one", many = folder / "many";
  io::save_checkpoint(one, four_tensors(), {{"step", "3"}});
  EXPECT_EQ(files_of(one), std::vector<std::string>{"model.safetensors"});
  expect_holds(io::Checkpoint(one), four_tensors());
  expect_holds(io::Checkpoint(one / "model.safetensors"), four_tensors());
  EXPECT_EQ(io::Checkpoint(one).metadata(), (io::StringMap{{"format", "pt"}, {"step", "3"}}));

  io::save_checkpoint(many, four_tensors(), {}, {.max_shard_bytes = 24});
  EXPECT_EQ(files_of(many),
            (std::vector<std::string>{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                      "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  expect_holds(io::Checkpoint(many), four_tensors());
  expect_holds(io::Checkpoint(many / "model.safetensors.index.json"), four_tensors());
  const auto index = io::read_json(many / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 14 * 4 + 3);
  EXPECT_EQ(index["weight_map"]["b"],
            "model-00002-of-00003.safetensors");  // 32 bytes, larger than the limit: a file of its own
  EXPECT_EQ(io::Checkpoint(many).entry("b").shape, std::vector<int64_t>{8});
  EXPECT_TRUE(io::Checkpoint(many).file_of("b").ends_with("model-00002-of-00003.safetensors"));
}

TEST(Checkpoint, SavingAgainInTheOtherLayoutLeavesNothingOfTheFirst) {
  const TemporaryFolder folder;
  const fs::path path = folder / "model";
  io::save_checkpoint(path, four_tensors(), {}, {.max_shard_bytes = 24});
  std::ofstream(path / "config.json") << "{}";
  std::ofstream(path / "model-of-mine.safetensors") << "";
  auto changed = four_tensors();
  changed["a"] = at::zeros({1});
  io::save_checkpoint(path, changed);
  EXPECT_EQ(files_of(path),
            (std::vector<std::string>{"config.json", "model-of-mine.safetensors", "model.safetensors"}));
  expect_holds(io::Checkpoint(path), changed);
  io::save_checkpoint(path, four_tensors(), {}, {.max_shard_bytes = 40});
  expect_holds(io::Checkpoint(path), four_tensors());
  EXPECT_FALSE(fs::exists(path / "model.safetensors"));
}

TEST(Checkpoint, WhatIsMissingOrContradictsItselfIsNamed) {
  const TemporaryFolder folder;
  const fs::path path = folder / "model";
  io::save_checkpoint(path, four_tensors(), {}, {.max_shard_bytes = 24});
  const auto index = path / "model.safetensors.index.json";
  const auto good = io::read_json(index);
  const auto with = [&](const std::string& tensor, const io::Json& value) {
    auto json = good;
    json["weight_map"][tensor] = value;
    io::write_json(index, json);
  };
  with("x", "model-00001-of-00003.safetensors");
  EXPECT_ERROR_KIND(io::Checkpoint{path}, ErrorKind::file,
                    "model.safetensors.index.json: model-00001-of-00003.safetensors should hold tensor x but does not");
  for (const auto* bad : {"../model.safetensors", "/etc/passwd", "..", "", "a/b"}) {
    with("a", bad);
    EXPECT_ERROR(io::Checkpoint{path}, "must be the name of a file beside the index");
  }
  with("a", 3);
  EXPECT_ERROR(io::Checkpoint{path}, "weight_map: a must name a file");
  auto json = good;
  json["weight_map"].erase("c");
  io::write_json(index, json);
  EXPECT_ERROR(io::Checkpoint{path}, "weight_map lacks tensor c of model-00003-of-00003.safetensors");
  io::save_safetensors(path / "model-00003-of-00003.safetensors",
                       {{"a", at::ones({1})}, {"c", at::ones({1})}, {"d", at::ones({1})}});
  io::write_json(index, good);
  EXPECT_ERROR(io::Checkpoint{path}, "tensor a stands in two shards");
  fs::remove(path / "model-00003-of-00003.safetensors");
  EXPECT_ERROR(io::Checkpoint{path}, "model-00003-of-00003.safetensors");
  io::write_json(index, {{"metadata", io::Json::object()}});
  EXPECT_ERROR(io::Checkpoint{path}, "model.safetensors.index.json: weight_map is missing");
}

TEST(Checkpoint, AFolderWithoutWeightsOrWithPickleSaysSo) {
  const TemporaryFolder folder;
  EXPECT_ERROR(io::Checkpoint{folder.path()},
               "the folder holds neither model.safetensors nor model.safetensors.index.json");
  std::ofstream(folder / "pytorch_model.bin") << "PK\x03\x04";
  EXPECT_ERROR(io::Checkpoint{folder.path()}, "pytorch_model.bin: pickle files are never read");
  EXPECT_ERROR(io::Checkpoint{folder / "none"}, "none");
}

TEST(Checkpoint, WrongOptionsAreRefused) {
  const TemporaryFolder folder;
  EXPECT_ERROR(io::save_checkpoint(folder / "m", {}, {}, {.max_shard_bytes = 0}),
               "max_shard_bytes must be >= 1, got 0");
  EXPECT_ERROR(io::save_checkpoint(folder / "m", {}, {}, {.stem = "a/b"}),
               "stem must be a file name without folders, got \"a/b\"");
  EXPECT_NO_THROW(io::save_checkpoint(folder / "m", {}));
  EXPECT_TRUE(io::Checkpoint(folder / "m").names().empty());
}

}  // namespace
}  // namespace winnow::testing
