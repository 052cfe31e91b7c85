#include "winnow/io/load_state.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/tensor/format.h"

namespace winnow::io {
namespace {

constexpr std::size_t kShown = 12;  // names in a message before "and 37 more"

struct Found {
  std::string file;
  std::vector<int64_t> shape;
  at::ScalarType dtype = at::kFloat;
};

// Where tensors come from: a checkpoint or memory.
struct Source {
  std::string name;
  std::vector<std::string> names;
  std::function<Found(const std::string&)> find;
  std::function<at::Tensor(const std::string&)> read;
};

// '*' stands for any text, everything else for itself.
bool matches(std::string_view text, std::string_view pattern) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return text == pattern;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  const auto rest = pattern.substr(star + 1);
  for (auto from = star; from <= text.size(); ++from) {
    if (matches(text.substr(from), rest)) return true;
  }
  return false;
}

bool matches_any(const std::string& text, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) { return matches(text, pattern); });
}

bool is_unsigned(at::ScalarType type) {
  return type == at::kByte || type == at::ScalarType::UInt16 || type == at::ScalarType::UInt32 ||
         type == at::ScalarType::UInt64;
}

// float16 and bfloat16 count as equally wide: neither goes into the other without loss.
bool fits(at::ScalarType from, at::ScalarType to, bool allow_narrowing) {
  if (from == to) return true;
  const auto from_size = c10::elementSize(from), to_size = c10::elementSize(to);
  if (c10::isFloatingType(from) && c10::isFloatingType(to)) return from_size < to_size || allow_narrowing;
  if (c10::isIntegralType(from, false) && c10::isIntegralType(to, false)) {
    return is_unsigned(from) == is_unsigned(to) && from_size < to_size;
  }
  return false;
}

std::string listed(const std::vector<std::string>& items) {
  const auto count = std::min(items.size(), kShown);
  auto text = fmt::format("{}", fmt::join(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(count), ", "));
  if (items.size() > count) text += fmt::format(" and {} more", items.size() - count);
  return text;
}

// Each missing name with the unexpected one that was probably meant.
std::vector<std::string> with_nearest(const std::vector<std::string>& missing,
                                      const std::vector<std::string>& unexpected) {
  std::vector<std::string> result;
  for (const auto& name : missing) {
    // Only shown names are worth the search.
    const auto like = result.size() < kShown ? nearest(name, unexpected) : std::nullopt;
    result.push_back(like ? fmt::format("{} (nearest: {})", name, *like) : name);
  }
  return result;
}

LoadReport load(const TensorMap& targets, const Source& source, const LoadOptions& options) {
  LoadReport report;
  std::vector<std::string> wrong;
  std::vector<std::pair<at::Tensor, std::string>> plan;  // target, name in the source
  const std::set<std::string> available(source.names.begin(), source.names.end());
  std::set<std::string> used;

  for (const auto& [name, target] : targets) {
    WINNOW_CHECK(target.defined(), "load_state: target {} is undefined", name);
    const auto key = options.prefix + name;
    if (!available.contains(key)) {
      if (!matches_any(name, options.ignore_missing)) report.missing.push_back(key);
      continue;
    }
    used.insert(key);
    const auto found = source.find(key);
    if (at::IntArrayRef(found.shape) != target.sizes()) {
      wrong.push_back(fmt::format("{}: {} must have shape {}, found {}", found.file, key, target.sizes(),
                                  at::IntArrayRef(found.shape)));
    } else if (!fits(found.dtype, target.scalar_type(), options.allow_narrowing)) {
      wrong.push_back(
          fmt::format("{}: {} must have dtype {}, found {}", found.file, key, target.scalar_type(), found.dtype));
    } else if (found.dtype != target.scalar_type()) {
      report.converted.push_back(key);
    }
    plan.emplace_back(target, key);
  }
  for (const auto& name : source.names) {
    if (name.starts_with(options.prefix) && !used.contains(name) && !matches_any(name, options.ignore_unexpected)) {
      report.unexpected.push_back(name);
    }
  }

  const bool names_wrong = options.strict && !(report.missing.empty() && report.unexpected.empty());
  if (!wrong.empty() || names_wrong) {
    std::vector<std::string> parts;
    if (!wrong.empty()) {
      const auto count = std::min(wrong.size(), kShown);
      parts.assign(wrong.begin(), wrong.begin() + static_cast<std::ptrdiff_t>(count));
      if (wrong.size() > count) parts.push_back(fmt::format("{} more tensors do not fit", wrong.size() - count));
    } else {
      parts.push_back(fmt::format("{}: the names do not fit", source.name));
    }
    if (options.strict && !report.missing.empty()) {
      parts.push_back("missing: " + listed(with_nearest(report.missing, report.unexpected)));
    }
    if (options.strict && !report.unexpected.empty()) parts.push_back("unexpected: " + listed(report.unexpected));
    fail(ErrorKind::file, "{}", fmt::join(parts, "; "));
  }

  std::vector<at::Tensor> values;  // all read, and so checked, before the first target changes
  values.reserve(plan.size());
  for (const auto& [target, key] : plan) values.push_back(source.read(key));
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < plan.size(); ++i) plan[i].first.copy_(values[i]);
  report.loaded = static_cast<int64_t>(plan.size());
  return report;
}

}  // namespace

std::string LoadReport::summary() const {
  auto text = fmt::format("{} tensors loaded", loaded);
  if (!converted.empty()) text += fmt::format(", {} of them converted", converted.size());
  if (!missing.empty()) text += "; missing: " + listed(with_nearest(missing, unexpected));
  if (!unexpected.empty()) text += "; unexpected: " + listed(unexpected);
  return text;
}

LoadReport load_state(const TensorMap& targets, const Checkpoint& checkpoint, const LoadOptions& options) {
  return load(targets,
              {.name = checkpoint.name(),
               .names = checkpoint.names(),
               .find =
                   [&](const std::string& name) {
                     const auto& entry = checkpoint.entry(name);
                     const auto& file = checkpoint.file_of(name);
                     return Found{file, entry.shape, dtype_of_safetensors(entry.dtype, file)};
                   },
               .read = [&](const std::string& name) { return checkpoint.tensor(name); }},
              options);
}

LoadReport load_state(const TensorMap& targets, const TensorMap& tensors, const std::string& source,
                      const LoadOptions& options) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    WINNOW_CHECK(tensor.defined(), "load_state: {}: tensor {} is undefined", source, name);
    names.push_back(name);
  }
  return load(targets,
              {.name = source,
               .names = names,
               .find =
                   [&](const std::string& name) {
                     const auto& tensor = tensors.at(name);
                     return Found{source, tensor.sizes().vec(), tensor.scalar_type()};
                   },
               .read = [&](const std::string& name) { return tensors.at(name); }},
              options);
}

TensorMap state_of(const torch::nn::Module& module) {
  TensorMap state;
  for (const auto& item : module.named_parameters()) state.emplace(item.key(), item.value());
  for (const auto& item : module.named_buffers()) state.emplace(item.key(), item.value());
  return state;
}

}  // namespace winnow::io
