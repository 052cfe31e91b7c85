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
  // error: nothing is opened beforehand, a file that cannot be decoded or is too large throws when it is read.
  // skip: every file is looked at when the folder is opened, and the bad ones are left out and counted; what breaks
  // later throws.
  BrokenFiles broken = BrokenFiles::error;
  bool decode_to_check =
      false;             // skip: decode each file whole (finds damaged pixels too) instead of reading its header
  int64_t channels = 3;  // 1 (grey) or 3 (RGB); transparent parts become white
  int64_t max_pixels = 16'000'000;        // larger pictures count as broken
  int64_t min_per_class = 1;              // class folders with fewer pictures are left out
  std::vector<std::string> classes = {};  // only these class folders; empty: all
  int64_t threads = 1;                    // of the check
  static Fields<ImageFolderOptions> fields();
};

// A folder of class folders: the sorted names of the folders are the classes; each is searched recursively (links are
// followed) for .png, .jpg and .jpeg files, in sorted order. Hidden files and folders are ignored. JPEG is decoded only
// where it is needed. The orientation tag of cameras is not applied. Throws winnow::Error (file) if the folder holds no
// picture.
class ImageFolder : public Dataset {
 public:
  explicit ImageFolder(const std::string& folder, ImageFolderOptions options = {});

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  Example get(int64_t index, uint64_t seed) const override;
  int64_t label(int64_t index) const override;
  int64_t num_classes() const override { return static_cast<int64_t>(class_names_.size()); }
  std::vector<std::string> class_names() const override { return class_names_; }
  std::string origin(int64_t index) const override;  // the file's path
  PartialImage read(int64_t index, uint64_t seed, const ChooseBox& choose) const override;

  struct Skipped {
    std::string path;
    std::string reason;
  };
  // The files that were left out, in order. Empty under BrokenFiles::error.
  const std::vector<Skipped>& skipped() const { return skipped_; }

 private:
  struct File {
    std::string path;
    int64_t label;
  };
  const File& file(int64_t index) const;
  ImageFolderOptions options_;
  std::vector<File> files_;
  std::vector<std::string> class_names_;
  std::vector<Skipped> skipped_;
};

struct OpenclipartOptions {
  int64_t width = 96;  // every picture becomes height x width (bicubic, antialiased), transparent parts white
  int64_t height = 64;
  int64_t min_per_class = 301;  // "over 300": seven folders
  int64_t threads = 1;
  static Fields<OpenclipartOptions> fields();
};

// Openclipart 0.18 as colour rectangles in memory, uint8 [N, height, width, 3]: the class folders with over 300
// distinct readable pictures of at most 16 Mpixel (computer, food, people, recreation, shapes, signs_and_symbols,
// transportation). Equal files of a class count once; a picture may stand in two classes. The result is kept in the
// folder as .winnow-WxH.safetensors (where it can be written), so that only the first call decodes. `./dev data
// openclipart` fetches data/openclipart.
TensorDatasetPtr openclipart(const std::string& folder, const OpenclipartOptions& options = {});

}  // namespace winnow::data
