#include "winnow/models/weight_map.h"

#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/io/load_state.h"
#include "winnow/tensor/format.h"

namespace winnow::models {

// A tensor of the form that was chosen for a checkpoint, and its name there (or the name under which it is missed).
struct WeightMap::Chosen {
  const FileTensor* tensor;
  std::string key;
};

namespace {

at::Tensor view_of(const WeightPart& part, const at::Tensor& tensor) {
  return part.view ? part.view(tensor) : tensor;
}

std::vector<int64_t> file_shape(const FileTensor& tensor) {
  if (!tensor.shape.empty()) return tensor.shape;
  auto shape = view_of(tensor.parts.front(), tensor.parts.front().parameter.detach()).sizes().vec();
  for (size_t i = 1; i < tensor.parts.size(); ++i) {
    shape.front() += view_of(tensor.parts[i], tensor.parts[i].parameter.detach()).size(0);
  }
  return shape;
}

// The parts behind each other, in the file's shape; `of` gives the tensor to cut for a parameter. Undefined where `of`
// gives an undefined tensor for every part; zeros stand for the undefined ones among others.
at::Tensor joined(const FileTensor& tensor, const std::function<at::Tensor(const at::Tensor&)>& of) {
  const auto has_value = [&](const WeightPart& part) { return of(part.parameter).defined(); };
  if (std::none_of(tensor.parts.begin(), tensor.parts.end(), has_value)) return {};
  std::vector<at::Tensor> parts;
  for (const auto& part : tensor.parts) {
    const auto source = of(part.parameter);
    parts.push_back(view_of(part, source.defined() ? source : at::zeros_like(part.parameter)));
  }
  return (parts.size() == 1 ? parts.front() : at::cat(parts)).reshape(file_shape(tensor));
}

at::Tensor value_of(const FileTensor& tensor) {
  return joined(tensor, [](const at::Tensor& parameter) { return parameter.detach(); });
}

// Writes `values`, in the file's shape, into the parts.
void scatter(const FileTensor& tensor, const at::Tensor& values) {
  if (tensor.parts.size() == 1) {
    auto target = view_of(tensor.parts.front(), tensor.parts.front().parameter.detach());
    target.copy_(values.reshape(target.sizes()));
    return;
  }
  // The file may cut the first dimension (experts, rows of one); the parts go behind each other along it.
  auto joined_shape = view_of(tensor.parts.front(), tensor.parts.front().parameter.detach()).sizes().vec();
  joined_shape.front() = -1;
  const auto rows = values.reshape(joined_shape);
  int64_t begin = 0;
  for (const auto& part : tensor.parts) {
    auto target = view_of(part, part.parameter.detach());
    target.copy_(rows.narrow(0, begin, target.size(0)));
    begin += target.size(0);
  }
}

}  // namespace

WeightPart whole(const at::Tensor& parameter) {
  return {.parameter = parameter, .view = {}};
}

WeightPart rows(const at::Tensor& parameter, int64_t begin, int64_t count) {
  WINNOW_CHECK(begin >= 0 && count >= 0 && parameter.dim() >= 1 && begin + count <= parameter.size(0),
               "rows: [{}, {}) must lie in the parameter of shape {}", begin, begin + count, parameter.sizes());
  return {.parameter = parameter, .view = [=](const at::Tensor& x) { return x.narrow(0, begin, count); }};
}

WeightPart transposed(const WeightPart& part) {
  const auto inner = part.view;
  return {.parameter = part.parameter,
          .view = [inner](const at::Tensor& x) { return (inner ? inner(x) : x).transpose(0, 1); }};
}

WeightMap::WeightMap(std::vector<std::string> styles) : styles_(std::move(styles)) {
  WINNOW_CHECK(!styles_.empty(), "WeightMap: styles must not be empty");
}

void WeightMap::add(const at::Tensor& parameter, const std::vector<std::string>& names, WeightNeed need) {
  std::vector<WeightForm> forms;
  for (const auto& name : names) {
    forms.push_back(name.empty() ? WeightForm{} : WeightForm{{.name = name, .parts = {whole(parameter)}}});
  }
  add_forms(std::move(forms), need);
}

void WeightMap::add_forms(std::vector<WeightForm> forms, WeightNeed need) {
  WINNOW_CHECK(!forms.empty() && !forms.front().empty(), "WeightMap: a parameter must have a name in the style {}",
               styles_.front());
  WINNOW_CHECK(forms.size() <= styles_.size(), "WeightMap: there must be at most {} forms, got {}", styles_.size(),
               forms.size());
  for (const auto& form : forms) {
    for (const auto& tensor : form) {
      WINNOW_CHECK(!tensor.parts.empty(), "WeightMap: {} must have a part", tensor.name);
      for (const auto& part : tensor.parts) {
        WINNOW_CHECK(part.parameter.defined(), "WeightMap: the parameter of {} must be defined", tensor.name);
      }
    }
  }
  groups_.push_back({.forms = std::move(forms), .need = need});
}

void WeightMap::accept_prefix(std::string prefix) {
  prefix_ = std::move(prefix);
}

void WeightMap::ignore(const std::vector<std::string>& names) {
  for (const auto& name : names) {
    for (auto& spelling : spellings(name)) ignored_.push_back(std::move(spelling));
  }
}

void WeightMap::tie(const std::string& copy, const std::string& name) {
  tied_.emplace_back(copy, name);
}

// As written first, then with or without the prefix.
std::vector<std::string> WeightMap::spellings(const std::string& name) const {
  if (prefix_.empty()) return {name};
  if (name.starts_with(prefix_)) return {name, name.substr(prefix_.size())};
  return {name, prefix_ + name};
}

// The name under which the checkpoint holds it, or "".
std::string WeightMap::found_key(const std::string& name, const io::Checkpoint& checkpoint) const {
  std::string found;
  for (const auto& spelling : spellings(name)) {
    if (!checkpoint.has(spelling)) continue;
    WINNOW_CHECK_KIND(found.empty(), ErrorKind::file, "{}: {} and {} are two names of one parameter, both are there",
                      checkpoint.name(), found, spelling);
    found = spelling;
  }
  return found;
}

// The name that a tensor which is not there would have: with or without the prefix as the others of the file.
std::string WeightMap::wanted_key(const std::string& name, const io::Checkpoint& checkpoint) const {
  const auto names = checkpoint.names();
  const bool prefixed =
      std::any_of(names.begin(), names.end(), [&](const std::string& key) { return key.starts_with(prefix_); });
  const auto spelled = spellings(name);
  if (spelled.size() == 1) return name;
  // Only names that carry the prefix in some file change; heads beside the base model never do.
  return name.starts_with(prefix_) && !prefixed ? spelled[1] : name;
}

size_t WeightMap::main_style(const io::Checkpoint& checkpoint) const {
  std::vector<int64_t> seen(styles_.size(), 0);
  for (const auto& group : groups_) {
    for (size_t style = 0; style < group.forms.size(); ++style) {
      for (const auto& tensor : group.forms[style]) {
        if (!found_key(tensor.name, checkpoint).empty()) ++seen[style];
      }
    }
  }
  return static_cast<size_t>(std::max_element(seen.begin(), seen.end()) - seen.begin());
}

std::vector<WeightMap::Chosen> WeightMap::choose(const io::Checkpoint& checkpoint) const {
  const auto style = main_style(checkpoint);
  std::vector<Chosen> result;
  for (const auto& group : groups_) {
    std::vector<Chosen> best;  // of the form with the most tensors present, the main style's where none is
    int64_t best_found = -1;
    bool best_complete = false;
    for (size_t i = 0; i < group.forms.size(); ++i) {
      if (group.forms[i].empty()) continue;
      std::vector<Chosen> form;
      int64_t found = 0;
      for (const auto& tensor : group.forms[i]) {
        auto key = found_key(tensor.name, checkpoint);
        found += key.empty() ? 0 : 1;
        if (key.empty()) key = wanted_key(tensor.name, checkpoint);
        form.push_back({.tensor = &tensor, .key = std::move(key)});
      }
      const bool complete = found == static_cast<int64_t>(form.size());
      if (complete && best_complete) {
        WINNOW_CHECK_KIND(form.front().key == best.front().key, ErrorKind::file,
                          "{}: {} and {} are two names of one parameter, both are there", checkpoint.name(),
                          best.front().key, form.front().key);
        continue;
      }
      if ((complete && !best_complete) ||
          (!best_complete && (found > best_found || (found == best_found && i == style)))) {
        best = std::move(form);
        best_found = found;
        best_complete = complete;
      }
    }
    if (best_found == 0 && group.need == WeightNeed::optional) continue;
    std::move(best.begin(), best.end(), std::back_inserter(result));
  }
  return result;
}

void WeightMap::check_tied(const io::Checkpoint& checkpoint) const {
  for (const auto& [copy, name] : tied_) {
    const auto copy_key = found_key(copy, checkpoint), key = found_key(name, checkpoint);
    if (copy_key.empty() || key.empty()) continue;
    const auto a = checkpoint.tensor(copy_key), b = checkpoint.tensor(key);
    WINNOW_CHECK_KIND(a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && at::equal(a, b), ErrorKind::file,
                      "{}: {} must hold the same values as {}, to which it is tied", checkpoint.name(), copy_key, key);
  }
}

void WeightMap::load(const io::Checkpoint& checkpoint, const WeightLoadOptions& options) const {
  const at::NoGradGuard no_grad;
  check_tied(checkpoint);
  const auto chosen = choose(checkpoint);
  // Read into buffers, so that nothing is changed unless all of it fits; a parameter that one tensor fills needs none.
  io::TensorMap targets;
  std::vector<std::pair<const FileTensor*, at::Tensor>> buffers;
  for (const auto& [tensor, key] : chosen) {
    const auto& part = tensor->parts.front();
    const auto target = view_of(part, part.parameter.detach());
    if (tensor->parts.size() == 1 && target.sizes() == at::IntArrayRef(file_shape(*tensor))) {
      targets[key] = target;
    } else {
      targets[key] = value_of(*tensor).clone();
      buffers.emplace_back(tensor, targets[key]);
    }
  }
  io::LoadOptions how{.ignore_missing = options.ignore_missing,
                      .ignore_unexpected = options.ignore_unexpected,
                      .allow_narrowing = options.allow_narrowing};
  how.ignore_unexpected.insert(how.ignore_unexpected.end(), ignored_.begin(), ignored_.end());
  for (const auto& [copy, name] : tied_) {
    for (const auto& spelling : spellings(copy)) how.ignore_unexpected.push_back(spelling);
  }
  io::load_state(targets, checkpoint, how);
  for (const auto& [tensor, buffer] : buffers) scatter(*tensor, buffer);
}

io::TensorMap WeightMap::tensors() const {
  io::TensorMap result;
  for (const auto& group : groups_) {
    for (const auto& tensor : group.forms.front()) {
      const bool fresh = result.emplace(tensor.name, value_of(tensor).to(at::kCPU).contiguous()).second;
      WINNOW_CHECK(fresh, "WeightMap: two parameters must not have the one name {}", tensor.name);
    }
  }
  return result;
}

std::vector<std::string> WeightMap::names() const {
  std::vector<std::string> result;
  for (const auto& group : groups_) {
    for (const auto& tensor : group.forms.front()) result.push_back(tensor.name);
  }
  std::sort(result.begin(), result.end());
  return result;
}

const FileTensor& WeightMap::find(const std::string& name) const {
  std::vector<std::string> known;
  for (const auto& group : groups_) {
    for (const auto& form : group.forms) {
      for (const auto& tensor : form) {
        const auto spelled = spellings(tensor.name);
        if (std::find(spelled.begin(), spelled.end(), name) != spelled.end()) return tensor;
        known.push_back(tensor.name);
      }
    }
  }
  fail(ErrorKind::argument, "WeightMap: no tensor is named {}{}", name, did_you_mean(name, known));
}

at::Tensor WeightMap::value(const std::string& name) const {
  return value_of(find(name));
}

at::Tensor WeightMap::gradient(const std::string& name) const {
  return joined(find(name), [](const at::Tensor& parameter) { return parameter.grad(); });
}

}  // namespace winnow::models
