// How good are the features of a trained encoder? Ridge regression on few labels, a linear probe trained by LARS, and
// nearest neighbours, beside the same encoder at random initialisation.
//   build/release/bin/probe_vit --model runs/demo --config configs/mae/demo.yaml
// Reads folders of ViT-MAE and ViT; the sections data and evaluation say on which pictures. A minute for the demo's
// model: with 10 labels a class near 62 against 47 %.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <memory>
#include <string>
#include <vector>

#include "vision.h"
#include "winnow/core/program.h"
#include "winnow/models/vit.h"
#include "winnow/models/vit_mae.h"
#include "winnow/train/trainer_options.h"

namespace {

using namespace winnow;  // NOLINT: a program

VitEncoder encoder_of(const models::Pretrained& model) {
  if (const auto* mae = dynamic_cast<const models::ViTMaeImpl*>(&model)) return mae->mae->encoder;
  if (const auto* vit = dynamic_cast<const models::ViTImpl*>(&model)) return vit->encoder;
  fail(ErrorKind::unsupported, "probe_vit: model must be a ViT-MAE or a ViT, got {}", model.architecture());
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder;
  std::vector<int64_t> labels = {10, 100};
  const ProgramInfo info{
      .name = "probe_vit",
      .summary = "Judges the features of a trained encoder by probes.",
      .options_table = help<examples::DataOptions>("data") + help<examples::EvaluationOptions>("evaluation"),
      .arguments = {{"--model", &folder, "folder of config.json and model.safetensors", true},
                    {"--labels", &labels, "labels per class of the ridge probes"}},
      .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config& config) {
    const auto from = config.read<examples::DataOptions>("data");
    const auto judge = config.read<examples::EvaluationOptions>("evaluation");
    config.read<mae::MaskedAutoencoderViTOptions>("model");  // of a file made for training: checked, not used
    config.read<examples::OptimizerOptions>("optimizer");
    config.read<train::TrainerOptions>("train");
    config.finish();
    const auto model = models::load(folder);
    auto trained = encoder_of(*model);
    const auto& o = trained->options;
    auto untrained_options = o;
    untrained_options.seed = 1;
    VitEncoder untrained(untrained_options);
    const auto data = examples::open_data(from, o.channels, o.image_height, o.image_width);
    const auto train = examples::load_images(*data.train, data.evaluation, judge.probe_images);
    const auto test = examples::load_images(*data.test, data.evaluation, judge.probe_images);
    const auto classes = data.train->num_classes();
    std::vector<examples::TableRow> rows;
    const std::string other = "the same encoder, untrained";
    for (const auto count : labels) {
      throw_if_stopped();
      const auto ridge = [&](VitEncoder& encoder) {
        const mae::LabelledFeatures all{mae::image_features(encoder, train.images, judge.pool), train.labels};
        return mae::ridge_probe(mae::few_per_class(all, classes, count, from.seed),
                                {mae::image_features(encoder, test.images, judge.pool), test.labels},
                                {.l2 = 10, .classes = classes}, all.features);
      };
      rows.push_back({fmt::format("ridge, {} labels a class", count), ridge(trained), ridge(untrained), other});
    }
    const auto after = examples::probe(trained, train, test, classes, judge);
    const auto before = examples::probe(untrained, train, test, classes, judge);
    rows.push_back({"linear probe by LARS", after.linear, before.linear, other});
    rows.push_back({"nearest neighbours", after.knn, before.knn, other});
    examples::print_table("accuracy", rows);
    return 0;
  });
}
