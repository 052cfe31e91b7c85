#include "winnow/data/dataset.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/tensor/format.h"

namespace winnow::data {

PartialImage Dataset::read(int64_t index, uint64_t seed, const ChooseBox& choose) const {
  const auto example = get(index, seed);
  const auto& image = example.image;
  WINNOW_CHECK(image.defined() && image.dim() == 3 && image.scalar_type() == at::kByte,
               "Dataset: a transform needs pictures uint8 [H, W, C], {} is {}", origin(index), image);
  const Box whole{0, 0, image.size(0), image.size(1)};
  return {.pixels = image, .window = whole, .wanted = choose(whole.height, whole.width), .label = example.label};
}

TensorDataset::TensorDataset(at::Tensor images, at::Tensor labels, std::vector<std::string> class_names,
                             std::string origin, int64_t num_classes)
    : images_(std::move(images)),
      labels_(std::move(labels)),
      class_names_(std::move(class_names)),
      origin_(std::move(origin)),
      num_classes_(num_classes) {
  WINNOW_CHECK(images_.defined() && images_.dim() >= 1, "TensorDataset: images must have shape [N, ...], got {}",
               images_);
  const auto n = images_.size(0);
  if (!labels_.defined()) {
    labels_ = at::full({n}, -1, at::kLong);
    return;
  }
  WINNOW_CHECK(labels_.dim() == 1 && labels_.size(0) == n && labels_.scalar_type() == at::kLong && labels_.is_cpu(),
               "TensorDataset: labels must be int64 [{}] on the cpu, got {}", n, labels_);
  labels_ = labels_.contiguous();
  const auto largest = n > 0 ? labels_.max().item<int64_t>() : -1;
  if (num_classes_ == 0) num_classes_ = std::max(largest + 1, static_cast<int64_t>(class_names_.size()));
  if (n > 0) {
    const auto smallest = labels_.min().item<int64_t>();
    WINNOW_CHECK(smallest >= 0 && largest < num_classes_,
                 "TensorDataset: labels of {} must be in [0, {}), got {} to {}", origin_, num_classes_, smallest,
                 largest);
  }
  WINNOW_CHECK(class_names_.empty() || static_cast<int64_t>(class_names_.size()) == num_classes_,
               "TensorDataset: class_names must hold {} names, got {}", num_classes_, class_names_.size());
}

int64_t TensorDataset::size() const {
  return images_.size(0);
}

Example TensorDataset::get(int64_t index, uint64_t /*seed*/) const {
  WINNOW_CHECK(index >= 0 && index < size(), "TensorDataset: index must be in [0, {}), got {}", size(), index);
  return {.image = images_.select(0, index), .label = label(index)};
}

int64_t TensorDataset::label(int64_t index) const {
  WINNOW_CHECK(index >= 0 && index < size(), "TensorDataset: index must be in [0, {}), got {}", size(), index);
  return labels_.const_data_ptr<int64_t>()[index];
}

std::string TensorDataset::origin(int64_t index) const {
  return fmt::format("{}, record {}", origin_, index);
}

Subset::Subset(DatasetPtr base, std::vector<int64_t> indices) : base_(std::move(base)), indices_(std::move(indices)) {
  WINNOW_CHECK(base_ != nullptr, "Subset: base must not be null");
  for (const auto index : indices_) {
    WINNOW_CHECK(index >= 0 && index < base_->size(), "Subset: indices must be in [0, {}), got {}", base_->size(),
                 index);
  }
}

int64_t Subset::at(int64_t index) const {
  WINNOW_CHECK(index >= 0 && index < size(), "Subset: index must be in [0, {}), got {}", size(), index);
  return indices_[static_cast<size_t>(index)];
}

Example Subset::get(int64_t index, uint64_t seed) const {
  return base_->get(at(index), seed);
}
int64_t Subset::label(int64_t index) const {
  return base_->label(at(index));
}
std::string Subset::origin(int64_t index) const {
  return base_->origin(at(index));
}
PartialImage Subset::read(int64_t index, uint64_t seed, const ChooseBox& choose) const {
  return base_->read(at(index), seed, choose);
}

}  // namespace winnow::data
