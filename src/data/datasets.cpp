#include "winnow/data/datasets.h"

#include <torch/types.h>

#include <cstring>
#include <filesystem>

#include "winnow/core/error.h"
#include "winnow/io/bytes.h"
#include "winnow/io/csv.h"
#include "winnow/io/idx.h"
#include "winnow/tensor/format.h"

namespace winnow::data {
namespace {

namespace fs = std::filesystem;

// The file, or the file with .gz added, or an error that says how to get it.
std::string require_file(const fs::path& file, const std::string& hint) {
  for (const auto& candidate : {file, fs::path(file.string() + ".gz")}) {
    if (fs::is_regular_file(candidate)) return candidate.string();
  }
  fail(ErrorKind::file, "{}: there is no such file{}", file.string(), hint.empty() ? "" : "; " + hint);
}

std::string fetch_hint(const std::string& name) {
  return "run: ./dev data " + name;
}

// Records of `labels` label bytes and then 3 x 32 x 32 bytes, plane by plane.
struct CifarFiles {
  std::vector<std::string> names;
  int64_t label_bytes = 1;
  int64_t label_at = 0;
  int64_t classes = 10;
};

TensorDatasetPtr read_cifar(const std::string& folder, const CifarFiles& files, std::vector<std::string> class_names) {
  constexpr int64_t kSide = 32, kPixels = kSide * kSide;
  const int64_t record = files.label_bytes + 3 * kPixels;
  std::vector<at::Tensor> images, labels;
  for (const auto& name : files.names) {
    const auto path = require_file(fs::path(folder) / name, "the binary version of CIFAR has to be fetched by hand");
    const auto bytes = io::read_file_or_gzip(path);
    const auto size = static_cast<int64_t>(bytes.size());
    WINNOW_CHECK_KIND(size > 0 && size % record == 0, ErrorKind::file,
                      "{}: a CIFAR file must hold records of {} bytes, got {} bytes", path, record, size);
    const int64_t n = size / record;
    auto image = at::empty({n, 3, kSide, kSide}, at::kByte);
    auto label = at::empty({n}, at::kLong);
    auto* to = image.mutable_data_ptr<uint8_t>();
    auto* label_to = label.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < n; ++i) {
      const auto* from = reinterpret_cast<const uint8_t*>(bytes.data()) + i * record;
      label_to[i] = from[files.label_at];
      WINNOW_CHECK_KIND(label_to[i] < files.classes, ErrorKind::file,
                        "{}: label of record {} must be in [0, {}), got {}", path, i, files.classes, label_to[i]);
      std::memcpy(to + i * 3 * kPixels, from + files.label_bytes, static_cast<size_t>(3 * kPixels));
    }
    images.push_back(image.permute({0, 2, 3, 1}));
    labels.push_back(label);
  }
  return std::make_shared<TensorDataset>(at::cat(images).contiguous(), at::cat(labels), std::move(class_names), folder,
                                         files.classes);
}

}  // namespace

TensorDatasetPtr idx_pair(const std::string& image_file, const std::string& label_file,
                          std::vector<std::string> class_names) {
  const auto image_path = require_file(image_file, ""), label_path = require_file(label_file, "");
  auto images = io::read_idx(image_path);
  const auto labels = io::read_idx(label_path);
  WINNOW_CHECK_KIND(images.scalar_type() == at::kByte && (images.dim() == 3 || images.dim() == 4), ErrorKind::file,
                    "{}: images must be uint8 [N, H, W] or [N, H, W, C], got {}", image_path, images);
  WINNOW_CHECK_KIND(labels.scalar_type() == at::kByte && labels.dim() == 1 && labels.size(0) == images.size(0),
                    ErrorKind::file, "{}: labels must be uint8 [{}] as {} has that many images, got {}", label_path,
                    images.size(0), image_path, labels);
  if (images.dim() == 3) images = images.unsqueeze(-1);
  const auto classes = static_cast<int64_t>(class_names.size());
  if (classes > 0 && labels.numel() > 0) {
    const auto largest = labels.max().item<int64_t>();
    WINNOW_CHECK_KIND(largest < classes, ErrorKind::file, "{}: labels must be in [0, {}), got {}", label_path, classes,
                      largest);
  }
  return std::make_shared<TensorDataset>(images, labels.to(at::kLong), std::move(class_names), image_path);
}

