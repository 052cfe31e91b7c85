// Tensors that official code computed, as tests.
//
// The root is the folder in WINNOW_GOLDEN_DIR if that is set when the test runs, else the tests/golden of this source
// tree. Below it, methods/<module>/ holds one .safetensors file per case (kind in its metadata) and hf/ holds folders
// of tiny models in the layout of published checkpoints. Both are searched at any depth.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"

namespace winnow::testing::golden {

// |got - wanted| <= atol + rtol * |wanted| for each element of a floating tensor; others must be equal.
struct Tolerance {
  double rtol = 1e-4;
  double atol = 2e-5;
};

// One file under methods/<module>/.
class Case {
 public:
  // Throws winnow::Error(file) if the file is malformed: no kind, options that are no JSON object, no tensors.
  explicit Case(const std::filesystem::path& path, Tolerance tolerance = {});

  // A copy of the tensor, "in.x" or "out.loss"; throws naming the file and the nearest name if it is not there.
  at::Tensor operator[](const std::string& name) const;
  [[nodiscard]] bool has(const std::string& name) const { return tensors_.contains(name); }
  [[nodiscard]] std::vector<std::string> names(const std::string& prefix = "") const;  // with the prefix, sorted
  // All tensors whose name starts with the prefix, which is cut off: with_prefix("w.") is a state dict.
  [[nodiscard]] io::TensorMap with_prefix(const std::string& prefix) const;
  [[nodiscard]] const io::Json& options() const { return options_; }
  // One option, typed; throws naming the file and the key: c.option<int64_t>("grid").
  template <typename T>
  [[nodiscard]] T option(const std::string& key) const {
    return io::JsonObject(options_, path.string(), "options").get<T>(key);
  }

  // Compares with the stored tensor: equal shape, then floating values within the tolerance and all others equal.
  // For names that start with "grad." the absolute part is scaled by the largest entry of the stored tensor where that
  // exceeds 1. A float64 result may stand against a stored float32 and the reverse; booleans stand against uint8.
  // A failure is a gtest failure that names file, tensor, the worst element and how many are off.
  void expect(const std::string& name, const at::Tensor& got) const { expect(name, got, tolerance_); }
  void expect(const std::string& name, const at::Tensor& got, Tolerance tolerance) const;
  void expect(const std::string& name, double got) const;  // a scalar, shape []

  std::filesystem::path path;
  std::string module;  // the folder below methods/
  std::string kind;

 private:
  io::TensorMap tensors_;
  io::Json options_;
  Tolerance tolerance_;
};

// Runs fn for every case of the kind. No case is a failure under tests/golden and a skip under WINNOW_GOLDEN_DIR. An
// exception out of fn is a failure that names the file. (module, kind) must stand in tests/support/golden_kinds.inc.
void for_each(const std::string& module, const std::string& kind, const std::function<void(const Case&)>& fn,
              Tolerance tolerance = {});

// One model under hf/ in one of the forms in which its folder holds it. Forms: "transformers5" (config.json and
// model.safetensors or shards), "published" (config.published.json, model.published.safetensors, each where present),
// "saved_by_5" (model.transformers5.safetensors).
class HfCase {
 public:
  struct Run {
    std::string name;  // tensors are <name>.in.x, <name>.out.y, <name>.grad.z
    std::string kind;  // "vit", "mae", "lm", ...
    io::Json options;  // mask_ratio, norm_pix_loss, interpolate, hidden, ...
  };

  [[nodiscard]] io::JsonObject config() const { return io::JsonObject::read(config_path); }
  [[nodiscard]] io::Checkpoint checkpoint() const { return io::Checkpoint(model_path); }
  at::Tensor operator[](const std::string& name) const;  // of golden.safetensors, a copy
  [[nodiscard]] bool has(const std::string& name) const { return tensors.contains(name); }
  [[nodiscard]] std::vector<std::string> names(const std::string& prefix = "") const;

  // Compares with golden.safetensors within the absolute tolerance that its metadata give for the tensor; a name with
  // ".out64." within 1e-9 of the largest value. Integers must be equal.
  void expect(const std::string& name, const at::Tensor& got) const;

  std::filesystem::path path;  // the folder
  std::string form;
  std::filesystem::path config_path;
  std::filesystem::path model_path;  // give this to io::Checkpoint or to a model's loader
  std::vector<Run> runs;
  io::TensorMap tensors;
  std::map<std::string, double> tolerance;  // suggested absolute tolerance per tensor
};

// Runs fn for every form of every folder whose config.json says architectures[0] == architecture, which must stand in
// tests/support/golden_kinds.inc. Absence, exceptions: as for_each.
void for_each_hf(const std::string& architecture, const std::function<void(const HfCase&)>& fn);

// The root in use, and whether WINNOW_GOLDEN_DIR gave it.
struct Root {
  std::filesystem::path path;
  bool from_environment = false;
};
Root root();

// Kinds and architectures that the root holds and golden_kinds.inc does not list: "mae/umd_forward", "hf/BertModel".
std::vector<std::string> kinds_without_test();

}  // namespace winnow::testing::golden
