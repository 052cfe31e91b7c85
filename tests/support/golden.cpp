#include "support/golden.h"

#include <gtest/gtest.h>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <set>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/tensor/format.h"

namespace winnow::testing::golden {
namespace fs = std::filesystem;
namespace {

// The whole list of what tests run: "mae/lars", "hf/ViTModel".
const std::set<std::string>& listed_kinds() {
  static const std::set<std::string> kinds = {
#define WINNOW_GOLDEN_KIND(module, kind) module "/" kind,
#define WINNOW_GOLDEN_ARCHITECTURE(architecture) "hf/" architecture,
#include "support/golden_kinds.inc"
#undef WINNOW_GOLDEN_KIND
#undef WINNOW_GOLDEN_ARCHITECTURE
  };
  return kinds;
}

bool is_listed(const std::string& kind) {
  if (listed_kinds().contains(kind)) return true;
  ADD_FAILURE() << kind << " must be listed in tests/support/golden_kinds.inc";
  return false;
}

// Files below a folder whose path relative to it satisfies the predicate, sorted.
template <typename Wanted>
std::vector<fs::path> find_files(const fs::path& folder, Wanted wanted) {
  std::vector<fs::path> found;
  if (!fs::is_directory(folder)) return found;
  for (const auto& item : fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink)) {
    if (item.is_regular_file() && wanted(item.path())) found.push_back(item.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<fs::path> method_files(const fs::path& module_folder) {
  return find_files(module_folder, [](const fs::path& path) { return path.extension() == ".safetensors"; });
}

std::vector<fs::path> hf_configs() {
  return find_files(root().path / "hf", [](const fs::path& path) { return path.filename() == "config.json"; });
}

std::string architecture_of(const fs::path& config) {
  const auto names = io::JsonObject::read(config).get<std::vector<std::string>>("architectures");
  WINNOW_CHECK_KIND(!names.empty(), ErrorKind::file, "{}: architectures must not be empty", config.string());
  return names[0];
}

// The kind of a file under methods/, or nothing where the file holds data of other files.
std::optional<std::string> kind_of(const io::SafetensorsFile& file) {
  const auto found = file.metadata().find("kind");
  if (found == file.metadata().end()) return std::nullopt;
  return found->second;
}

io::Json parse_metadata(const io::SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  WINNOW_CHECK_KIND(found != file.metadata().end(), ErrorKind::file, "{}: metadata: {} is missing", file.name(), key);
  return io::parse_json(found->second, file.name() + ": metadata: " + key);
}

io::TensorMap read_all(const io::SafetensorsFile& file) {
  WINNOW_CHECK_KIND(!file.entries().empty(), ErrorKind::file, "{}: no tensors", file.name());
  io::TensorMap tensors;
  for (const auto& name : file.names()) tensors.emplace(name, file.tensor(name).clone());
  return tensors;
}

const at::Tensor& find_tensor(const io::TensorMap& tensors, const std::string& name, const fs::path& path) {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [key, tensor] : tensors) names.push_back(key);
  fail(ErrorKind::file, "{}: there is no tensor {}{}", path.string(), name, did_you_mean(name, names));
}

std::vector<std::string> names_with(const io::TensorMap& tensors, const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) names.push_back(name);
  }
  return names;
}

std::string position(int64_t flat, at::IntArrayRef shape) {
  std::vector<int64_t> index(shape.size());
  for (auto i = shape.size(); i-- > 0; flat /= shape[i]) index[i] = flat % shape[i];
  return fmt::format("[{}]", fmt::join(index, ", "));
}

// Adds a gtest failure unless the two agree.
void compare(const std::string& where, const at::Tensor& got_in, const at::Tensor& wanted_in, Tolerance tolerance) {
  if (!got_in.defined()) {
    ADD_FAILURE() << where << ": got an undefined tensor";
    return;
  }
  if (got_in.sizes() != wanted_in.sizes()) {
    ADD_FAILURE() << fmt::format("{}: wanted shape {}, got {}", where, wanted_in.sizes(), got_in.sizes());
    return;
  }
  const bool floating = wanted_in.is_floating_point();
  const bool truth = got_in.scalar_type() == at::kBool && wanted_in.scalar_type() == at::kByte;
  if (floating != got_in.is_floating_point() && !truth) {
    ADD_FAILURE() << fmt::format("{}: wanted dtype {}, got {}", where, wanted_in.scalar_type(), got_in.scalar_type());
    return;
  }
  const auto type = floating ? at::kDouble : at::kLong;
  const auto wanted = wanted_in.to(type).reshape({-1});
  const auto got = got_in.detach().cpu().to(type).reshape({-1});
  if (wanted.numel() == 0) return;
  if (!floating) {
    const auto wrong = got.ne(wanted).nonzero().reshape({-1});
    if (wrong.numel() == 0) return;
    const auto first = wrong[0].item<int64_t>();
    ADD_FAILURE() << fmt::format("{}: {} of {} values differ, the first at {}: wanted {}, got {}", where, wrong.numel(),
                                 wanted.numel(), position(first, wanted_in.sizes()), wanted[first].item<int64_t>(),
                                 got[first].item<int64_t>());
    return;
  }
  // Equal infinities, and NaN where NaN is wanted, count as equal.
  const auto same = got.eq(wanted).logical_or(got.isnan().logical_and(wanted.isnan()));
  const auto error = got.sub(wanted).abs();
  const auto allowed = wanted.abs().mul(tolerance.rtol).add(tolerance.atol);
  const auto close = error.le(allowed).logical_and(at::isfinite(wanted)).logical_or(same);
  const auto count = close.logical_not().sum().item<int64_t>();
  if (count == 0) return;
  const auto excess =
      at::where(close, at::zeros_like(error), (error - allowed).nan_to_num(1e300, 1e300, -1e300).add(1e-300));
  const auto worst = excess.argmax().item<int64_t>();
  ADD_FAILURE() << fmt::format(
      "{}: {} of {} values are off, the worst at {}: wanted {:.9g}, got {:.9g}, difference {:.3g}, allowed {:.3g}",
      where, count, wanted.numel(), position(worst, wanted_in.sizes()), wanted[worst].item<double>(),
      got[worst].item<double>(), error[worst].item<double>(), allowed[worst].item<double>());
}

// Runs one case with its name on every failure.
template <typename Fn>
void run_case(const std::string& where, Fn fn) {
  const ::testing::ScopedTrace trace(__FILE__, __LINE__, where);
  try {
    fn();
  } catch (const std::exception& error) {
    ADD_FAILURE() << where << ": " << error.what();
  }
}

void nothing_found(const std::string& what) {
  const auto place = root();
  if (place.from_environment) {
    GTEST_SKIP() << "no golden tensors of " << what << " under " << place.path;
  }
  ADD_FAILURE() << "no golden tensors of " << what << " under " << place.path;
}

HfCase read_folder(const fs::path& folder) {
  HfCase result;
  result.path = folder;
  const io::SafetensorsFile file(folder / "golden.safetensors");
  result.tensors = read_all(file);
  const auto options = parse_metadata(file, "options");
  const auto runs = io::JsonObject(options, file.name(), "options").object("runs");
  for (const auto& [name, value] : runs.value().items()) {
    const auto run = runs.object(name);
    result.runs.push_back(
        {name, run.get<std::string>("kind"), run.has("options") ? run.raw("options") : io::Json::object()});
  }
  const auto tolerance = io::JsonObject(parse_metadata(file, "tolerance"), file.name(), "tolerance").object("tensors");
  for (const auto& [name, value] : tolerance.value().items()) {
    const auto row = tolerance.get<std::vector<double>>(name);  // largest value, float32 - float64, suggested
    WINNOW_CHECK_KIND(row.size() == 3 && row[2] >= 0, ErrorKind::file, "{}: tolerance of {} must be three numbers",
                      file.name(), name);
    result.tolerance.emplace(name, row[2]);
  }
  return result;
}

// The forms of a folder: what is named differently, each once.
std::vector<HfCase> forms_of(const fs::path& folder) {
  const auto base = read_folder(folder);
  const auto shards = folder / "model.safetensors.index.json";
  const auto plain_model = fs::exists(shards) ? shards : folder / "model.safetensors";
  std::vector<HfCase> forms;
  const auto add = [&](const std::string& form, const fs::path& config, const fs::path& model) {
    auto& one = forms.emplace_back(base);
    one.form = form;
    one.config_path = config;
    one.model_path = model;
  };
  add("transformers5", folder / "config.json", plain_model);
  const auto config = folder / "config.published.json", model = folder / "model.published.safetensors";
  if (fs::exists(config) || fs::exists(model)) {
    add("published", fs::exists(config) ? config : folder / "config.json", fs::exists(model) ? model : plain_model);
  }
  const auto saved = folder / "model.transformers5.safetensors";
  if (fs::exists(saved)) add("saved_by_5", folder / "config.json", saved);
  return forms;
}

}  // namespace

