// Copying a checkpoint's tensors into the tensors of a module, all or nothing, with a report of what did not fit.
#pragma once

#include <functional>

#include "winnow/io/safetensors.h"

namespace torch::nn {
class Module;
}

namespace winnow::io {

struct LoadOptions {
  bool strict = true;                         // missing and unexpected names are an error; shape and dtype always are
  std::string prefix{};                       // put before each name of the target to get the name in the file
  std::vector<std::string> ignore_missing{};  // patterns over target names; '*' stands for any text
  std::vector<std::string> ignore_unexpected{};  // patterns over names in the file
  bool allow_narrowing = false;                  // float32 in the file into float16 or bfloat16 in memory
};

struct LoadReport {
  int64_t loaded = 0;                   // tensors copied
  std::vector<std::string> missing;     // names in the file that the target wanted, without the ignored ones
  std::vector<std::string> unexpected;  // names in the file that begin with the prefix and were not used, likewise
  std::vector<std::string> converted;   // names whose dtype was widened or narrowed
  // One line: "12 tensors loaded; missing: a, b; unexpected: c".
  [[nodiscard]] std::string summary() const;
};

// Copies the checkpoint into `targets`, in place (a target may be a view, such as the query rows of a fused matrix;
// gradients are not recorded). Shapes must be equal. Dtypes must be equal or become wider: F8, F16, BF16 -> F32, F64;
// F32 -> F64; smaller integers -> larger of the same sign.
// Throws Error(file) with everything that is wrong in one line: file, key, wanted and found shape or dtype, the missing
// names, each with the nearest unexpected one, and the unexpected names. Nothing is modified then.
LoadReport load_state(const TensorMap& targets, const Checkpoint& checkpoint, const LoadOptions& options = {});

// The same from tensors in memory; `source` names them in messages.
LoadReport load_state(const TensorMap& targets, const TensorMap& tensors, const std::string& source,
                      const LoadOptions& options = {});

// All parameters and buffers of a module by their dotted names: aliases, not copies. The targets of load_state and
// the tensors of save_safetensors.
TensorMap state_of(const torch::nn::Module& module);

}  // namespace winnow::io
