// A data set: a numbered collection of examples that many threads may read at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace winnow::data {

// A rectangle of a picture, in pixels; (top, left) is its first row and column.
struct Box {
  int64_t top = 0;
  int64_t left = 0;
  int64_t height = 0;
  int64_t width = 0;
  bool operator==(const Box&) const = default;
};

struct Example {
  at::Tensor image;    // a picture: uint8 [H, W, C]; anything else (features, floats): its own shape and dtype
  int64_t label = -1;  // class number, -1 where there is none
};

// A picture of which at least one rectangle has been decoded.
struct PartialImage {
  at::Tensor pixels;  // uint8 [window.height, window.width, C]
  Box window;         // where `pixels` lies in the picture
  Box wanted;         // what was asked for; lies inside `window`
  int64_t label = -1;
};

// The contract of every data set:
//  * get() and read() are const and safe to call from many threads at once;
//  * the same index and seed give the same example; only data sets that draw something look at the seed;
//  * what cannot be read throws winnow::Error of kind file, naming the file.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;

  // Example `index`, 0 <= index < size(), else winnow::Error.
  virtual Example get(int64_t index, uint64_t seed) const = 0;

  // The label of example `index` without decoding its picture.
  virtual int64_t label(int64_t index) const = 0;

  // Number of classes: labels lie in [0, num_classes()). 0 where there are no labels.
  virtual int64_t num_classes() const = 0;

  // A name for each class, in order of their numbers; empty where classes have no names.
  virtual std::vector<std::string> class_names() const { return {}; }

  // Where example `index` comes from, for messages: a file name, or "FILE, record 12".
  virtual std::string origin(int64_t index) const = 0;

  // Chooses a rectangle of a picture of the given height and width.
  using ChooseBox = std::function<Box(int64_t height, int64_t width)>;

  // The picture with at least the chosen rectangle decoded. Here: get(), whole. A data set whose format can be decoded
  // in part (JPEG) does so. Throws winnow::Error if the example is not uint8 [H, W, C] or the box leaves the picture.
  virtual PartialImage read(int64_t index, uint64_t seed, const ChooseBox& choose) const;
};

using DatasetPtr = std::shared_ptr<const Dataset>;

// Examples that are already in memory, row i of `images` with label i.
class TensorDataset : public Dataset {
 public:
  // images [N, ...] (pictures: uint8 [N, H, W, C]), labels int64 [N] in [0, num_classes) or undefined for none.
  // num_classes 0: one more than the largest label. `origin` names the source in messages.
  TensorDataset(at::Tensor images, at::Tensor labels, std::vector<std::string> class_names = {},
                std::string origin = "tensor", int64_t num_classes = 0);

  int64_t size() const override;
  Example get(int64_t index, uint64_t seed) const override;  // image is a view of images()
  int64_t label(int64_t index) const override;
  int64_t num_classes() const override { return num_classes_; }
  std::vector<std::string> class_names() const override { return class_names_; }
  std::string origin(int64_t index) const override;

  const at::Tensor& images() const { return images_; }  // [N, ...]
  const at::Tensor& labels() const { return labels_; }  // int64 [N]; -1 everywhere where there were none

 private:
  at::Tensor images_, labels_;
  std::vector<std::string> class_names_;
  std::string origin_;
  int64_t num_classes_ = 0;
};

using TensorDatasetPtr = std::shared_ptr<const TensorDataset>;

// Examples `indices` of another data set, in that order; an index may come more than once.
class Subset : public Dataset {
 public:
  Subset(DatasetPtr base, std::vector<int64_t> indices);  // throws winnow::Error on an index outside the base

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  Example get(int64_t index, uint64_t seed) const override;
  int64_t label(int64_t index) const override;
  int64_t num_classes() const override { return base_->num_classes(); }
  std::vector<std::string> class_names() const override { return base_->class_names(); }
  std::string origin(int64_t index) const override;
  PartialImage read(int64_t index, uint64_t seed, const ChooseBox& choose) const override;

  const std::vector<int64_t>& indices() const { return indices_; }

 private:
  int64_t at(int64_t index) const;
  DatasetPtr base_;
  std::vector<int64_t> indices_;
};

// Two disjoint parts that together are the whole, drawn by the seed: the first has round(share * size) examples.
// With `stratified` the share is kept within each class (rounded class by class). Throws unless 0 <= share <= 1.
struct Split {
  DatasetPtr first;
  DatasetPtr second;
};
Split split(const DatasetPtr& dataset, double share, uint64_t seed, bool stratified = false);

// `count` examples of each class, drawn by the seed, ordered class by class: the few-label sets of probes.
// Throws winnow::Error naming the class that has fewer.
DatasetPtr per_class_subset(const DatasetPtr& dataset, int64_t count, uint64_t seed);

// The first min(count, size) examples.
DatasetPtr first_examples(const DatasetPtr& dataset, int64_t count);

// The whole data set in memory: images stacked in order (all must have one shape), read by `threads` threads.
TensorDatasetPtr to_memory(const DatasetPtr& dataset, int64_t threads = 1);

}  // namespace winnow::data
