// BERT, CLIP and VideoMAE against Hugging Face's code: every stored tensor of every run, from every form of every
// folder. Sizes and options come from the files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "hf_golden.h"
#include "winnow/models/bert.h"
#include "winnow/models/clip.h"
#include "winnow/models/videomae.h"

namespace winnow::models {
namespace {

using testing::HfCase;
using testing::Outputs;

Outputs run_bert(Pretrained& model, const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto out =
      dynamic_cast<BertImpl&>(model).forward({.ids = testing::input(c, run, "input_ids"),
                                              .keep = testing::optional_input(c, run, "attention_mask"),
                                              .type_ids = testing::optional_input(c, run, "token_type_ids"),
                                              .positions = testing::optional_input(c, run, "position_ids"),
                                              .labels = testing::optional_input(c, run, "labels", dtype),
                                              .hidden_states = true});
  Outputs outputs{{"last_hidden_state", out.last_hidden_state},
                  {"pooler_output", out.pooler_output},
                  {"logits", out.logits},
                  {"loss", out.loss}};
  testing::add_hidden(outputs, out.hidden_states);
  return outputs;
}

Outputs run_clip(Pretrained& model, const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto interpolate = run.options.value("interpolate", false);
  const auto out =
      dynamic_cast<ClipImpl&>(model).forward({.text = {.ids = testing::input(c, run, "input_ids"),
                                                       .keep = testing::optional_input(c, run, "attention_mask"),
                                                       .positions = testing::optional_input(c, run, "position_ids")},
                                              .images = testing::input(c, run, "pixel_values", dtype),
                                              .interpolate_positions = interpolate,
                                              .hidden_states = true,
                                              .loss = c.has(run.name + ".out.loss")});
  Outputs outputs{{"logits_per_image", out.logits_per_image},
                  {"logits_per_text", out.logits_per_text},
                  {"text_embeds", out.text_embeds},
                  {"image_embeds", out.image_embeds},
                  {"loss", out.loss},
                  {"text.last_hidden_state", out.text.last_hidden_state},
                  {"text.pooler_output", out.text.pooler_output},
                  {"vision.last_hidden_state", out.vision.last_hidden_state},
                  {"vision.pooler_output", out.vision.pooler_output}};
  testing::add_hidden(outputs, out.text.hidden_states, "text.hidden.");
  testing::add_hidden(outputs, out.vision.hidden_states, "vision.hidden.");
  return outputs;
}

Outputs run_videomae(Pretrained& model, const HfCase& c, const HfCase::Run& run, at::ScalarType dtype) {
  const auto out = dynamic_cast<VideoMaeImpl&>(model).forward(
      testing::input(c, run, "pixel_values", dtype), {.masked = testing::optional_input(c, run, "bool_masked_pos"),
                                                      .labels = testing::optional_input(c, run, "labels", dtype),
                                                      .hidden_states = true});
  Outputs outputs{{"latent", out.last_hidden_state},
                  {"last_hidden_state", out.last_hidden_state},
                  {"logits", out.logits},
                  {"loss", out.loss}};
  testing::add_hidden(outputs, out.hidden_states);
  return outputs;
}

void for_each_case(const std::string& architecture, const testing::RunModel& run_model) {
  winnow::testing::golden::for_each_hf(architecture,
                                       [&](const HfCase& c) { testing::check_case(c, run_model, {"norm_pix_loss"}); });
}

TEST(EncoderGolden, BertModel) {
  for_each_case("BertModel", run_bert);
}
TEST(EncoderGolden, BertForMaskedLM) {
  for_each_case("BertForMaskedLM", run_bert);
}
TEST(EncoderGolden, CLIPModel) {
  for_each_case("CLIPModel", run_clip);
}
TEST(EncoderGolden, VideoMAEForPreTraining) {
  for_each_case("VideoMAEForPreTraining", run_videomae);
}

}  // namespace
}  // namespace winnow::models
