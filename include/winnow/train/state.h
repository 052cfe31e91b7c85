// What a part of a training run (optimiser, scaler, average, a method's own buffers) writes into a checkpoint.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace winnow::train {

// Tensors go to a safetensors file, values to JSON. Names are the part's own; the checkpoint adds a prefix.
// JSON numbers keep a double to the bit, NaN and infinity do not survive: store those as tensors.
struct StateDict {
  std::map<std::string, at::Tensor> tensors = {};
  nlohmann::json values = nlohmann::json::object();
};

// Anything whose state must survive a restart. load_state(state()) must bring back the state to the bit.
class Stateful {
 public:
  Stateful() = default;
  Stateful(const Stateful&) = default;
  Stateful& operator=(const Stateful&) = default;
  virtual ~Stateful() = default;

  // The tensors may share memory with the live state: the caller writes them out before the next step.
  virtual StateDict state() const = 0;

  // Copies `state` in. Throws winnow::Error (kind file) naming the entry if one is missing or has another shape.
  virtual void load_state(const StateDict& state) = 0;
};

// The tensor `name` of `state`, checked against the shape and dtype of `like`.
// Throws winnow::Error (kind file): "who: the state has no tensor 'name'" or the wanted and the found shape.
const at::Tensor& state_tensor(const StateDict& state, const std::string& name, const at::Tensor& like,
                               const char* who);

}  // namespace winnow::train
