#include "hf_golden.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/tensor_near.h"
#include "winnow/io/safetensors.h"
#include "winnow/tensor/generator.h"

namespace winnow::models::testing {

at::Tensor input(const HfCase& c, const HfCase::Run& run, const std::string& name, at::ScalarType dtype) {
  const auto x = c[run.name + ".in." + name];
  return x.is_floating_point() ? x.to(dtype) : x;
}

at::Tensor optional_input(const HfCase& c, const HfCase::Run& run, const std::string& name, at::ScalarType dtype) {
  return c.has(run.name + ".in." + name) ? input(c, run, name, dtype) : at::Tensor();
}

void add_hidden(Outputs& outputs, const std::vector<at::Tensor>& states, const std::string& prefix) {
  for (size_t i = 0; i < states.size(); ++i) outputs[prefix + std::to_string(i)] = states[i];
}

std::shared_ptr<Pretrained> load_case(const HfCase& c, const HfCase::Run& run, at::ScalarType dtype,
                                      const std::vector<std::string>& overrides) {
  auto config = c.config().value();
  for (const auto& key : overrides) {
    if (run.options.contains(key)) config[key] = run.options[key];
  }
  return load(io::JsonObject(config, c.config_path.string()), c.checkpoint(), {.dtype = dtype});
}

void expect_outputs(const HfCase& c, const std::string& prefix, const Outputs& outputs) {
  for (const auto& name : c.names(prefix)) {
    const auto found = outputs.find(name.substr(prefix.size()));
    if (found == outputs.end() || !found->second.defined()) {
      ADD_FAILURE() << c.path << ": the model gives no " << name;
    } else {
      c.expect(name, found->second);
    }
  }
}

void expect_gradients(const HfCase& c, const HfCase::Run& run, const Pretrained& model, const Outputs& outputs) {
  const auto names = c.names(run.name + ".grad.");
  if (names.empty()) return;
  at::Tensor objective;
  if (c.has(run.name + ".out.loss")) {
    objective = outputs.at("loss");
  } else {
    const auto prefix = run.name + ".in.cotangent.";
    for (const auto& name : c.names(prefix)) {
      const auto term = (outputs.at(name.substr(prefix.size())) * c[name]).sum();
      objective = objective.defined() ? objective + term : term;
    }
  }
  ASSERT_TRUE(objective.defined()) << c.path << " " << run.name;
  objective.backward();
  const auto map = model.weight_map();
  for (const auto& name : names) {
    const auto gradient = map.gradient(name.substr((run.name + ".grad.").size()));
    ASSERT_TRUE(gradient.defined()) << name;
    c.expect(name, gradient);
  }
}

void draw_parameters(torch::nn::Module& module, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  module.to(dtype);
  module.eval();
  uint64_t seed = 1;
  for (auto& parameter : module.parameters()) {
    if (!parameter.requires_grad()) continue;  // fixed tables
    parameter.copy_(at::randn(parameter.sizes(), make_generator(seed++), at::TensorOptions(dtype)) * 0.3 + 0.1);
  }
}

void expect_published_tensors(const HfCase& c, const std::filesystem::path& folder) {
  const auto saved = io::load_safetensors(folder / "model.safetensors");
  const auto published = io::load_safetensors(c.path / "model.safetensors");
  for (const auto& [name, tensor] : published) {
    ASSERT_TRUE(saved.contains(name)) << c.path << " " << name;
    EXPECT_TENSOR_EQ(saved.at(name), tensor.to(at::kFloat));
  }
  EXPECT_EQ(saved.size(), published.size()) << c.path;
}

void check_case(const HfCase& c, const RunModel& run_model, const std::vector<std::string>& overrides) {
  ASSERT_FALSE(c.runs.empty());
  for (const auto& run : c.runs) {
    SCOPED_TRACE(c.path.string() + " " + c.form + " " + run.name);
    const auto model = load_case(c, run, at::kFloat, overrides);
    const auto outputs = run_model(*model, c, run, at::kFloat);
    expect_outputs(c, run.name + ".out.", outputs);
    expect_gradients(c, run, *model, outputs);
    if (c.names(run.name + ".out64.").empty()) continue;
    const auto precise = load_case(c, run, at::kDouble, overrides);
    expect_outputs(c, run.name + ".out64.", run_model(*precise, c, run, at::kDouble));
  }
}

}  // namespace winnow::models::testing
