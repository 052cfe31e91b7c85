#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>

#include "class_folders.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/data/datasets.h"
#include "winnow/io/bytes.h"
#include "winnow/io/image.h"
#include "winnow/tensor/format.h"
#include "workers.h"

namespace winnow::data {
namespace {

namespace fs = std::filesystem;

bool hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

bool is_picture(const fs::path& path) {
  auto extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

std::vector<std::string> pictures_below(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, fs::directory_options::follow_directory_symlink, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (hidden(entry->path())) {
      entry.disable_recursion_pending();
    } else if (is_picture(entry->path()) && entry->is_regular_file(error)) {
      files.push_back(entry->path().string());
    }
  }
  WINNOW_CHECK_KIND(!error, ErrorKind::file, "{}: cannot be listed: {}", folder.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

io::ImageOptions reading(const ImageFolderOptions& options) {
  io::ImageOptions reading;
  reading.channels = options.channels == 1 ? io::Channels::grey : io::Channels::rgb;
  reading.background = {255, 255, 255};
  reading.max_pixels = options.max_pixels;
  return reading;
}

// Empty if the file is fit for use, else what is wrong with it.
std::string fault_of(const std::string& path, const ImageFolderOptions& options) {
  try {
    const auto content = winnow::read_file(path);
    const auto bytes = io::as_bytes(content);
    if (options.decode_to_check) {
      io::read_image(bytes, reading(options), path);
    } else {
      const auto info = io::image_info(bytes, path);
      WINNOW_CHECK_KIND(info.height * info.width <= options.max_pixels, ErrorKind::file,
                        "{}: {} x {} pixels are more than {}", path, info.width, info.height, options.max_pixels);
    }
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

std::vector<ClassFolder> list_class_folders(const std::string& folder, const std::vector<std::string>& classes,
                                            const std::string& hint) {
  WINNOW_CHECK_KIND(fs::is_directory(folder), ErrorKind::file, "{}: there is no such folder{}{}", folder,
                    hint.empty() ? "" : "; ", hint);
  auto names = classes;
  if (names.empty()) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.is_directory() && !hidden(entry.path())) names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
  }
  std::vector<ClassFolder> found;
  for (const auto& name : names) {
    const auto path = fs::path(folder) / name;
    WINNOW_CHECK_KIND(fs::is_directory(path), ErrorKind::file, "{}: there is no class folder {}", folder, name);
    found.push_back({.name = name, .files = pictures_below(path)});
  }
  return found;
}

Fields<ImageFolderOptions> ImageFolderOptions::fields() {
  return Fields<ImageFolderOptions>("ImageFolder")
      .add("broken", &ImageFolderOptions::broken, "what to do with files that cannot be used")
      .add("decode_to_check", &ImageFolderOptions::decode_to_check, "decode files whole to check them")
      .add("channels", &ImageFolderOptions::channels, "1 (grey) or 3 (RGB)", in_range(1, 3))
      .add("max_pixels", &ImageFolderOptions::max_pixels, "larger pictures are refused", at_least(1))
      .add("min_per_class", &ImageFolderOptions::min_per_class, "smaller classes are left out", at_least(1))
      .add("classes", &ImageFolderOptions::classes, "only these class folders")
      .add("threads", &ImageFolderOptions::threads, "threads that check files", at_least(1))
      .rule([](const ImageFolderOptions& o) {
        WINNOW_CHECK(o.channels != 2, "ImageFolder: channels must be 1 or 3, got {}", o.channels);
      });
}

ImageFolder::ImageFolder(const std::string& folder, ImageFolderOptions options) : options_(std::move(options)) {
  check(options_);
  for (auto& found : list_class_folders(folder, options_.classes, "")) {
    const auto count = static_cast<int64_t>(found.files.size());
    std::vector<std::string> faults(found.files.size());
    if (options_.broken == BrokenFiles::skip) {
      for_each_index(count, options_.threads, [&](int64_t i) {
        faults[static_cast<size_t>(i)] = fault_of(found.files[static_cast<size_t>(i)], options_);
      });
    }
    const auto good = std::count(faults.begin(), faults.end(), "");
    for (size_t i = 0; i < faults.size(); ++i) {
      if (!faults[i].empty()) {
        skipped_.push_back({.path = found.files[i], .reason = faults[i]});
      } else if (good >= options_.min_per_class) {
        files_.push_back({.path = found.files[i], .label = static_cast<int64_t>(class_names_.size())});
      }
    }
    if (good >= options_.min_per_class) class_names_.push_back(found.name);
  }
  WINNOW_CHECK_KIND(!files_.empty(), ErrorKind::file,
                    "{}: no class folder holds at least {} usable .png, .jpg or .jpeg file(s) ({} left out as broken)",
                    folder, options_.min_per_class, skipped_.size());
}

const ImageFolder::File& ImageFolder::file(int64_t index) const {
  WINNOW_CHECK(index >= 0 && index < size(), "ImageFolder: index must be in [0, {}), got {}", size(), index);
  return files_[static_cast<size_t>(index)];
}

Example ImageFolder::get(int64_t index, uint64_t /*seed*/) const {
  const auto& [path, label] = file(index);
  return {.image = io::read_image(path, reading(options_)), .label = label};
}

int64_t ImageFolder::label(int64_t index) const {
  return file(index).label;
}
std::string ImageFolder::origin(int64_t index) const {
  return file(index).path;
}

PartialImage ImageFolder::read(int64_t index, uint64_t /*seed*/, const ChooseBox& choose) const {
  const auto& [path, label] = file(index);
  const auto content = winnow::read_file(path);
  const auto bytes = io::as_bytes(content);
  const auto info = io::image_info(bytes, path);
  const auto box = choose(info.height, info.width);
  WINNOW_CHECK(box.top >= 0 && box.left >= 0 && box.height >= 1 && box.width >= 1 &&
                   box.top + box.height <= info.height && box.left + box.width <= info.width,
               "ImageFolder: the box must lie inside {} ({} x {}), got rows {} + {}, columns {} + {}", path,
               info.height, info.width, box.top, box.height, box.left, box.width);
  auto options = reading(options_);
  if (box.height < info.height || box.width < info.width) {
    options.region = io::PixelBox{.x = box.left, .y = box.top, .width = box.width, .height = box.height};
  }
  return {.pixels = io::read_image(bytes, options, path), .window = box, .wanted = box, .label = label};
}

}  // namespace winnow::data
