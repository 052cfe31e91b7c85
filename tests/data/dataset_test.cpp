#include "winnow/data/dataset.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>

#include "support/error.h"
#include "support/tensor_near.h"

namespace winnow::data {
namespace {

// 30 pictures of 2 x 3 grey pixels whose first pixel is their number; labels 0 0 0 1 1 1 ... 9.
TensorDatasetPtr thirty() {
  auto images = at::zeros({30, 2, 3, 1}, at::kByte);
  images.select(1, 0).select(1, 0).copy_(at::arange(30).unsqueeze(1));
  return std::make_shared<TensorDataset>(images, at::arange(30).div(3, "floor"));
}

std::vector<int64_t> numbers(const Dataset& dataset) {
  std::vector<int64_t> found;
  for (int64_t i = 0; i < dataset.size(); ++i) found.push_back(dataset.get(i, 0).image.flatten()[0].item<int64_t>());
  return found;
}

TEST(TensorDataset, GivesRowsWithTheirLabels) {
  const auto data = thirty();
  EXPECT_EQ(data->size(), 30);
  EXPECT_EQ(data->num_classes(), 10);
  EXPECT_EQ(data->get(17, 0).label, 5);
  EXPECT_EQ(data->label(17), 5);
  EXPECT_TENSOR_EQ(data->get(17, 0).image, data->images()[17]);
  EXPECT_EQ(data->origin(17), "tensor, record 17");
}

TEST(TensorDataset, WithoutLabelsHasNoClasses) {
  const TensorDataset data(at::zeros({4, 7}), {});
  EXPECT_EQ(data.num_classes(), 0);
  EXPECT_EQ(data.get(0, 0).label, -1);
}

TEST(TensorDataset, BadArgumentsAreNamed) {
  const auto images = at::zeros({3, 2});
  EXPECT_ERROR(TensorDataset(at::zeros({}), {}), "TensorDataset: images must have shape [N, ...], got float32 []");
  EXPECT_ERROR(TensorDataset(images, at::zeros({2}, at::kLong)), "TensorDataset: labels must be int64 [3] on the cpu");
  EXPECT_ERROR(TensorDataset(images, at::tensor({0, 1, -1}, at::kLong)),
               "TensorDataset: labels of tensor must be in [0, 2), got -1 to 1");
  EXPECT_ERROR(TensorDataset(images, at::tensor({0, 1, 5}, at::kLong), {}, "x", 3),
               "TensorDataset: labels of x must be in [0, 3), got 0 to 5");
  EXPECT_ERROR(TensorDataset(images, at::tensor({0, 1, 1}, at::kLong), {"a"}, "x", 2),
               "TensorDataset: class_names must hold 2 names, got 1");
  EXPECT_ERROR(thirty()->get(30, 0), "TensorDataset: index must be in [0, 30), got 30");
  EXPECT_ERROR(thirty()->label(-1), "TensorDataset: index must be in [0, 30), got -1");
}

TEST(Dataset, ReadGivesTheWholePictureAndTheChosenBox) {
  const auto image = thirty()->read(3, 0, [](int64_t height, int64_t width) {
    EXPECT_EQ(height, 2);
    EXPECT_EQ(width, 3);
    return Box{1, 1, 1, 2};
  });
  EXPECT_EQ(image.window, (Box{0, 0, 2, 3}));
  EXPECT_EQ(image.wanted, (Box{1, 1, 1, 2}));
  EXPECT_EQ(image.label, 1);
}

TEST(Dataset, ReadRefusesWhatIsNoPicture) {
  const TensorDataset features(at::zeros({4, 7}), {});
  EXPECT_ERROR(features.read(2, 0, [](int64_t, int64_t) { return Box{}; }),
               "Dataset: a transform needs pictures uint8 [H, W, C], tensor, record 2 is float32 [7] on cpu");
}

TEST(Subset, FollowsItsIndices) {
  const Subset subset(thirty(), {29, 0, 0, 12});
  EXPECT_EQ(numbers(subset), (std::vector<int64_t>{29, 0, 0, 12}));
  EXPECT_EQ(subset.label(3), 4);
  EXPECT_EQ(subset.origin(0), "tensor, record 29");
  EXPECT_EQ(subset.num_classes(), 10);
  EXPECT_ERROR(Subset(thirty(), {30}), "Subset: indices must be in [0, 30), got 30");
  EXPECT_ERROR(subset.get(4, 0), "Subset: index must be in [0, 4), got 4");
  EXPECT_ERROR(Subset(nullptr, {}), "Subset: base must not be null");
}

TEST(Split, PartsAreDisjointAndTogetherTheWhole) {
  const auto [first, second] = split(thirty(), 0.7, 3);
  EXPECT_EQ(first->size(), 21);
  auto all = numbers(*first);
  const auto rest = numbers(*second);
  all.insert(all.end(), rest.begin(), rest.end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, numbers(*thirty()));
}

TEST(Split, TheSeedDecides) {
  EXPECT_EQ(numbers(*split(thirty(), 0.5, 3).first), numbers(*split(thirty(), 0.5, 3).first));
  EXPECT_NE(numbers(*split(thirty(), 0.5, 3).first), numbers(*split(thirty(), 0.5, 4).first));
}

TEST(Split, StratifiedKeepsTheShareOfEveryClass) {
  const auto [first, second] = split(thirty(), 1.0 / 3, 1, /*stratified=*/true);
  for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(first->label(i), i);  // one of three each
  EXPECT_EQ(second->size(), 20);
}

TEST(Split, ShareIsChecked) {
  EXPECT_ERROR(split(thirty(), 1.5, 0), "split: share must be in [0, 1], got 1.5");
}

TEST(PerClassSubset, HoldsThatManyOfEachClass) {
  const auto two = per_class_subset(thirty(), 2, 5);
  ASSERT_EQ(two->size(), 20);
  std::map<int64_t, std::set<int64_t>> members;
  const auto chosen = numbers(*two);
  for (int64_t i = 0; i < 20; ++i) members[two->label(i)].insert(chosen[static_cast<size_t>(i)]);
  EXPECT_EQ(members.size(), 10U);
  for (const auto& [label, found] : members) EXPECT_EQ(found.size(), 2U) << label;
  EXPECT_NE(numbers(*per_class_subset(thirty(), 2, 6)), chosen);
}

TEST(PerClassSubset, NamesTheClassThatIsTooSmall) {
  const auto images = at::zeros({3, 1});
  const auto data =
      std::make_shared<TensorDataset>(images, at::tensor({0, 0, 1}, at::kLong), std::vector<std::string>{"cat", "dog"});
  EXPECT_ERROR(per_class_subset(data, 2, 0),
               "per_class_subset: count must be at most the size of every class, got 2, but class 1 (dog) has 1");
  EXPECT_ERROR(per_class_subset(std::make_shared<TensorDataset>(images, at::Tensor()), 1, 0),
               "per_class_subset: dataset must have labels, got none");
}

TEST(FirstExamples, StopsAtTheEnd) {
  EXPECT_EQ(first_examples(thirty(), 4)->size(), 4);
  EXPECT_EQ(first_examples(thirty(), 400)->size(), 30);
}

TEST(ToMemory, GathersInOrderWithAnyNumberOfThreads) {
  for (const int64_t threads : {1, 4}) {
    const auto copy = to_memory(std::make_shared<Subset>(thirty(), std::vector<int64_t>{5, 1, 9}), threads);
    EXPECT_EQ(numbers(*copy), (std::vector<int64_t>{5, 1, 9}));
    EXPECT_TENSOR_EQ(copy->labels(), at::tensor({1, 0, 3}, at::kLong));
    EXPECT_EQ(copy->num_classes(), 10);
  }
}

// Fails at every index from `bad` on.
struct Failing : TensorDataset {
  explicit Failing(int64_t first_bad) : TensorDataset(at::zeros({100, 1}), {}), bad(first_bad) {}
  Example get(int64_t index, uint64_t seed) const override {
    if (index >= bad) fail(ErrorKind::file, "file {} is broken", index);
    return TensorDataset::get(index, seed);
  }
  int64_t bad;
};

TEST(ToMemory, AFailureInAThreadReachesTheCaller) {
  EXPECT_ERROR(to_memory(std::make_shared<Failing>(40), 3), "is broken");
}

}  // namespace
}  // namespace winnow::data
