#include "winnow/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "winnow/core/crc32c.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/log.h"
#include "winnow/core/version.h"
#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"

namespace winnow::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexFile = "checkpoint.json";
constexpr std::string_view kWriting = ".writing";    // suffix of a hidden folder that is not complete yet
constexpr std::string_view kDeleting = ".deleting";  // suffix of a hidden folder that is being deleted

std::string folder_name(int64_t step) {
  return fmt::format("step_{:09}", step);
}

// The step of "step_<digits>", -1 for any other name.
int64_t step_of(std::string_view name) {
  constexpr std::string_view kPrefix = "step_";
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  if (name.empty() || name.size() > 18 || name.find_first_not_of("0123456789") != std::string_view::npos) return -1;
  return std::stoll(std::string(name));
}

void flush_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool flushed = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  WINNOW_CHECK_KIND(flushed, ErrorKind::file, "cannot flush folder '{}': {}", folder.string(), std::strerror(error));
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  WINNOW_CHECK_KIND(!error, ErrorKind::file, "cannot rename '{}' to '{}': {}", from.string(), to.string(),
                    error.message());
}

// What killed processes left: hidden folders that never got their name, or lost it.
void remove_leftovers(const fs::path& root) {
  std::error_code error;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(".step_") && (name.ends_with(kWriting) || name.ends_with(kDeleting))) {
      leftovers.push_back(entry.path());
    }
  }
  for (const auto& path : leftovers) fs::remove_all(path, error);
}

// Where a folder that has to make room goes: step_X.old, step_X.old2 ...
fs::path free_name(const fs::path& folder) {
  fs::path result = folder.string() + ".old";
  for (int i = 2; fs::exists(result); ++i) result = fmt::format("{}.old{}", folder.string(), i);
  return result;
}

void remove_oldest(const fs::path& root, int64_t keep_last) {
  auto entries = list_checkpoints(root);
  const auto surplus = std::max<int64_t>(0, static_cast<int64_t>(entries.size()) - keep_last);
  for (int64_t i = 0; i < surplus; ++i) {
    // Renamed first, so that a crash in between leaves no incomplete folder under a step's name.
    const auto& path = entries[static_cast<size_t>(i)].path;
    const auto hidden = root / fmt::format(".{}{}", path.filename().string(), kDeleting);
    std::error_code error;
    fs::rename(path, hidden, error);
    if (!error) fs::remove_all(hidden, error);
    if (error) log_warning("cannot delete the old checkpoint '{}': {}", path.string(), error.message());
  }
}

// JSON would turn NaN and infinity into null without a word.
void check_finite(const std::string& part, const nlohmann::json& values) {
  const auto flat = values.flatten();
  for (const auto& [key, value] : flat.items()) {
    WINNOW_CHECK(!value.is_number_float() || std::isfinite(value.get<double>()),
                 "save_checkpoint: {}{} must be finite, got {}", part, key, value.get<double>());
  }
}

uint32_t sum_of(const std::string& text) {
  return crc32c(text.data(), text.size());
}

// Reads and checks one part's file against what the index says of it.
void load_tensors(const fs::path& folder, const std::string& part, const nlohmann::json& entry, StateDict& state) {
  const auto path = folder / entry.at("file").get<std::string>();
  WINNOW_CHECK_KIND(fs::exists(path), ErrorKind::file, "checkpoint '{}': the file of '{}' is missing, {}",
                    folder.string(), part, path.filename().string());
  {
    const MappedFile file(path.string());
    WINNOW_CHECK_KIND(file.size() == entry.at("bytes").get<int64_t>(), ErrorKind::file,
                      "checkpoint '{}': {} must have {} bytes, got {} (truncated or changed)", folder.string(),
                      path.filename().string(), entry.at("bytes").get<int64_t>(), file.size());
    WINNOW_CHECK_KIND(crc32c(file.data(), static_cast<size_t>(file.size())) == entry.at("crc32c").get<uint32_t>(),
                      ErrorKind::file, "checkpoint '{}': {} is corrupted (its sum differs from the one written)",
                      folder.string(), path.filename().string());
  }
  state.tensors = io::load_safetensors(path);
}

}  // namespace

std::vector<CheckpointEntry> list_checkpoints(const fs::path& root) {
  std::vector<CheckpointEntry> result;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    const auto step = step_of(entry.path().filename().string());
    if (step >= 0 && entry.is_directory(error)) result.push_back({.step = step, .path = entry.path()});
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return result;
}

