// Checkpoints of a training run on disk. One folder for each:
//
//     <root>/step_000001000/checkpoint.json        format version, step, values of every part, names, sizes and sums of
//     the files <root>/step_000001000/<part>.safetensors     tensors of a part: model, optimizer, ema, rng ...
//
// A checkpoint is written to a hidden temporary folder, flushed to the disk and renamed: a folder with a step's name is
// complete unless the disk damaged it later, which the sums find. Nothing is deleted before a newer one is in place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "winnow/train/state.h"

namespace winnow::train {

inline constexpr int64_t kCheckpointFormat = 1;

struct Checkpoint {
  int64_t step = 0;
  std::map<std::string, StateDict> parts = {};        // by name; a part's name is a file name
  nlohmann::json options = nlohmann::json::object();  // effective options of the run, for the reader
};

struct CheckpointEntry {
  int64_t step;
  std::filesystem::path path;
};

// The checkpoint folders under root, oldest first; empty if root does not exist. Their content is not read.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& root);

// Writes root/step_<step>, then deletes the oldest until keep_last (>= 1) remain. If that step's folder is there
// already (damaged, or the run went back) it is renamed to step_<step>.old first and never deleted. Returns the folder.
// Throws winnow::Error (kind file) if it cannot be written; what stood there before is then intact and nothing new is
// left.
std::filesystem::path save_checkpoint(const std::filesystem::path& root, const Checkpoint& checkpoint,
                                      int64_t keep_last);

// Reads one folder. Throws winnow::Error (kind file) naming the file and what is wrong: missing, of another size than
// written, sum differs, no JSON, or of a newer format.
Checkpoint load_checkpoint(const std::filesystem::path& folder);

// The newest checkpoint under root that can be read; those that cannot are named in a warning of the log and left
// alone. Throws winnow::Error (kind file) if there are folders but none can be read, with the newest one's message.
// No folder at all: nullopt.
struct FoundCheckpoint {
  Checkpoint checkpoint;
  std::filesystem::path path;
  std::vector<std::string> damaged;  // one message for each newer folder that was passed over
};
std::optional<FoundCheckpoint> load_newest_checkpoint(const std::filesystem::path& root);

}  // namespace winnow::train
