// What the vision programs share: a data set by name, its pictures in memory, and the table at the end.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "winnow/attention/vit_encoder.h"
#include "winnow/core/options.h"
#include "winnow/data/dataset.h"
#include "winnow/data/transforms.h"
#include "winnow/io/processor_config.h"
#include "winnow/mae/evaluation.h"
#include "winnow/mae/probe.h"

namespace winnow::examples {

enum class DataName { fashion_mnist, cifar10, cifar100, openclipart, image_folder };
EnumNames<DataName> enum_names(DataName);

// The section `data:` of a configuration file.
struct DataOptions {
  DataName name = DataName::fashion_mnist;
  std::string folder = "data/fashion-mnist";  // ./dev data NAME fetches it; image_folder: class folders of PNG and JPEG
  data::CropKind crop = data::CropKind::none;  // of training pictures; evaluation takes the whole picture
  double flip = 0.0;                           // probability of a mirrored training picture
  double crop_scale_min = 0.2;                 // least share of the picture in a random crop
  double erasing = 0.0;                        // probability of random erasing
  double test_share = 0.2;                     // held out by seed where the set has no test part
  int64_t batch_size = 64;
  int64_t workers = 1;  // threads that prepare pictures
  uint64_t seed = 0;    // of the order, the augmentation and the held-out part
  std::string device = "cpu";
  static Fields<DataOptions> fields();
};

// The section `optimizer:`.
struct OptimizerOptions {
  double weight_decay = 0.05;  // of tensors with more than one dimension
  double beta2 = 0.95;
  double layer_decay = 1.0;  // fine-tuning: factor of the rate from each block to the one below
  static Fields<OptimizerOptions> fields();
};

struct VisionData {
  data::DatasetPtr train, test;
  data::Normalization normalization;
  data::ImageTransform training, evaluation;
};

// The data set as pictures of channels x height x width. Throws winnow::Error if it cannot give so many channels.
VisionData open_data(const DataOptions& options, int64_t channels, int64_t height, int64_t width);

struct LabelledImages {
  at::Tensor images;  // float [N, C, H, W]
  at::Tensor labels;  // int64 [N]
};
// `count` pictures spread evenly over the set (all if there are fewer), without augmentation.
LabelledImages load_images(const data::Dataset& dataset, const data::ImageTransform& transform, int64_t count);

// The section `evaluation:`.
struct EvaluationOptions {
  int64_t images = 2000;         // held-out pictures of the error while training
  int64_t probe_images = 10000;  // pictures of each part that probes learn from and are judged by
  int64_t probe_epochs = 30;
  int64_t knn = 20;
  mae::FeaturePool pool = mae::FeaturePool::mean;
  int64_t sheet = 12;       // samples on a sheet of pictures
  int64_t sheet_scale = 3;  // side of a pixel there
  static Fields<EvaluationOptions> fields();
};

struct ProbeResult {
  double linear, knn;  // shares in [0, 1]
};
ProbeResult probe(VitEncoder& encoder, const LabelledImages& train, const LabelledImages& test, int64_t classes,
                  const EvaluationOptions& options);

// A table on the screen: names in the first column, numbers with `digits` behind the point.
struct TableRow {
  std::string name;
  double value, other;
  std::string of_other;  // what the second number is of
};
void print_table(const std::string& title, const std::vector<TableRow>& rows);

// How pictures of this size are prepared, for preprocessor_config.json beside the weights.
io::ProcessorConfig processor_config(int64_t height, int64_t width, const data::Normalization& normalization);

}  // namespace winnow::examples