TensorDatasetPtr fashion_mnist(const std::string& folder, Part part) {
  const std::string stem = part == Part::train ? "train" : "t10k";
  const auto hint = fetch_hint("fashion-mnist");
  const auto images = require_file(fs::path(folder) / (stem + "-images-idx3-ubyte"), hint);
  const auto labels = require_file(fs::path(folder) / (stem + "-labels-idx1-ubyte"), hint);
  return idx_pair(
      images, labels,
      {"T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"});
}

TensorDatasetPtr cifar10(const std::string& folder, Part part) {
  CifarFiles files;
  if (part == Part::test) {
    files.names = {"test_batch.bin"};
  } else {
    for (int i = 1; i <= 5; ++i) files.names.push_back(fmt::format("data_batch_{}.bin", i));
  }
  return read_cifar(folder, files,
                    {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"});
}

TensorDatasetPtr cifar100(const std::string& folder, Part part, CifarLabels labels) {
  const bool fine = labels == CifarLabels::fine;
  return read_cifar(folder,
                    {.names = {part == Part::train ? "train.bin" : "test.bin"},
                     .label_bytes = 2,
                     .label_at = fine ? 1 : 0,
                     .classes = fine ? 100 : 20},
                    {});
}

Fields<CsvOptions> CsvOptions::fields() {
  return Fields<CsvOptions>("CsvOptions")
      .add("label", &CsvOptions::label, "which column is the label")
      .add("header", &CsvOptions::header, "whether the first line holds names")
      .add("height", &CsvOptions::height, "rows of a picture, 0 for features", at_least(0))
      .add("width", &CsvOptions::width, "columns of a picture, 0 for features", at_least(0))
      .add("scale", &CsvOptions::scale, "factor on pixel values", above(0))
      .rule([](const CsvOptions& o) {
        WINNOW_CHECK((o.height > 0) == (o.width > 0),
                     "CsvOptions: height and width must both be given or both be 0, got {} and {}", o.height, o.width);
      });
}

TensorDatasetPtr csv_examples(const std::string& file, const CsvOptions& options) {
  check(options);
  const auto path = require_file(file, "");
  using Header = io::CsvOptions::Header;
  const auto table =
      io::read_csv(path, {.header = options.header ? Header::present : Header::absent}).values;  // float64 [N, columns]
  WINNOW_CHECK_KIND(table.dim() == 2 && table.size(0) > 0, ErrorKind::file,
                    "{}: a table with at least one row is needed", path);
  auto features = table;
  at::Tensor labels;
  if (options.label != CsvLabel::none) {
    const int64_t columns = table.size(1), column = options.label == CsvLabel::first ? 0 : columns - 1;
    const auto values = table.select(1, column);
    labels = values.to(at::kLong);
    WINNOW_CHECK_KIND(labels.to(at::kDouble).equal(values) && labels.min().item<int64_t>() >= 0, ErrorKind::file,
                      "{}: labels in column {} must be whole numbers >= 0", path, column + 1);
    features = table.narrow(1, options.label == CsvLabel::first ? 1 : 0, columns - 1);
  }
  if (options.height == 0)
    return std::make_shared<TensorDataset>(features.to(at::kFloat).contiguous(), labels, std::vector<std::string>{},
                                           path);
  const int64_t pixels = options.height * options.width;
  WINNOW_CHECK_KIND(features.size(1) == pixels, ErrorKind::file,
                    "{}: pictures of {} x {} need {} columns beside the label, got {}", path, options.height,
                    options.width, pixels, features.size(1));
  const auto scaled = (features * options.scale).round();
  WINNOW_CHECK_KIND(scaled.ge(0).logical_and(scaled.le(255)).all().item<bool>(), ErrorKind::file,
                    "{}: pixel values times {} must be in [0, 255]", path, options.scale);
  const auto images = scaled.to(at::kByte).view({-1, options.height, options.width, 1}).contiguous();
  return std::make_shared<TensorDataset>(images, labels, std::vector<std::string>{}, path);
}

TensorDatasetPtr sklearn_digits(const std::string& file) {
  return csv_examples(require_file(file, fetch_hint("digits")), {.height = 8, .width = 8, .scale = 255.0 / 16});
}

TensorDatasetPtr mnist_5k(const std::string& file) {
  return csv_examples(require_file(file, fetch_hint("mnist5k")), {.height = 28, .width = 28});
}

}  // namespace winnow::data
