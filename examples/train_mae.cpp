// Pre-trains a masked autoencoder on real pictures and shows what it learned: pictures, metrics, weights with Hugging
// Face names, and one table.
//   ./dev data fashion-mnist && build/release/bin/train_mae --config configs/mae/demo.yaml
// 2000 steps of a 3 x 64 encoder take one to two minutes and end near: held-out masked error 0.27 against 0.70
// of the mean image; see configs/mae/demo.yaml for the rest. Ctrl-C saves; --set train.resume=auto goes on.

#include <ATen/ATen.h>

#include "vision.h"
#include "winnow/core/program.h"
#include "winnow/data/loader.h"
#include "winnow/io/png.h"
#include "winnow/mae/pictures.h"
#include "winnow/models/image_input.h"
#include "winnow/models/vit_mae.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/trainer.h"

namespace {

using namespace winnow;  // NOLINT: a program

int train_mae(Config& config) {
  const auto options = config.read<mae::MaskedAutoencoderViTOptions>("model");
  const auto from = config.read<examples::DataOptions>("data");
  const auto judge = config.read<examples::EvaluationOptions>("evaluation");
  const auto adamw = config.read<examples::OptimizerOptions>("optimizer");
  auto training = config.read<train::TrainerOptions>("train");
  config.finish();
  training.final_weights = false;  // saved below, under the published names

  const auto& vit = options.encoder;
  auto data = examples::open_data(from, vit.channels, vit.image_height, vit.image_width);
  mae::MaskedAutoencoderViT model(options), untrained(options);
  model->to(at::Device(from.device));
  const auto group = train::ProcessGroup::from_environment();
  data::Loader loader(data.train, data.training,
                      {.batch_size = from.batch_size,
                       .seed = from.seed,
                       .rank = group->rank(),
                       .world_size = group->size(),
                       .workers = from.workers});
  train::FusedAdamW optimizer(train::weight_decay_groups(*model, adamw.weight_decay), {.beta2 = adamw.beta2});
  train::Trainer trainer(*model, optimizer, training);
  trainer.set_process_group(group);

  const auto train_images = examples::load_images(*data.train, data.evaluation, judge.probe_images);
  const auto test_images = examples::load_images(*data.test, data.evaluation, judge.probe_images);
  const auto mean_image = train_images.images.mean(0, /*keepdim=*/true).to(from.device);
  const auto held_out = test_images.images.slice(0, 0, judge.images).to(from.device);
  trainer.callbacks.evaluate = [&] {
    const auto error = mae::held_out_error(model, held_out, mean_image, /*seed=*/0);
    return train::Metrics{{"held_out_error", error.model}, {"held_out_ratio", error.model / error.mean_image}};
  };
  trainer.callbacks.pictures = [&](const std::filesystem::path& folder, int64_t step) {
    const auto some = held_out.slice(0, 0, judge.sheet);
    const auto sheet = mae::picture_sheet(some, model->forward(some, /*seed=*/1),
                                          {.patch = vit.patch,
                                           .norm_pix = options.norm_pix,
                                           .mean = data.normalization.mean,
                                           .std = data.normalization.std,
                                           .scale = judge.sheet_scale,
                                           .columns = 2});
    io::write_png(folder / fmt::format("step_{:06}.png", step), sheet);
  };
  const auto result = trainer.fit(loader, [&](const data::Batch& batch, train::StepContext& context) {
    const auto mask = mae::draw_mask(options.masking, batch.images.size(0), model->encoder->grid_height(),
                                     model->encoder->grid_width(), context.generator, at::Device(from.device));
    return train::StepResult{.loss = model->forward(batch.images.to(from.device), mask, {.removed_only = true}).loss,
                             .metrics = {}};
  });
  if (result.signal != 0 || !group->is_main()) return result.exit_code();

  model->to(at::kCPU);
  model->eval();
  models::save(*models::ViTMae(model), training.out);
  models::save_processor(examples::processor_config(vit.image_height, vit.image_width, data.normalization),
                         training.out);
  const auto error = mae::held_out_error(model, test_images.images, mean_image.cpu(), /*seed=*/0);
  const auto classes = data.train->num_classes();
  const auto before = examples::probe(untrained->encoder, train_images, test_images, classes, judge);
  const auto after = examples::probe(model->encoder, train_images, test_images, classes, judge);
  examples::print_table(fmt::format("after {} steps", result.step),
                        {{"held-out masked error", error.model, error.mean_image, "the mean image"},
                         {"linear probe accuracy", after.linear, before.linear, "the same encoder, untrained"},
                         {"nearest neighbour accuracy", after.knn, before.knn, "the same encoder, untrained"}});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const ProgramInfo info{
      .name = "train_mae",
      .summary = "Pre-trains a masked autoencoder (He et al. 2021, arXiv 2111.06377).",
      .options_table = help<mae::MaskedAutoencoderViTOptions>("model") + help<examples::DataOptions>("data") +
                       help<examples::EvaluationOptions>("evaluation") + help<examples::OptimizerOptions>("optimizer") +
                       help<train::TrainerOptions>("train"),
      .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, train_mae);
}
