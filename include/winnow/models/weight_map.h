// Which tensor of a checkpoint lies where in the parameters of a module: written once, used to load, to save, and to
// find the gradient that belongs to a published name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "winnow/io/safetensors.h"

namespace winnow::models {

// A parameter, or part of it, as a checkpoint's tensor sees it. `view` maps the parameter (or its gradient) to that
// part without copying, in the checkpoint's element order.
struct WeightPart {
  at::Tensor parameter;
  std::function<at::Tensor(const at::Tensor&)> view;  // empty: all of it, as it is
};
WeightPart whole(const at::Tensor& parameter);
// Rows begin .. begin+count-1: the query rows of a fused qkv.
WeightPart rows(const at::Tensor& parameter, int64_t begin, int64_t count);
// The checkpoint holds [in, out] where the parameter is [out, in] (GPT-2's Conv1D).
WeightPart transposed(const WeightPart& part);

// One tensor of a checkpoint: the parts behind each other along the first dimension (usually there is one).
struct FileTensor {
  std::string name;
  std::vector<WeightPart> parts;
  std::vector<int64_t> shape = {};  // in the file; empty: that of the parts. May differ by reshaping only
};

// One way in which checkpoints hold a parameter or several: all these tensors.
using WeightForm = std::vector<FileTensor>;

enum class WeightNeed { required, optional };

// What is allowed to differ when a checkpoint is loaded. Patterns over names; '*' stands for any text.
struct WeightLoadOptions {
  std::vector<std::string> ignore_missing = {};     // these parameters keep their values
  std::vector<std::string> ignore_unexpected = {};  // these tensors are not read
  bool allow_narrowing = false;                     // float32 in the file into float16 or bfloat16 in memory
};

// The declaration. A style is a family of names ("published", "timm"), style 0 is the one that save() writes; a
// checkpoint may mix them. Holds the parameters by reference; the functions below act on their values at the time of
// the call.
class WeightMap {
 public:
  // `styles`: their names, for messages.
  explicit WeightMap(std::vector<std::string> styles);

  // One parameter under one name per style, in the order of styles. An empty name: this style lacks it. Fewer names
  // than styles: the others lack it.
  void add(const at::Tensor& parameter, const std::vector<std::string>& names, WeightNeed need = WeightNeed::required);
  // Parameters that styles cut differently, one form per style. An empty form: this style lacks them.
  void add_forms(std::vector<WeightForm> forms, WeightNeed need = WeightNeed::required);

  // Names that begin with it may lack it in a file, and all others may carry it: published files of a base model and of
  // the model around it differ so.
  void accept_prefix(std::string prefix);
  // Exact names that may be present and mean nothing here (mask buffers, position numbers).
  void ignore(const std::vector<std::string>& names);
  // `copy` may be present; it must then hold the same values as the tensor `name` of the same file. Never written.
  void tie(const std::string& copy, const std::string& name);

  // Reads every parameter, converting to its dtype (float16 and bfloat16 widen). Throws Error(file), before anything is
  // changed, in one line: file, keys with wanted and found shapes, the missing names (each with the nearest
  // unexpected one), the unexpected names; also for one parameter given twice under two names, and for a tied copy that
  // differs.
  void load(const io::Checkpoint& checkpoint, const WeightLoadOptions& options = {}) const;

  // What save writes: contiguous tensors on the CPU under the names of style 0; they may share the parameters' memory.
  [[nodiscard]] io::TensorMap tensors() const;

  // The parameter, or the gradient, in the form of the checkpoint's tensor of that name (any style, with or without the
  // prefix). The gradient is undefined if no part has one. Throws Error(argument) naming the nearest name.
  [[nodiscard]] at::Tensor value(const std::string& name) const;
  [[nodiscard]] at::Tensor gradient(const std::string& name) const;

  // The names of style 0, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  struct Group {
    std::vector<WeightForm> forms;
    WeightNeed need;
  };
  struct Chosen;
  [[nodiscard]] std::vector<std::string> spellings(const std::string& name) const;
  [[nodiscard]] std::string found_key(const std::string& name, const io::Checkpoint& checkpoint) const;
  [[nodiscard]] std::string wanted_key(const std::string& name, const io::Checkpoint& checkpoint) const;
  [[nodiscard]] const FileTensor& find(const std::string& name) const;
  [[nodiscard]] size_t main_style(const io::Checkpoint& checkpoint) const;
  [[nodiscard]] std::vector<Chosen> choose(const io::Checkpoint& checkpoint) const;
  void check_tied(const io::Checkpoint& checkpoint) const;

  std::vector<std::string> styles_;
  std::vector<Group> groups_;
  std::string prefix_;
  std::vector<std::string> ignored_;
  std::vector<std::pair<std::string, std::string>> tied_;
};

}  // namespace winnow::models
