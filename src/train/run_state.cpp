#include "run_state.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <map>
#include <mutex>
#include <system_error>

#include "winnow/core/error.h"
#include "winnow/core/log.h"
#include "winnow/io/load_state.h"
#include "winnow/io/safetensors.h"

namespace winnow::train {
namespace {

namespace fs = std::filesystem;

std::string rank_prefix(int64_t rank) {
  return fmt::format("rank{}.", rank);
}

std::map<std::string, at::Tensor> generator_states(const RunParts& parts) {
  std::map<std::string, at::Tensor> result;
  for (auto [name, generator] : parts.generators) {
    const std::lock_guard lock(generator.mutex());
    result[name] = generator.get_state();
  }
  return result;
}

const StateDict& part_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.parts.find(name);
  WINNOW_CHECK_KIND(found != checkpoint.parts.end(), ErrorKind::file, "it has no part '{}'", name);
  return found->second;
}

void restore_generators(const RunParts& parts, const StateDict& saved, int64_t rank) {
  const auto prefix = rank_prefix(rank);
  for (auto [name, generator] : parts.generators) {
    const auto found = saved.tensors.find(prefix + name);
    if (found == saved.tensors.end()) {
      log_warning("the checkpoint has no state of the generator '{}' of process {}: it starts from its seed", name,
                  rank);
      continue;
    }
    const std::lock_guard lock(generator.mutex());
    generator.set_state(found->second);
  }
}

}  // namespace

Checkpoint collect(const RunParts& parts, const StateDict& loop, int64_t step, ProcessGroup& group) {
  Checkpoint result;
  result.step = step;
  result.parts["model"].tensors = io::state_of(*parts.model);
  for (const auto& [name, part] : parts.stateful) result.parts[name] = part->state();
  result.parts["data"].values = parts.data_state();
  result.parts["loop"] = loop;
  auto& random = result.parts["rng"].tensors;
  if (group.size() == 1) {
    for (auto& [name, state] : generator_states(parts)) random[rank_prefix(0) + name] = state;
    return result;
  }
  const auto bytes = io::to_safetensors(generator_states(parts));
  const auto all = group.all_gather(std::string(bytes.begin(), bytes.end()));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const io::SafetensorsFile file(std::vector<uint8_t>(all[rank].begin(), all[rank].end()), "generator states");
    for (const auto& name : file.names()) random[rank_prefix(static_cast<int64_t>(rank)) + name] = file.tensor(name);
  }
  return result;
}

StateDict restore(const RunParts& parts, const Checkpoint& checkpoint, const std::string& source,
                  const ProcessGroup& group) {
  try {
    const at::NoGradGuard no_grad;
    io::load_state(io::state_of(*parts.model), part_of(checkpoint, "model").tensors, "model.safetensors");
    for (const auto& [name, part] : parts.stateful) part->load_state(part_of(checkpoint, name));
    restore_generators(parts, part_of(checkpoint, "rng"), group.rank());
    parts.load_data_state(part_of(checkpoint, "data").values);
    return part_of(checkpoint, "loop");
  } catch (const Error& error) {
    fail(ErrorKind::file, "cannot resume from checkpoint '{}': {}", source, error.what());
  }
}

fs::path checkpoint_root(const TrainerOptions& options) {
  return fs::path(options.out) / "checkpoints";
}

std::optional<StartingPoint> starting_point(const TrainerOptions& options, bool is_main) {
  if (!options.resume_from.empty()) {
    return StartingPoint{.checkpoint = load_checkpoint(options.resume_from), .source = options.resume_from};
  }
  if (options.out.empty()) {
    WINNOW_CHECK_KIND(options.resume == Resume::never, ErrorKind::config,
                      "Trainer: resume needs an output folder, out is empty");
    return std::nullopt;
  }
  const auto root = checkpoint_root(options);
  const auto existing = list_checkpoints(root);
  switch (options.resume) {
    case Resume::never:
      if (existing.empty()) return std::nullopt;
      WINNOW_CHECK_KIND(options.overwrite, ErrorKind::config,
                        "Trainer: '{}' holds an earlier run (step {}); resume: auto goes on with it, overwrite: true "
                        "removes it",
                        options.out, existing.back().step);
      if (is_main) {
        for (const char* name : {"checkpoints", "metrics.jsonl", "tensorboard", "pictures", "model.safetensors",
                                 "model_ema.safetensors"}) {
          std::error_code error;
          fs::remove_all(fs::path(options.out) / name, error);
          WINNOW_CHECK_KIND(!error, ErrorKind::file, "cannot remove '{}/{}': {}", options.out, name, error.message());
        }
      }
      return std::nullopt;
    case Resume::latest: {
      WINNOW_CHECK_KIND(!existing.empty(), ErrorKind::config,
                        "Trainer: resume: latest, but there is no checkpoint under '{}'", root.string());
      try {
        const auto& path = existing.back().path;
        return StartingPoint{.checkpoint = load_checkpoint(path), .source = path.string()};
      } catch (const Error& error) {
        fail(ErrorKind::file, "{}; resume: auto goes on from the newest one that can be read", error.what());
      }
    }
    case Resume::automatic: break;
  }
  auto found = load_newest_checkpoint(root);
  if (!found) return std::nullopt;
  return StartingPoint{.checkpoint = std::move(found->checkpoint), .source = found->path.string()};
}

void warn_of_changed_options(const nlohmann::json& saved, const nlohmann::json& now) {
  if (!saved.is_object()) return;
  for (const char* key : {"steps", "epochs", "accumulate", "clip_norm", "clip_value", "precision", "ema_decay",
                          "ema_warm_up", "schedule", "seed"}) {
    if (!saved.contains(key) || !now.contains(key) || saved[key] == now[key]) continue;
    log_warning("{} is {} now, the checkpoint was made with {}", key, now[key].dump(), saved[key].dump());
  }
}

}  // namespace winnow::train
