#include "winnow/data/datasets.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>

#include "idx_bytes.h"
#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"

namespace winnow::data {
namespace {

TEST(IdxPair, GivesPicturesWithOneChannel) {
  const testing::TemporaryFolder folder;
  const auto images = folder.write("images", idx_bytes({2, 2, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  const auto labels = folder.write("labels", idx_bytes({2}, {1, 0}));
  const auto data = idx_pair(images, labels, {"a", "b"});
  EXPECT_TENSOR_EQ(data->images(), at::arange(12).to(at::kByte).view({2, 2, 3, 1}));
  EXPECT_TENSOR_EQ(data->labels(), at::tensor({1, 0}, at::kLong));
  EXPECT_EQ(data->class_names()[1], "b");
}

TEST(IdxPair, FilesThatDoNotFitAreNamed) {
  const testing::TemporaryFolder folder;
  const auto images = folder.write("images", idx_bytes({2, 1, 1}, {0, 1}));
  const auto three = folder.write("three", idx_bytes({3}, {0, 1, 2}));
  const auto large = folder.write("large", idx_bytes({2}, {0, 7}));
  EXPECT_ERROR_KIND(idx_pair(images, folder / "none"), ErrorKind::file, (folder / "none") + ": there is no such file");
  EXPECT_ERROR_KIND(idx_pair(images, three), ErrorKind::file,
                    three + ": labels must be uint8 [2] as " + images + " has that many images");
  EXPECT_ERROR_KIND(idx_pair(images, large, {"a", "b"}), ErrorKind::file, large + ": labels must be in [0, 2), got 7");
  EXPECT_ERROR_KIND(idx_pair(three, three), ErrorKind::file,
                    three + ": images must be uint8 [N, H, W] or [N, H, W, C]");
  const auto cut = folder.write("cut", idx_bytes({2, 2, 2}, {0, 1}));
  EXPECT_ERROR_KIND(idx_pair(cut, three), ErrorKind::file, cut);
}

TEST(FashionMnist, AMissingFileSaysHowToFetchIt) {
  const testing::TemporaryFolder folder;
  EXPECT_ERROR_KIND(fashion_mnist(folder.string(), Part::train), ErrorKind::file,
                    (folder / "train-images-idx3-ubyte") + ": there is no such file; run: ./dev data fashion-mnist");
}

TEST(FashionMnist, HasBalancedClasses) {
  const auto folder = std::string(WINNOW_SOURCE_DIR) + "/data/fashion-mnist";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "run: ./dev data fashion-mnist";
  const auto data = fashion_mnist(folder, Part::test);
  EXPECT_EQ(data->images().sizes(), at::IntArrayRef({10000, 28, 28, 1}));
  EXPECT_TENSOR_EQ(data->labels().bincount(), at::full({10}, 1000, at::kLong));
  EXPECT_EQ(data->class_names().at(9), "ankle boot");
}

std::string cifar_record(const std::vector<char>& labels, uint8_t red, uint8_t green, uint8_t blue) {
  std::string record(labels.begin(), labels.end());
  for (const auto plane : {red, green, blue}) record += std::string(1024, static_cast<char>(plane));
  return record;
}

TEST(Cifar, PlanesBecomeChannels) {
  const testing::TemporaryFolder folder;
  folder.write("test_batch.bin", cifar_record({7}, 10, 20, 30) + cifar_record({2}, 1, 2, 3));
  const auto data = cifar10(folder.string(), Part::test);
  EXPECT_EQ(data->images().sizes(), at::IntArrayRef({2, 32, 32, 3}));
  EXPECT_TENSOR_EQ(data->images()[0][31][5], at::tensor({10, 20, 30}, at::kByte));
  EXPECT_TENSOR_EQ(data->labels(), at::tensor({7, 2}, at::kLong));
  EXPECT_EQ(data->class_names().at(7), "horse");
}

TEST(Cifar, TrainingPartJoinsItsFiveFiles) {
  const testing::TemporaryFolder folder;
  for (int i = 1; i <= 5; ++i) {
    folder.write("data_batch_" + std::to_string(i) + ".bin", cifar_record({static_cast<char>(i)}, 0, 0, 0));
  }
  EXPECT_TENSOR_EQ(cifar10(folder.string(), Part::train)->labels(), at::arange(1, 6));
}

TEST(Cifar, HundredHasCoarseAndFineLabels) {
  const testing::TemporaryFolder folder;
  folder.write("train.bin", cifar_record({19, 99}, 0, 0, 0));
  EXPECT_EQ(cifar100(folder.string(), Part::train)->label(0), 99);
  const auto coarse = cifar100(folder.string(), Part::train, CifarLabels::coarse);
  EXPECT_EQ(coarse->label(0), 19);
  EXPECT_EQ(coarse->num_classes(), 20);
}

TEST(Cifar, DamagedFilesAreNamed) {
  const testing::TemporaryFolder folder;
  const auto path = folder.write("test_batch.bin", "short");
  EXPECT_ERROR_KIND(cifar10(folder.string(), Part::test), ErrorKind::file,
                    path + ": a CIFAR file must hold records of 3073 bytes, got 5 bytes");
  folder.write("test_batch.bin", cifar_record({10}, 0, 0, 0));
  EXPECT_ERROR_KIND(cifar10(folder.string(), Part::test), ErrorKind::file,
                    path + ": label of record 0 must be in [0, 10), got 10");
  EXPECT_ERROR_KIND(cifar10(folder.string(), Part::train), ErrorKind::file, "data_batch_1.bin: there is no such file");
}

TEST(CsvExamples, RowsArePictures) {
  const testing::TemporaryFolder folder;
  const auto file = folder.write("digits.csv", "0,4,8,16,1\n1,2,3,4,0\n");
  const auto data = csv_examples(file, {.height = 2, .width = 2, .scale = 255.0 / 16});
  EXPECT_TENSOR_EQ(data->images().view({2, 4}), at::tensor({0, 64, 128, 255, 16, 32, 48, 64}, at::kByte).view({2, 4}));
  EXPECT_TENSOR_EQ(data->labels(), at::tensor({1, 0}, at::kLong));
}

TEST(CsvExamples, RowsAreFeatures) {
  const testing::TemporaryFolder folder;
  const auto file = folder.write("table.csv", "class,a,b\n3,0.5,-1\n0,2,1e3\n");
  const auto data = csv_examples(file, {.label = CsvLabel::first, .header = true});
  EXPECT_TENSOR_EQ(data->images(), at::tensor({0.5F, -1.0F, 2.0F, 1000.0F}).view({2, 2}));
  EXPECT_EQ(data->num_classes(), 4);
  EXPECT_EQ(csv_examples(file, {.label = CsvLabel::none, .header = true})->images().size(1), 3);
}

TEST(CsvExamples, WhatDoesNotFitIsNamed) {
  const testing::TemporaryFolder folder;
  const auto file = folder.write("bad.csv", "1,2,0.5\n");
  EXPECT_ERROR_KIND(csv_examples(file, {}), ErrorKind::file, file + ": labels in column 3 must be whole numbers >= 0");
  const auto wide = folder.write("wide.csv", "1,2,3,0\n");
  EXPECT_ERROR_KIND(csv_examples(wide, {.height = 2, .width = 2}), ErrorKind::file,
                    wide + ": pictures of 2 x 2 need 4 columns beside the label, got 3");
  const auto bright = folder.write("bright.csv", "300,0\n");
  EXPECT_ERROR_KIND(csv_examples(bright, {.height = 1, .width = 1}), ErrorKind::file,
                    bright + ": pixel values times 1 must be in [0, 255]");
  EXPECT_ERROR(csv_examples(bright, {.height = 2}), "height and width must both be given or both be 0, got 2 and 0");
  EXPECT_ERROR_KIND(csv_examples(folder / "none.csv", {}), ErrorKind::file, "none.csv: there is no such file");
  EXPECT_ERROR_KIND(sklearn_digits(folder / "d.csv.gz"), ErrorKind::file, "run: ./dev data digits");
  EXPECT_ERROR_KIND(mnist_5k(folder / "m.csv.gz"), ErrorKind::file, "run: ./dev data mnist5k");
}

TEST(CsvExamples, TheRealDigits) {
  const auto file = std::string(WINNOW_SOURCE_DIR) + "/data/digits/digits.csv.gz";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "run: ./dev data digits";
  const auto data = sklearn_digits(file);
  EXPECT_EQ(data->images().sizes(), at::IntArrayRef({1797, 8, 8, 1}));
  EXPECT_EQ(data->images().max().item<int64_t>(), 255);
  EXPECT_TENSOR_EQ(data->labels().narrow(0, 0, 10), at::arange(10));
  EXPECT_TENSOR_EQ(data->labels().bincount(),
                   at::tensor({178, 182, 177, 183, 181, 182, 181, 179, 174, 180}, at::kLong));
}

}  // namespace
}  // namespace winnow::data