Root root() {
  const char* given = std::getenv("WINNOW_GOLDEN_DIR");
  if (given != nullptr && *given != '\0') return {given, true};
  return {WINNOW_TEST_GOLDEN_DIR, false};
}

Case::Case(const fs::path& file_path, Tolerance tolerance) : path(file_path), tolerance_(tolerance) {
  const io::SafetensorsFile file(path);
  const auto found = kind_of(file);
  WINNOW_CHECK_KIND(found.has_value(), ErrorKind::file, "{}: metadata: kind is missing", path.string());
  kind = *found;
  const auto relative = path.lexically_relative(root().path / "methods");
  if (!relative.empty()) module = relative.begin()->string();
  options_ = parse_metadata(file, "options");
  WINNOW_CHECK_KIND(options_.is_object(), ErrorKind::file, "{}: metadata: options must be an object", path.string());
  tensors_ = read_all(file);
}

at::Tensor Case::operator[](const std::string& name) const {
  return find_tensor(tensors_, name, path).clone();
}

std::vector<std::string> Case::names(const std::string& prefix) const {
  return names_with(tensors_, prefix);
}

io::TensorMap Case::with_prefix(const std::string& prefix) const {
  io::TensorMap result;
  for (const auto& name : names(prefix)) result.emplace(name.substr(prefix.size()), (*this)[name]);
  return result;
}

