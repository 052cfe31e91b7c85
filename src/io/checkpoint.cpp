// Checkpoints of published models: one file, or shards with an index.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "pickle.h"
#include "safetensors_writer.h"
#include "winnow/core/atomic_file.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"

namespace winnow::io {
namespace fs = std::filesystem;
namespace {

constexpr const char* kIndexSuffix = ".safetensors.index.json";

// The file or index that a path means.
fs::path resolve(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (fs::exists(path / name, ignored)) return path / name;
  }
  std::vector<fs::path> others;
  for (const auto& item : fs::directory_iterator(path, ignored)) others.push_back(item.path());
  std::sort(others.begin(), others.end());
  for (const auto& other : others) refuse_pickle_name(other.string());
  fail(ErrorKind::file, "{}: the folder holds neither model.safetensors nor model.safetensors.index.json",
       path.string());
}

// Parts of a weight map that name a file inside the folder of the index and nothing else.
void check_shard_name(const std::string& shard, const std::string& index) {
  WINNOW_CHECK_KIND(!shard.empty() && shard != "." && shard != ".." && fs::path(shard).filename() == shard,
                    ErrorKind::file, "{}: weight_map: \"{}\" must be the name of a file beside the index", index,
                    printable(shard, 120));
}

// Names such as model-00001-of-00003.safetensors.
bool is_shard_name(const std::string& name, const std::string& stem) {
  constexpr std::string_view kPattern = "-ddddd-of-ddddd.safetensors";
  if (name.size() != stem.size() + kPattern.size() || !name.starts_with(stem)) return false;
  return std::equal(kPattern.begin(), kPattern.end(), name.begin() + static_cast<std::ptrdiff_t>(stem.size()),
                    [](char wanted, char got) { return wanted == 'd' ? got >= '0' && got <= '9' : wanted == got; });
}

void remove_others(const fs::path& folder, const std::string& stem, const std::set<std::string>& keep) {
  std::error_code ignored;
  std::vector<fs::path> stale;
  for (const auto& item : fs::directory_iterator(folder, ignored)) {
    const auto name = item.path().filename().string();
    const bool ours = name == stem + ".safetensors" || name == stem + kIndexSuffix || is_shard_name(name, stem);
    if (ours && !keep.contains(name)) stale.push_back(item.path());
  }
  for (const auto& path : stale) fs::remove(path, ignored);
}

// Tensors in the order of their names, cut where a file would pass the limit.
std::vector<TensorMap> split(const TensorMap& tensors, uint64_t limit) {
  std::vector<TensorMap> shards(1);
  uint64_t filled = 0;
  for (const auto& [name, tensor] : tensors) {
    const uint64_t size = tensor.defined() ? tensor.nbytes() : 0;
    if (filled > 0 && filled + size > limit) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().emplace(name, tensor);
    filled += size;
  }
  return shards;
}

}  // namespace

void save_checkpoint(const fs::path& folder, const TensorMap& tensors, const StringMap& metadata,
                     const ShardOptions& options) {
  WINNOW_CHECK(options.max_shard_bytes >= 1, "save_checkpoint: max_shard_bytes must be >= 1, got 0");
  WINNOW_CHECK(!options.stem.empty() && fs::path(options.stem).filename() == options.stem,
               "save_checkpoint: stem must be a file name without folders, got \"{}\"", printable(options.stem));
  auto described = metadata;
  described.emplace("format", "pt");  // transformers refuses a file without it
  ensure_directory(folder.string());
  const auto shards = split(tensors, options.max_shard_bytes);
  if (shards.size() == 1) {
    const auto name = options.stem + ".safetensors";
    save_safetensors(folder / name, tensors, described);
    remove_others(folder, options.stem, {name});
    return;
  }

  auto weight_map = Json::object();
  uint64_t total = 0;
  std::set<std::string> written;
  std::vector<AtomicFile> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const auto name = fmt::format("{}-{:05}-of-{:05}.safetensors", options.stem, i + 1, shards.size());
    const SafetensorsWriter writer(shards[i], described);
    auto& file = files.emplace_back((folder / name).string());
    writer.write([&](const void* data, std::size_t size) { file.write(data, size); });
    for (const auto& [tensor, value] : shards[i]) weight_map[tensor] = name;
    total += writer.data_size();
    written.insert(name);
  }
  for (auto& file : files) file.commit();
  const auto index = options.stem + kIndexSuffix;
  write_json(folder / index, {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}});
  written.insert(index);
  remove_others(folder, options.stem, written);
}

Checkpoint::Checkpoint(std::shared_ptr<const SafetensorsFile> file) : name_(file->name()), files_{std::move(file)} {
  for (const auto& [tensor, entry] : files_[0]->entries()) location_.emplace(tensor, 0);
}

Checkpoint::Checkpoint(const fs::path& path) : name_(path.string()) {
  const auto file = resolve(path);
  if (!file.string().ends_with(kIndexSuffix)) {
    files_.push_back(std::make_shared<SafetensorsFile>(file));
    for (const auto& [tensor, entry] : files_[0]->entries()) location_.emplace(tensor, 0);
    return;
  }

  const auto index = JsonObject::read(file);
  const auto map = index.object("weight_map");
  std::map<std::string, std::size_t> opened;
  for (const auto& [tensor, shard] : map.value().items()) {
    WINNOW_CHECK_KIND(shard.is_string(), ErrorKind::file, "{}: weight_map: {} must name a file", file.string(),
                      printable(tensor));
    const auto shard_name = shard.get<std::string>();
    check_shard_name(shard_name, file.string());
    const auto [place, is_new] = opened.emplace(shard_name, files_.size());
    if (is_new) files_.push_back(std::make_shared<SafetensorsFile>(file.parent_path() / shard_name));
    WINNOW_CHECK_KIND(files_[place->second]->has(tensor), ErrorKind::file, "{}: {} should hold tensor {} but does not",
                      file.string(), shard_name, printable(tensor));
    location_.emplace(tensor, place->second);
  }
  for (const auto& [shard_name, place] : opened) {
    for (const auto& [tensor, entry] : files_[place]->entries()) {
      const auto found = location_.find(tensor);
      WINNOW_CHECK_KIND(found != location_.end(), ErrorKind::file, "{}: weight_map lacks tensor {} of {}",
                        file.string(), printable(tensor), shard_name);
      WINNOW_CHECK_KIND(found->second == place, ErrorKind::file, "{}: tensor {} stands in two shards, {} and {}",
                        file.string(), printable(tensor), files_[found->second]->name(), shard_name);
    }
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  for (const auto& [tensor, place] : location_) result.push_back(tensor);
  return result;
}

const SafetensorsFile& Checkpoint::file(const std::string& tensor) const {
  const auto found = location_.find(tensor);
  if (found == location_.end()) {
    fail(ErrorKind::file, "{}: there is no tensor {}{}", name_, printable(tensor), did_you_mean(tensor, names()));
  }
  return *files_[found->second];
}

const SafetensorsEntry& Checkpoint::entry(const std::string& tensor) const {
  return file(tensor).entries().at(tensor);
}
const std::string& Checkpoint::file_of(const std::string& tensor) const {
  return file(tensor).name();
}
at::Tensor Checkpoint::tensor(const std::string& tensor) const {
  return file(tensor).tensor(tensor);
}

StringMap Checkpoint::metadata() const {
  StringMap result;
  for (const auto& file : files_) result.insert(file->metadata().begin(), file->metadata().end());
  return result;
}

}  // namespace winnow::io
