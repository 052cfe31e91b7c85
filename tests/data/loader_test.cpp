#include "winnow/data/loader.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "support/tensor_near.h"
#include "winnow/core/random.h"
#include "winnow/data/datasets.h"
#include "winnow/io/jpeg.h"

namespace winnow::data {
namespace {

// n colour pictures of 12 x 16, label = number mod 5.
DatasetPtr pictures(int64_t n) {
  auto images = at::empty({n, 12, 16, 3}, at::kByte);
  auto* bytes = images.mutable_data_ptr<uint8_t>();
  Random random(7);
  for (int64_t i = 0; i < images.numel(); ++i) bytes[i] = static_cast<uint8_t>(random.integer(256));
  return std::make_shared<TensorDataset>(images, at::arange(n).remainder(5));
}

ImageTransform augmentation() {
  auto options = mae_pretraining_transform(8);
  options.erasing.probability = 0.3;
  return ImageTransform(options);
}

std::vector<int64_t> as_vector(const at::Tensor& x) {
  const auto* begin = x.const_data_ptr<int64_t>();
  return {begin, begin + x.numel()};
}

void expect_same(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.step, b.step);
  EXPECT_TENSOR_EQ(a.indices, b.indices);
  EXPECT_TENSOR_EQ(a.labels, b.labels);
  EXPECT_TENSOR_EQ(a.images, b.images);
}

TEST(Loader, AnyNumberOfWorkersGivesTheSameBatches) {
  const auto data = pictures(50);
  const LoaderOptions options{.batch_size = 8, .drop_last = false, .seed = 3};
  std::vector<Batch> wanted;
  Loader plain(data, augmentation(), options);
  for (int i = 0; i < 20; ++i) wanted.push_back(plain.next());  // almost three epochs of seven
  for (const int64_t workers : {1, 2, 5, 16}) {
    for (const int64_t prefetch : {1, 3}) {
      auto parallel = options;
      parallel.workers = workers;
      parallel.prefetch = prefetch;
      Loader loader(data, augmentation(), parallel);
      for (const auto& batch : wanted) expect_same(loader.next(), batch);
    }
  }
}

TEST(Loader, AnEpochHoldsEveryExampleOnceInItsOwnOrder) {
  Loader loader(pictures(50), augmentation(), {.batch_size = 8, .drop_last = false, .seed = 1, .workers = 2});
  std::vector<std::vector<int64_t>> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order;
    while (const auto batch = loader.next_in_epoch()) {
      EXPECT_EQ(batch->epoch, epoch);
      const auto indices = as_vector(batch->indices);
      order.insert(order.end(), indices.begin(), indices.end());
      EXPECT_EQ(batch->images.size(0), batch->step < 6 ? 8 : 2);
    }
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, as_vector(at::arange(50)));
    orders.push_back(order);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST(Loader, EachEpochAugmentsAnew) {
  const auto one = first_examples(pictures(1), 1);
  Loader loader(one, augmentation(), {.batch_size = 1, .seed = 5});
  const auto first = loader.next(), second = loader.next();
  EXPECT_GT((first.images - second.images).abs().max().item<double>(), 0);
  EXPECT_TENSOR_EQ(first.images[0], augmentation()(one->get(0, 0).image, derive_seed(5, 0, 0)));
  EXPECT_TENSOR_EQ(second.images[0], augmentation()(one->get(0, 0).image, derive_seed(5, 1, 0)));
}

TEST(Loader, LabelsBelongToTheirPictures) {
  const auto data = pictures(20);
  Loader loader(data, ImageTransform({.height = 12, .width = 16}), {.batch_size = 5, .workers = 2});
  for (int i = 0; i < 4; ++i) {
    const auto batch = loader.next();
    for (int64_t k = 0; k < 5; ++k) {
      const auto index = batch.indices[k].item<int64_t>();
      EXPECT_EQ(batch.labels[k].item<int64_t>(), index % 5);
      EXPECT_TENSOR_NEAR(batch.images[k], data->get(index, 0).image.permute({2, 0, 1}).to(at::kFloat) / 255, 1e-6);
    }
  }
}

TEST(Loader, WithoutShuffleTheOrderIsTheDataSets) {
  Loader loader(pictures(9), {.batch_size = 4, .shuffle = false, .drop_last = false});
  EXPECT_EQ(as_vector(loader.next().indices), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(as_vector(loader.next().indices), (std::vector<int64_t>{4, 5, 6, 7}));
  EXPECT_EQ(as_vector(loader.next().indices), (std::vector<int64_t>{8}));
}

TEST(Loader, WithoutTransformExamplesAreStacked) {
  const auto data = pictures(9);
  Loader loader(data, {.batch_size = 4, .shuffle = false, .workers = 1});
  const auto batch = loader.next();
  EXPECT_EQ(batch.images.scalar_type(), at::kByte);
  EXPECT_TENSOR_EQ(batch.images[3], data->get(3, 0).image);
  const auto features = std::make_shared<TensorDataset>(at::arange(6).to(at::kDouble).view({3, 2}), at::Tensor());
  EXPECT_TENSOR_EQ(Loader(features, {.batch_size = 3, .shuffle = false}).next().images, features->images());
}

TEST(Loader, DropLastLeavesTheRestOut) {
  const auto data = pictures(50);
  EXPECT_EQ(Loader(data, {.batch_size = 8}).batches_per_epoch(), 6);
  EXPECT_EQ(Loader(data, {.batch_size = 8, .drop_last = false}).batches_per_epoch(), 7);
  Loader loader(data, {.batch_size = 8, .workers = 1});
  int count = 0;
  while (loader.next_in_epoch()) ++count;
  EXPECT_EQ(count, 6);
}

TEST(Loader, RanksTogetherSeeWhatOneProcessSees) {
  const auto data = pictures(50);
  for (const bool drop_last : {true, false}) {
    Loader whole(data, augmentation(), {.batch_size = 12, .drop_last = drop_last, .seed = 4});
    std::vector<std::unique_ptr<Loader>> ranks;
    for (int64_t rank = 0; rank < 4; ++rank) {
      ranks.push_back(std::make_unique<Loader>(
          data, augmentation(),
          LoaderOptions{
              .batch_size = 3, .drop_last = drop_last, .seed = 4, .rank = rank, .world_size = 4, .workers = rank % 3}));
    }
    for (int step = 0; step < 9; ++step) {
      const auto wanted = whole.next();
      std::vector<at::Tensor> images, indices;
      for (auto& rank : ranks) {
        const auto part = rank->next();
        images.push_back(part.images), indices.push_back(part.indices);
      }
      EXPECT_TENSOR_EQ(at::cat(images), wanted.images);
      EXPECT_TENSOR_EQ(at::cat(indices), wanted.indices);
    }
  }
}

TEST(Loader, ARankMayGetNothingOfAShortLastBatch) {
  const auto data = pictures(9);  // one example is left for two ranks
  for (const int64_t workers : {0, 2}) {
    Loader loader(data, augmentation(),
                  {.batch_size = 4, .drop_last = false, .rank = 0, .world_size = 2, .workers = workers});
    loader.next();
    EXPECT_EQ(loader.next().images.size(0), 0);
    EXPECT_EQ(loader.next().images.size(0), 4);
  }
}

TEST(Loader, ALoadedStateGoesOnWithTheNextBatch) {
  const auto data = pictures(50);
  for (const int64_t workers : {0, 3}) {
    const LoaderOptions options{.batch_size = 8, .seed = 3, .workers = workers};
    Loader loader(data, augmentation(), options);
    for (const int skip : {0, 1, 5, 6, 7, 13}) {
      loader.start_epoch(0);
      for (int i = 0; i < skip; ++i) loader.next();
      const auto state = nlohmann::json::parse(loader.state().dump());  // as it comes back from a file
      Loader resumed(data, augmentation(), options);
      resumed.next();  // what it did before does not matter
      resumed.load_state(state);
      for (int i = 0; i < 8; ++i) expect_same(resumed.next(), loader.next());
    }
  }
}

TEST(Loader, StateIsWhatWasHandedOutNotWhatWasPrepared) {
  Loader loader(pictures(64), augmentation(), {.batch_size = 8, .workers = 4, .prefetch = 4});
  loader.next();
  EXPECT_EQ(loader.state()["step"], 1);
  for (int i = 0; i < 7; ++i) loader.next();
  EXPECT_EQ(loader.state()["epoch"], 1);
  EXPECT_EQ(loader.state()["step"], 0);
  EXPECT_EQ(loader.epoch(), 1);
}

TEST(Loader, AStateOfAnotherRunIsRefused) {
  const auto data = pictures(50);
  Loader loader(data, augmentation(), {.batch_size = 8, .seed = 3});
  const auto good = loader.state();
  const auto with = [&](const char* key, const nlohmann::json& value) {
    auto state = good;
    state[key] = value;
    return state;
  };
  EXPECT_ERROR(loader.load_state(with("seed", 4)), "Loader: the state is of another run: its seed is 4, here it is 3");
  EXPECT_ERROR(loader.load_state(with("dataset_size", 51)), "its dataset_size is 51, here it is 50");
  EXPECT_ERROR(loader.load_state(with("global_batch", 16)), "its global_batch is 16, here it is 8");
  EXPECT_ERROR(loader.load_state(with("shuffle", false)), "its shuffle is false, here it is true");
  EXPECT_ERROR(loader.load_state(with("version", 9)), "its version is 9, here it is 1");
  EXPECT_ERROR(loader.load_state(with("step", 6)), "Loader: step of the state must be < 6, got 6");
  EXPECT_ERROR(loader.load_state(with("epoch", -1)), "Loader: epoch of the state must be an integer >= 0, got -1");
  EXPECT_ERROR(loader.load_state(with("step", "x")), "Loader: step of the state must be an integer >= 0, got \"x\"");
  EXPECT_ERROR(loader.load_state(nlohmann::json::object()), "Loader: the state must hold the key");
  EXPECT_ERROR(loader.load_state(nlohmann::json()), "Loader: the state must hold the key");
  Loader halves(data, augmentation(), {.batch_size = 4, .seed = 3, .rank = 1, .world_size = 2});
  halves.load_state(good);  // the same steps, divided anew
}

TEST(Loader, HeldBatchesAreNotOverwritten) {
  const auto data = pictures(64);
  const LoaderOptions options{.batch_size = 4, .seed = 2, .workers = 2};
  Loader loader(data, augmentation(), options), again(data, augmentation(), options);
  std::vector<Batch> held;
  for (int i = 0; i < 12; ++i) {
    auto batch = loader.next();
    if (i % 3 == 0) batch.images = batch.images.select(1, 0);  // a view holds the memory too
    held.push_back(std::move(batch));
  }
  for (int i = 0; i < 12; ++i) {
    const auto wanted = again.next();
    EXPECT_TENSOR_EQ(held[static_cast<size_t>(i)].images, i % 3 == 0 ? wanted.images.select(1, 0) : wanted.images);
  }
}

TEST(Loader, MemoryOfReleasedBatchesIsUsedAgain) {
  Loader loader(pictures(64), augmentation(), {.batch_size = 4, .workers = 1});
  std::set<const void*> places;
  for (int i = 0; i < 40; ++i) places.insert(loader.next().images.const_data_ptr());
  EXPECT_LE(places.size(), 4U);  // prefetch + 2
}

// Throws at some indices; counts how many examples are being read at once.
struct Fragile : TensorDataset {
  Fragile(int64_t n, std::set<int64_t> bad_) : TensorDataset(at::zeros({n, 2}), {}), bad(std::move(bad_)) {}
  Example get(int64_t index, uint64_t seed) const override {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    WINNOW_CHECK_KIND(!bad.contains(index), ErrorKind::file, "{}: cannot be decoded", origin(index));
    return TensorDataset::get(index, seed);
  }
  std::string origin(int64_t index) const override { return "photo" + std::to_string(index) + ".jpg"; }
  std::set<int64_t> bad;
};

TEST(Loader, AFailureComesWithItsBatchAndComesAgain) {
  const auto data = std::make_shared<Fragile>(40, std::set<int64_t>{22, 23});
  for (const int64_t workers : {0, 1, 4}) {
    Loader loader(data, {.batch_size = 4, .shuffle = false, .workers = workers, .prefetch = 8});
    for (int i = 0; i < 5; ++i) EXPECT_EQ(loader.next().step, i);  // 20..23 is the sixth
    for (int i = 0; i < 3; ++i) EXPECT_ERROR_KIND(loader.next(), ErrorKind::file, "photo22.jpg: cannot be decoded");
    EXPECT_EQ(loader.state()["step"], 5);
    auto state = loader.state();
    state["step"] = 6;
    loader.load_state(state);  // beyond it all is well
    EXPECT_EQ(loader.next().step, 6);
  }
}

struct Foreign : TensorDataset {
  Foreign() : TensorDataset(at::zeros({8, 2}), {}) {}
  Example get(int64_t index, uint64_t seed) const override {
    if (index == 5) throw std::runtime_error("a reader of someone else failed");
    if (index == 6) return {.image = at::zeros({3}), .label = 0};
    return TensorDataset::get(index, seed);
  }
};

TEST(Loader, AnyFailureNamesTheExample) {
  Loader loader(std::make_shared<Foreign>(), {.batch_size = 1, .shuffle = false, .workers = 2});
  for (int i = 0; i < 5; ++i) loader.next();
  EXPECT_ERROR(loader.next(), "tensor, record 5: a reader of someone else failed");
  auto state = loader.state();
  state["step"] = 6;
  loader.load_state(state);
  EXPECT_ERROR(loader.next(),
               "Loader: all examples must be like the first, float32 [2] on cpu, but tensor, record 6 is float32 [3]");
}

TEST(Loader, ABrokenJpegReachesTheCallerWithItsName) {
  const testing::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a");
  for (int i = 0; i < 6; ++i)
    io::write_jpeg(folder / ("a/" + std::to_string(i) + ".jpg"), at::full({40, 50, 3}, 20 * i, at::kByte));
  const auto bytes = io::encode_jpeg(at::randint(256, {64, 64, 3}, at::kByte));
  const auto bad = folder.write("a/3.jpg", std::string(bytes.begin(), bytes.begin() + 400));
  const auto data = std::make_shared<ImageFolder>(folder.string());
  for (const int64_t workers : {0, 2}) {
    Loader loader(data, augmentation(), {.batch_size = 2, .shuffle = false, .workers = workers});
    loader.next();
    EXPECT_ERROR_KIND(loader.next(), ErrorKind::file, bad);
  }
}

TEST(Loader, CanBeDestroyedAtAnyMoment) {
  const auto data = std::make_shared<Fragile>(400, std::set<int64_t>{13});
  for (int taken = 0; taken < 6; ++taken) {
    Loader loader(data, {.batch_size = 4, .shuffle = false, .workers = 3, .prefetch = 4});
    for (int i = 0; i < taken && i < 3; ++i) loader.next();
    if (taken == 4) loader.start_epoch(2);
    if (taken == 5) EXPECT_ANY_THROW(for (;;) loader.next());
  }
  SUCCEED();
}

TEST(Loader, StartEpochAbandonsWhatWasPrepared) {
  const auto data = pictures(40);
  Loader loader(data, augmentation(), {.batch_size = 8, .seed = 3, .workers = 3, .prefetch = 4});
  Loader plain(data, augmentation(), {.batch_size = 8, .seed = 3});
  for (const int64_t epoch : {7, 2, 2, 0}) {
    loader.start_epoch(epoch), plain.start_epoch(epoch);
    for (int i = 0; i < 3; ++i) expect_same(loader.next(), plain.next());
  }
  EXPECT_ERROR(loader.start_epoch(-1), "Loader: epoch must be >= 0, got -1");
}

TEST(Loader, LeavesTheIntraOpThreadsAlone) {
  const int before = at::get_num_threads();
  Loader loader(pictures(16), augmentation(), {.batch_size = 4, .workers = 3});
  loader.next();
  EXPECT_EQ(at::get_num_threads(), before);
  int later = 0;
  std::thread([&later] {
    at::init_num_threads();
    later = at::get_num_threads();
  }).join();
  EXPECT_EQ(later, before);
}

// Runs one intra-op region per example and reports how wide it was.
struct Nosy : TensorDataset {
  Nosy() : TensorDataset(at::zeros({16, 2}), {}) {}
  Example get(int64_t index, uint64_t seed) const override {
    widest = std::max(widest.load(), at::get_num_threads());
    return TensorDataset::get(index, seed);
  }
  mutable std::atomic<int> widest{0};
};

TEST(Loader, WorkersHaveOneIntraOpThread) {
  const auto data = std::make_shared<Nosy>();
  Loader loader(data, {.batch_size = 4, .workers = 3});
  data->widest = 0;  // the constructor has asked the caller's thread for the shape
  loader.start_epoch(1);
  loader.next();
  EXPECT_EQ(data->widest, 1);
}

TEST(Loader, BadOptionsAreNamed) {
  const auto data = pictures(10);
  EXPECT_ERROR(Loader(nullptr, LoaderOptions{}), "Loader: dataset must not be null");
  EXPECT_ERROR(Loader(data, {.batch_size = 0}), "Loader: batch_size must be >= 1, got 0");
  EXPECT_ERROR(Loader(data, {.batch_size = 2, .rank = 2, .world_size = 2}),
               "Loader: rank must be < world_size, got 2 and 2");
  EXPECT_ERROR(Loader(data, {.batch_size = 2, .prefetch = 0}), "Loader: prefetch must be >= 1, got 0");
  EXPECT_ERROR(Loader(data, {.batch_size = 2, .workers = -1}), "Loader: workers must be in [0, 1024], got -1");
  EXPECT_ERROR(Loader(data, {.batch_size = 6, .world_size = 2}),
               "Loader: the data set must hold at least 12 example(s) for one batch, got 10");
  EXPECT_ERROR(Loader(std::make_shared<Subset>(data, std::vector<int64_t>{}), {.drop_last = false}),
               "Loader: the data set must hold at least 1 example(s) for one batch, got 0");
  EXPECT_ERROR(
      Loader(std::make_shared<TensorDataset>(at::zeros({4, 3}), at::Tensor()), augmentation(), {.batch_size = 2})
          .next(),
      "Dataset: a transform needs pictures uint8 [H, W, C], tensor, record");
}

}  // namespace
}  // namespace winnow::data
