#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <unordered_set>

#include "class_folders.h"
#include "winnow/core/error.h"
#include "winnow/core/log.h"
#include "winnow/core/sha256.h"
#include "winnow/data/datasets.h"
#include "winnow/data/transforms.h"
#include "winnow/io/image.h"
#include "winnow/io/safetensors.h"
#include "winnow/tensor/format.h"
#include "workers.h"

namespace winnow::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCacheVersion = "1";
constexpr int64_t kMaxPixels = 16'000'000;

// Changes when a picture is added, removed or changes its length.
std::string fingerprint(const std::string& folder, const std::vector<ClassFolder>& classes, int64_t min_per_class) {
  Sha256 hash;
  hash.update(fmt::format("{}\n", min_per_class));
  for (const auto& found : classes) {
    for (const auto& file : found.files) {
      hash.update(fmt::format("{} {}\n", fs::path(file).lexically_relative(folder).string(), fs::file_size(file)));
    }
  }
  return hash.hex();
}

std::string join(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, "\n"));
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

TensorDatasetPtr read_cache(const std::string& file, const std::string& wanted, const std::string& folder) {
  if (!fs::is_regular_file(file)) return nullptr;
  try {
    const io::SafetensorsFile cache(file);
    const auto& about = cache.metadata();
    const auto known = [&](const char* key) { return about.contains(key) ? about.at(key) : std::string(); };
    if (known("version") != kCacheVersion || known("source") != wanted) return nullptr;
    return std::make_shared<TensorDataset>(cache.tensor("images").clone(), cache.tensor("labels").clone(),
                                           lines(known("classes")), folder);
  } catch (const Error& error) {
    log_warning("openclipart: the cache is not used: {}", error.what());
    return nullptr;
  }
}

// The readable pictures of one class, each content once, resized: uint8 [n, height, width, 3].
at::Tensor read_class(const ClassFolder& found, const OpenclipartOptions& options) {
  std::vector<at::Tensor> pictures(found.files.size());
  std::vector<std::string> contents(found.files.size());
  for_each_index(static_cast<int64_t>(found.files.size()), options.threads, [&](int64_t i) {
    const auto& file = found.files[static_cast<size_t>(i)];
    try {
      const auto picture = io::read_image(
          file, {.channels = io::Channels::rgb, .background = {{255, 255, 255}}, .max_pixels = kMaxPixels});
      contents[static_cast<size_t>(i)] = sha256_file(file);
      pictures[static_cast<size_t>(i)] = resize(picture, options.height, options.width, Interpolation::bicubic);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::file) throw;
      log_debug("openclipart: left out: {}", error.what());
    }
  });
  std::unordered_set<std::string> seen;
  std::vector<at::Tensor> distinct;
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (pictures[i].defined() && seen.insert(contents[i]).second) distinct.push_back(pictures[i]);
  }
  return distinct.empty() ? at::Tensor() : at::stack(distinct);
}

}  // namespace

Fields<OpenclipartOptions> OpenclipartOptions::fields() {
  return Fields<OpenclipartOptions>("Openclipart")
      .add("width", &OpenclipartOptions::width, "columns of every picture", at_least(1))
      .add("height", &OpenclipartOptions::height, "rows of every picture", at_least(1))
      .add("min_per_class", &OpenclipartOptions::min_per_class, "smaller classes are left out", at_least(1))
      .add("threads", &OpenclipartOptions::threads, "threads that decode", at_least(1));
}

TensorDatasetPtr openclipart(const std::string& folder, const OpenclipartOptions& options) {
  check(options);
  const auto classes = list_class_folders(folder, {}, "run: ./dev data openclipart");
  const auto source = fingerprint(folder, classes, options.min_per_class);
  const auto cache =
      (fs::path(folder) / fmt::format(".winnow-{}x{}.safetensors", options.width, options.height)).string();
  if (auto cached = read_cache(cache, source, folder)) return cached;

  std::vector<at::Tensor> images, labels;
  std::vector<std::string> names;
  for (const auto& found : classes) {
    if (static_cast<int64_t>(found.files.size()) < options.min_per_class) continue;
    const auto pictures = read_class(found, options);
    if (!pictures.defined() || pictures.size(0) < options.min_per_class) continue;
    images.push_back(pictures);
    labels.push_back(at::full({pictures.size(0)}, static_cast<int64_t>(names.size()), at::kLong));
    names.push_back(found.name);
  }
  WINNOW_CHECK_KIND(!names.empty(), ErrorKind::file, "{}: no class folder holds at least {} distinct readable pictures",
                    folder, options.min_per_class);
  const auto all = at::cat(images), all_labels = at::cat(labels);
  try {
    io::save_safetensors(cache, {{"images", all}, {"labels", all_labels}},
                         {{"version", kCacheVersion}, {"source", source}, {"classes", join(names)}});
  } catch (const Error& error) {
    log_warning("openclipart: no cache is kept: {}", error.what());
  }
  return std::make_shared<TensorDataset>(all, all_labels, names, folder);
}

}  // namespace winnow::data
