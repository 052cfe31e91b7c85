#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/data/dataset.h"
#include "winnow/tensor/format.h"
#include "workers.h"

namespace winnow::data {
namespace {

// Streams of derive_seed: one for each purpose.
constexpr uint64_t kSplitStream = 1, kPerClassStream = 2;

// The indices of each class in data set order; those without a label are in no class.
std::vector<std::vector<int64_t>> by_class(const Dataset& dataset) {
  std::vector<std::vector<int64_t>> classes(static_cast<size_t>(std::max<int64_t>(dataset.num_classes(), 0)));
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const auto label = dataset.label(i);
    if (label >= 0) classes.at(static_cast<size_t>(label)).push_back(i);
  }
  return classes;
}

std::string class_text(const Dataset& dataset, size_t label) {
  const auto names = dataset.class_names();
  return label < names.size() ? fmt::format("class {} ({})", label, names[label]) : fmt::format("class {}", label);
}

}  // namespace

Split split(const DatasetPtr& dataset, double share, uint64_t seed, bool stratified) {
  WINNOW_CHECK(dataset != nullptr, "split: dataset must not be null");
  WINNOW_CHECK(share >= 0 && share <= 1, "split: share must be in [0, 1], got {}", share);
  std::vector<std::vector<int64_t>> groups;
  if (stratified) {
    groups = by_class(*dataset);
  } else {
    groups.emplace_back(static_cast<size_t>(dataset->size()));
    std::iota(groups[0].begin(), groups[0].end(), int64_t{0});
  }
  std::vector<int64_t> first, second;
  for (size_t g = 0; g < groups.size(); ++g) {
    auto& group = groups[g];
    Random(derive_seed(seed, kSplitStream, g)).shuffle(std::span(group));
    const auto count = std::lround(share * static_cast<double>(group.size()));
    first.insert(first.end(), group.begin(), group.begin() + count);
    second.insert(second.end(), group.begin() + count, group.end());
  }
  std::sort(first.begin(), first.end());  // the draw is who, not in which order
  std::sort(second.begin(), second.end());
  return {.first = std::make_shared<Subset>(dataset, std::move(first)),
          .second = std::make_shared<Subset>(dataset, std::move(second))};
}

DatasetPtr per_class_subset(const DatasetPtr& dataset, int64_t count, uint64_t seed) {
  WINNOW_CHECK(dataset != nullptr, "per_class_subset: dataset must not be null");
  WINNOW_CHECK(count >= 1, "per_class_subset: count must be >= 1, got {}", count);
  auto classes = by_class(*dataset);
  WINNOW_CHECK(!classes.empty(), "per_class_subset: dataset must have labels, got none");
  std::vector<int64_t> chosen;
  for (size_t c = 0; c < classes.size(); ++c) {
    auto& members = classes[c];
    WINNOW_CHECK(static_cast<int64_t>(members.size()) >= count,
                 "per_class_subset: count must be at most the size of every class, got {}, but {} has {}", count,
                 class_text(*dataset, c), members.size());
    Random(derive_seed(seed, kPerClassStream, c)).shuffle(std::span(members));
    chosen.insert(chosen.end(), members.begin(), members.begin() + count);
  }
  return std::make_shared<Subset>(dataset, std::move(chosen));
}

DatasetPtr first_examples(const DatasetPtr& dataset, int64_t count) {
  WINNOW_CHECK(dataset != nullptr, "first_examples: dataset must not be null");
  WINNOW_CHECK(count >= 0, "first_examples: count must be >= 0, got {}", count);
  std::vector<int64_t> indices(static_cast<size_t>(std::min(count, dataset->size())));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return std::make_shared<Subset>(dataset, std::move(indices));
}

TensorDatasetPtr to_memory(const DatasetPtr& dataset, int64_t threads) {
  WINNOW_CHECK(dataset != nullptr && dataset->size() >= 1, "to_memory: dataset must hold an example");
  WINNOW_CHECK(threads >= 1, "to_memory: threads must be >= 1, got {}", threads);
  const auto n = dataset->size();
  const auto first = dataset->get(0, 0).image;
  auto shape = first.sizes().vec();
  shape.insert(shape.begin(), n);
  const auto images = at::empty(shape, first.options());
  auto labels = at::empty({n}, at::kLong);
  auto* label = labels.mutable_data_ptr<int64_t>();
  bool labelled = true;
  for_each_index(n, threads, [&](int64_t i) {
    const auto example = dataset->get(i, 0);
    WINNOW_CHECK(example.image.sizes() == first.sizes() && example.image.scalar_type() == first.scalar_type(),
                 "to_memory: all examples must be like the first, {}, but {} is {}", first, dataset->origin(i),
                 example.image);
    images.select(0, i).copy_(example.image);
    label[i] = example.label;
  });
  for (int64_t i = 0; i < n; ++i) labelled = labelled && label[i] >= 0;
  return std::make_shared<TensorDataset>(images, labelled ? labels : at::Tensor(), dataset->class_names(),
                                         dataset->origin(0), labelled ? dataset->num_classes() : 0);
}

}  // namespace winnow::data