void Case::expect(const std::string& name, const at::Tensor& got, Tolerance tolerance) const {
  const auto& wanted = find_tensor(tensors_, name, path);
  if (name.starts_with("grad.") && wanted.numel() > 0) {
    tolerance.atol *= std::max(1.0, wanted.to(at::kDouble).abs().max().item<double>());
  }
  compare(path.filename().string() + ": " + name, got, wanted, tolerance);
}

void Case::expect(const std::string& name, double got) const {
  expect(name, at::scalar_tensor(got, at::kDouble));
}

void for_each(const std::string& module, const std::string& kind, const std::function<void(const Case&)>& fn,
              Tolerance tolerance) {
  if (!is_listed(module + "/" + kind)) return;
  int64_t count = 0;
  for (const auto& path : method_files(root().path / "methods" / module)) {
    run_case(path.string(), [&] {
      if (kind_of(io::SafetensorsFile(path)) != kind) return;
      ++count;
      fn(Case(path, tolerance));
    });
  }
  if (count == 0 && !::testing::Test::HasFailure()) nothing_found(module + "/" + kind);
}

at::Tensor HfCase::operator[](const std::string& name) const {
  return find_tensor(tensors, name, path).clone();
}

std::vector<std::string> HfCase::names(const std::string& prefix) const {
  return names_with(tensors, prefix);
}

void HfCase::expect(const std::string& name, const at::Tensor& got) const {
  const auto& wanted = find_tensor(tensors, name, path);
  Tolerance allowed{.rtol = 0, .atol = 0};
  if (wanted.is_floating_point()) {
    const auto found = tolerance.find(name);
    if (found != tolerance.end()) {
      allowed.atol = found->second;
    } else if (name.find(".out64.") != std::string::npos) {
      allowed.atol = wanted.numel() == 0 ? 0.0 : 1e-9 * std::max(1.0, wanted.abs().max().item<double>());
    } else {
      ADD_FAILURE() << path << ": " << name << ": the metadata give no tolerance";
      return;
    }
  }
  compare(path.filename().string() + " (" + form + "): " + name, got, wanted, allowed);
}

void for_each_hf(const std::string& architecture, const std::function<void(const HfCase&)>& fn) {
  if (!is_listed("hf/" + architecture)) return;
  int64_t count = 0;
  for (const auto& config : hf_configs()) {
    const auto folder = config.parent_path();
    run_case(folder.string(), [&] {
      if (architecture_of(config) != architecture) return;
      ++count;
      for (const auto& form : forms_of(folder)) {
        run_case(folder.string() + " (" + form.form + ")", [&] { fn(form); });
      }
    });
  }
  if (count == 0 && !::testing::Test::HasFailure()) nothing_found("hf/" + architecture);
}

std::vector<std::string> kinds_without_test() {
  std::set<std::string> found;
  const auto methods = root().path / "methods";
  for (const auto& path : method_files(methods)) {
    const auto kind = kind_of(io::SafetensorsFile(path));
    if (kind) found.insert(path.lexically_relative(methods).begin()->string() + "/" + *kind);
  }
  for (const auto& config : hf_configs()) found.insert("hf/" + architecture_of(config));
  std::vector<std::string> missing;
  std::set_difference(found.begin(), found.end(), listed_kinds().begin(), listed_kinds().end(),
                      std::back_inserter(missing));
  return missing;
}

}  // namespace winnow::testing::golden
