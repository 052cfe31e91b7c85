// The ViT family against Hugging Face's code: every stored tensor of every run, from every form of every folder. Sizes
// and options come from the files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <map>
#include <string>

#include "support/golden.h"
#include "winnow/models/deit.h"
#include "winnow/models/dinov2.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"
#include "winnow/tensor/patches.h"

namespace winnow::models {
namespace {

using testing::golden::HfCase;
using Outputs = std::map<std::string, at::Tensor>;

// An input in the dtype of the run; whole numbers stay as they are.
at::Tensor input(const HfCase& c, const HfCase::Run& run, const std::string& name, at::ScalarType dtype) {
  const auto x = c[run.name + ".in." + name];
  return x.is_floating_point() ? x.to(dtype) : x;
}

at::Tensor optional_input(const HfCase& c, const HfCase::Run& run, const std::string& name, at::ScalarType dtype) {
  return c.has(run.name + ".in." + name) ? input(c, run, name, dtype) : at::Tensor();
}

void add_hidden(Outputs& outputs, const std::vector<at::Tensor>& states) {
  for (size_t i = 0; i < states.size(); ++i) outputs["hidden." + std::to_string(i)] = states[i];
}

Outputs named(const VisionOutput& out) {
  Outputs outputs{{"last_hidden_state", out.last_hidden_state},
                  {"pooler_output", out.pooler_output},
                  {"logits", out.logits},
                  {"cls_logits", out.cls_logits},
                  {"distillation_logits", out.distillation_logits},
                  {"loss", out.loss}};
  add_hidden(outputs, out.hidden_states);
  return outputs;
}

bool option(const HfCase::Run& run, const std::string& key) {
  return run.options.value(key, false);
}

// The model of a case, with what a run overrides in the configuration.
std::shared_ptr<Pretrained> load_case(const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  auto config = c.config().value();
  for (const auto* key : {"mask_ratio", "norm_pix_loss"}) {
    if (run.options.contains(key)) config[key] = run.options[key];
  }
  return load(io::JsonObject(config, c.config_path.string()), c.checkpoint(), {.dtype = dtype});
}

Outputs run_model(Pretrained& model, const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto images = input(c, run, "pixel_values", dtype);
  const auto labels = optional_input(c, run, "labels", dtype);
  if (auto* mae = dynamic_cast<ViTMaeImpl*>(&model)) {
    const auto out = mae->forward(images, input(c, run, "noise", dtype),
                                  {.hidden_states = true, .interpolate_positions = option(run, "interpolate")});
    Outputs outputs{{"loss", out.loss},     {"logits", out.pred},
                    {"mask", out.mask},     {"ids_restore", out.ids_restore},
                    {"latent", out.latent}, {"target_patches", patchify(images, mae->config.trunk.patch_size)}};
    add_hidden(outputs, out.hidden_states);
    return outputs;
  }
  if (auto* dinov2 = dynamic_cast<Dinov2Impl*>(&model)) {
    const auto masked = optional_input(c, run, "bool_masked_pos", dtype);
    return named(dinov2->forward(images, {.masked = masked, .hidden_states = true, .labels = labels}));
  }
  const VisionForward how{.interpolate_positions = option(run, "interpolate"), .hidden_states = true, .labels = labels};
  if (auto* deit = dynamic_cast<DeiTImpl*>(&model)) return named(deit->forward(images, how));
  return named(dynamic_cast<ViTImpl&>(model).forward(images, how));
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

// Gradients of the loss, or of the outputs against the stored cotangents.
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

void check_case(const HfCase& c) {
  ASSERT_FALSE(c.runs.empty());
  for (const auto& run : c.runs) {
    SCOPED_TRACE(c.path.string() + " " + c.form + " " + run.name);
    const auto model = load_case(c, run, at::kFloat);
    const auto outputs = run_model(*model, c, run, at::kFloat);
    expect_outputs(c, run.name + ".out.", outputs);
    expect_gradients(c, run, *model, outputs);
    if (c.names(run.name + ".out64.").empty()) continue;
    const auto precise = load_case(c, run, at::kDouble);
    expect_outputs(c, run.name + ".out64.", run_model(*precise, c, run, at::kDouble));
  }
}

TEST(ViTFamilyGolden, ViTForImageClassification) {
  testing::golden::for_each_hf("ViTForImageClassification", check_case);
}
TEST(ViTFamilyGolden, ViTModel) {
  testing::golden::for_each_hf("ViTModel", check_case);
}
TEST(ViTFamilyGolden, DeiTForImageClassificationWithTeacher) {
  testing::golden::for_each_hf("DeiTForImageClassificationWithTeacher", check_case);
}
TEST(ViTFamilyGolden, Dinov2Model) {
  testing::golden::for_each_hf("Dinov2Model", check_case);
}
TEST(ViTFamilyGolden, ViTMAEForPreTraining) {
  testing::golden::for_each_hf("ViTMAEForPreTraining", check_case);
}

}  // namespace
}  // namespace winnow::models
