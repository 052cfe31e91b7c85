// Data sets read from files. Pictures come as uint8 [H, W, C] in RGB order, C = 1 for grey.
// A missing file is a winnow::Error of kind file that names it and, where `./dev data` fetches it, says how.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "winnow/core/options.h"
#include "winnow/data/dataset.h"

namespace winnow::data {

enum class Part { train, test };
inline EnumNames<Part> enum_names(Part) {
  return {{"train", Part::train}, {"test", Part::test}};
}

// A pair of IDX files (LeCun's MNIST format, plain or gzip): images uint8 [N, H, W] (C = 1) or [N, H, W, C], labels
// uint8 [N].
TensorDatasetPtr idx_pair(const std::string& image_file, const std::string& label_file,
                          std::vector<std::string> class_names = {});

// Fashion-MNIST (Xiao et al. 2017): 60,000 or 10,000 grey pictures of 28 x 28, 10 classes, from a folder that holds the
// four files {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz (or unpacked). `./dev data fashion-mnist` fetches it to
// data/fashion-mnist.
TensorDatasetPtr fashion_mnist(const std::string& folder, Part part);

// CIFAR-10 (Krizhevsky 2009), the binary version: data_batch_1..5.bin and test_batch.bin of 3,073-byte records.
TensorDatasetPtr cifar10(const std::string& folder, Part part);

// CIFAR-100, the binary version: train.bin, test.bin of 3,074-byte records. Labels: the 100 fine classes or the 20
// coarse ones.
enum class CifarLabels { fine, coarse };
TensorDatasetPtr cifar100(const std::string& folder, Part part, CifarLabels labels = CifarLabels::fine);

// Which column of a table is the label.
enum class CsvLabel { first, last, none };
inline EnumNames<CsvLabel> enum_names(CsvLabel) {
  return {{"first", CsvLabel::first}, {"last", CsvLabel::last}, {"none", CsvLabel::none}};
}

// A table whose rows are examples (plain or .gz).
struct CsvOptions {
  CsvLabel label = CsvLabel::last;
  bool header = false;  // the first line holds names
  int64_t height =
      0;  // with width, the other columns are a grey picture: uint8 [height, width, 1]; 0: float features [columns]
  int64_t width = 0;
  double scale = 1.0;  // factor on every value before it is rounded to uint8 (a digit of 0..16: 255.0 / 16)
  static Fields<CsvOptions> fields();
};
TensorDatasetPtr csv_examples(const std::string& file, const CsvOptions& options);

// The 1,797 handwritten digits of 8 x 8 of scikit-learn, grey values 0..16 scaled to 0..255.
// `./dev data digits` fetches data/digits/digits.csv.gz.
TensorDatasetPtr sklearn_digits(const std::string& file);

// 5,000 digits of MNIST, 500 of each class, 28 x 28. `./dev data mnist5k` fetches data/mnist5k/mnist_5k.csv.gz.
TensorDatasetPtr mnist_5k(const std::string& file);

enum class BrokenFiles { error, skip };
inline EnumNames<BrokenFiles> enum_names(BrokenFiles) {
  return {{"error", BrokenFiles::error}, {"skip", BrokenFiles::skip}};
}

struct ImageFolderOptions {
  BrokenFiles broken =
      BrokenFiles::error;  // a file that cannot be decoded or is too large: throw at once, or leave it out and count it
  int64_t channels = 3;    // 1 (grey) or 3 (RGB); alpha is composited on white
  int64_t max_pixels = 16'000'000;   // larger pictures count as broken; only the header is read to learn it
  bool check_all = false;            // decode every file when the folder is opened (else headers only): costs one pass
  int64_t min_per_class = 1;         // classes with fewer usable files are left out
  std::vector<std::string> classes;  // only these folders; empty: all
  static Fields<ImageFolderOptions> fields();
};

// A folder of class folders: the sorted names of the folders are the classes; each is searched recursively for .png,
// .jpg and .jpeg files (any case), in sorted order. Hidden files and folders are ignored. JPEG is decoded only where it
// is needed.
class ImageFolder : public Dataset {
 public:
  explicit ImageFolder(const std::string& folder, ImageFolderOptions options = {});

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  Example get(int64_t index, uint64_t seed) const override;
  int64_t label(int64_t index) const override;
  int64_t num_classes() const override { return static_cast<int64_t>(class_names_.size()); }
  std::vector<std::string> class_names() const override { return class_names_; }
  std::string origin(int64_t index) const override;
  PartialImage read(int64_t index, uint64_t seed, const ChooseBox& choose) const override;

  // Files left out because they were broken or too large, with the reason. Empty under BrokenFiles::error.
  const std::vector<std::pair<std::string, std::string>>& skipped() const { return skipped_; }

 private:
  struct File {
    std::string path;
    int64_t label;
  };
  ImageFolderOptions options_;
  std::vector<File> files_;
  std::vector<std::string> class_names_;
  std::vector<std::pair<std::string, std::string>> skipped_;
};

struct OpenclipartOptions {
  int64_t width = 96;  // every picture is resized to height x width (bicubic, antialiased), transparent parts white
  int64_t height = 64;
  int64_t min_per_class = 301;  // "over 300": seven folders
  int64_t threads = 1;
  static Fields<OpenclipartOptions> fields();
};

// Openclipart 0.18 as colour rectangles in memory, uint8 [N, height, width, 3]: the seven folders with over 300
// distinct readable pictures (files equal to the byte count once). A cache file is left beside the folder, so that only
// the first call decodes. `./dev data openclipart` fetches data/openclipart.
TensorDatasetPtr openclipart(const std::string& folder, const OpenclipartOptions& options = {});

}  // namespace winnow::data
