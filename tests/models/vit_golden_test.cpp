// The ViT family against Hugging Face's code: every stored tensor of every run, from every form of every folder. Sizes
// and options come from the files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>

#include "hf_golden.h"
#include "winnow/models/deit.h"
#include "winnow/models/dinov2.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"
#include "winnow/tensor/patches.h"

namespace winnow::models {
namespace {

using testing::add_hidden;
using testing::HfCase;
using testing::input;
using testing::optional_input;
using testing::Outputs;

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

void check_case(const HfCase& c) {
  testing::check_case(c, run_model, {"mask_ratio", "norm_pix_loss"});
}

TEST(ViTFamilyGolden, ViTForImageClassification) {
  winnow::testing::golden::for_each_hf("ViTForImageClassification", check_case);
}
TEST(ViTFamilyGolden, ViTModel) {
  winnow::testing::golden::for_each_hf("ViTModel", check_case);
}
TEST(ViTFamilyGolden, DeiTForImageClassificationWithTeacher) {
  winnow::testing::golden::for_each_hf("DeiTForImageClassificationWithTeacher", check_case);
}
TEST(ViTFamilyGolden, Dinov2Model) {
  winnow::testing::golden::for_each_hf("Dinov2Model", check_case);
}
TEST(ViTFamilyGolden, ViTMAEForPreTraining) {
  winnow::testing::golden::for_each_hf("ViTMAEForPreTraining", check_case);
}

}  // namespace
}  // namespace winnow::models
