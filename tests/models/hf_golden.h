// Golden runs of published architectures: what all families do with them.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "support/golden.h"
#include "winnow/models/pretrained.h"

namespace winnow::models::testing {

using winnow::testing::golden::HfCase;
using Outputs = std::map<std::string, at::Tensor>;  // "logits", "hidden.0", ...

// <run>.in.<name> in the dtype of the run; whole numbers stay as they are.
at::Tensor input(const HfCase& c, const HfCase::Run& run, const std::string& name, at::ScalarType dtype = at::kFloat);
// The same, undefined where the run has none.
at::Tensor optional_input(const HfCase& c, const HfCase::Run& run, const std::string& name,
                          at::ScalarType dtype = at::kFloat);

// Adds prefix + "0", prefix + "1", ...
void add_hidden(Outputs& outputs, const std::vector<at::Tensor>& states, const std::string& prefix = "hidden.");

// The model of a case with `overrides` (keys of the run's options) put over its configuration.
std::shared_ptr<Pretrained> load_case(const HfCase& c, const HfCase::Run& run, at::ScalarType dtype,
                                      const std::vector<std::string>& overrides = {});

// Compares every stored tensor of the prefix with the output of that name.
void expect_outputs(const HfCase& c, const std::string& prefix, const Outputs& outputs);

// Gradients of the loss, or of the outputs against the stored cotangents, for every stored gradient.
void expect_gradients(const HfCase& c, const HfCase::Run& run, const Pretrained& model, const Outputs& outputs);

// Every trained parameter random and none near its neutral value, in this dtype, the module in evaluation mode.
void draw_parameters(torch::nn::Module& module, at::ScalarType dtype = at::kDouble);

// The model.safetensors of a folder holds exactly the tensors of the case's, in float32.
void expect_published_tensors(const HfCase& c, const std::filesystem::path& folder);

// All of a case: each run's outputs, gradients, and outputs in float64.
using RunModel = std::function<Outputs(Pretrained&, const HfCase&, const HfCase::Run&, at::ScalarType)>;
void check_case(const HfCase& c, const RunModel& run_model, const std::vector<std::string>& overrides = {});

}  // namespace winnow::models::testing