fs::path save_checkpoint(const fs::path& root, const Checkpoint& checkpoint, int64_t keep_last) {
  WINNOW_CHECK(checkpoint.step >= 0, "save_checkpoint: step must be >= 0, got {}", checkpoint.step);
  WINNOW_CHECK(keep_last >= 1, "save_checkpoint: keep_last must be >= 1, got {}", keep_last);
  for (const auto& [part, state] : checkpoint.parts) check_finite(part, state.values);
  ensure_directory(root.string());
  remove_leftovers(root);
  const auto name = folder_name(checkpoint.step);
  const auto target = root / name;
  const auto temporary = root / fmt::format(".{}{}", name, kWriting);
  try {
    ensure_directory(temporary.string());
    nlohmann::json index = {{"format", kCheckpointFormat},
                            {"winnow", version()},
                            {"step", checkpoint.step},
                            {"options", checkpoint.options}};
    index["parts"] = nlohmann::json::object();
    for (const auto& [part, state] : checkpoint.parts) {
      nlohmann::json entry = {{"values", state.values}};
      if (!state.tensors.empty()) {
        const auto path = temporary / (part + ".safetensors");
        io::save_safetensors(path, state.tensors, {{"format", "pt"}});
        const MappedFile file(path.string());
        entry["file"] = path.filename().string();
        entry["bytes"] = file.size();
        entry["crc32c"] = crc32c(file.data(), static_cast<size_t>(file.size()));
      }
      index["parts"][part] = std::move(entry);
    }
    index["crc32c"] = sum_of(index.dump());
    io::write_json(temporary / kIndexFile, index);
    if (fs::exists(target)) rename_folder(target, free_name(target));
    rename_folder(temporary, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  flush_folder(root);
  remove_oldest(root, keep_last);
  return target;
}

Checkpoint load_checkpoint(const fs::path& folder) {
  const auto path = folder / kIndexFile;
  WINNOW_CHECK_KIND(fs::is_directory(folder), ErrorKind::file, "checkpoint '{}': there is no such folder",
                    folder.string());
  WINNOW_CHECK_KIND(fs::exists(path), ErrorKind::file, "checkpoint '{}': {} is missing", folder.string(), kIndexFile);
  auto index = io::read_json(path);
  WINNOW_CHECK_KIND(index.is_object() && index.contains("format") && index["format"].is_number_integer(),
                    ErrorKind::file, "checkpoint '{}': {} is not the index of a checkpoint", folder.string(),
                    kIndexFile);
  const auto format = index["format"].get<int64_t>();
  WINNOW_CHECK_KIND(format >= 1 && format <= kCheckpointFormat, ErrorKind::file,
                    "checkpoint '{}': format {} is not known, this version reads up to {}", folder.string(), format,
                    kCheckpointFormat);
  const auto sum = index.contains("crc32c") ? index["crc32c"] : nlohmann::json();
  index.erase("crc32c");
  WINNOW_CHECK_KIND(sum.is_number_unsigned() && sum.get<uint64_t>() == sum_of(index.dump()), ErrorKind::file,
                    "checkpoint '{}': {} is corrupted (its sum differs from the one written)", folder.string(),
                    kIndexFile);
  Checkpoint result;
  result.step = index.at("step").get<int64_t>();
  result.options = index.at("options");
  for (const auto& [part, entry] : index.at("parts").items()) {
    auto& state = result.parts[part];
    state.values = entry.at("values");
    if (entry.contains("file")) load_tensors(folder, part, entry, state);
  }
  return result;
}

std::optional<FoundCheckpoint> load_newest_checkpoint(const fs::path& root) {
  const auto entries = list_checkpoints(root);
  if (entries.empty()) return std::nullopt;
  std::vector<std::string> damaged;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    try {
      FoundCheckpoint found{.checkpoint = load_checkpoint(entry->path), .path = entry->path, .damaged = damaged};
      return found;
    } catch (const Error& error) {
      log_warning("{}", error.what());
      damaged.emplace_back(error.what());
    }
  }
  fail(ErrorKind::file, "no checkpoint under '{}' can be read; the newest: {}", root.string(), damaged.front());
}

}  // namespace winnow::train
