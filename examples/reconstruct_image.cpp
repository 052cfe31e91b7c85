// Hides most of a picture and lets a trained masked autoencoder fill it in: a PNG with original, masked and rebuilt.
//   build/release/bin/reconstruct_image --model runs/demo --image shirt.png --out rebuilt.png
// Reads folders of Hugging Face's ViTMAEForPreTraining (config.json, model.safetensors) and those of train_mae; a ViT-B
// takes about two seconds on one core. Prints the masked error of each draw of the mask.

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <string>
#include <vector>

#include "winnow/core/program.h"
#include "winnow/io/png.h"
#include "winnow/mae/pictures.h"
#include "winnow/models/image_input.h"
#include "winnow/models/vit_mae.h"
#include "winnow/tensor/generator.h"

int main(int argc, char** argv) {
  using namespace winnow;  // NOLINT: a program
  std::string folder, file, out = "rebuilt.png";
  int64_t samples = 1, seed = 0, scale = 1;
  double ratio = -1;
  const ProgramInfo info{.name = "reconstruct_image",
                         .summary = "Rebuilds the masked patches of a picture with a trained masked autoencoder.",
                         .arguments = {{"--model", &folder, "folder of config.json and model.safetensors", true},
                                       {"--image", &file, "PNG or JPEG file", true},
                                       {"--out", &out, "PNG file to write"},
                                       {"--samples", &samples, "masks drawn, one strip each"},
                                       {"--seed", &seed, "of the first mask"},
                                       {"--scale", &scale, "side of a pixel in the PNG"},
                                       {"--mask-ratio", &ratio, "share hidden; negative: that of the model"}},
                         .set_threads = [](int64_t n) { at::set_num_threads(static_cast<int>(n)); }};
  return run_program(argc, argv, info, [&](Config&) {
    if (samples < 1) throw UsageError(fmt::format("--samples must be >= 1, got {}", samples));
    if (seed < 0) throw UsageError(fmt::format("--seed must be >= 0, got {}", seed));
    if (ratio >= 1) throw UsageError(fmt::format("--mask-ratio must be below 1, got {}", ratio));
    const at::NoGradGuard no_grad;
    auto model = models::load_as<models::ViTMae>(folder);
    auto& network = model->mae;
    const auto processor = models::processor_of(folder, *model);
    const auto image = models::read_input(file, *model, processor);  // [1, C, H, W]
    const auto& options = network->options;
    auto masking = options.masking;
    if (ratio >= 0) masking.ratio = ratio;
    std::vector<at::Tensor> strips;
    for (int64_t i = 0; i < samples; ++i) {
      throw_if_stopped();
      const auto mask = mae::draw_mask(masking, 1, network->encoder->grid_height(), network->encoder->grid_width(),
                                       make_generator(static_cast<uint64_t>(seed + i)));
      const auto result = network->forward(image, mask);
      fmt::print("mask {}: {} of {} patches hidden, error {:.4f}\n", seed + i, mask.mask.sum().item<int64_t>(),
                 mask.mask.size(1), result.loss.item<double>());
      strips.push_back(
          mae::picture_sheet(image, result,
                             {.patch = options.encoder.patch,
                              .norm_pix = options.norm_pix,
                              .mean = processor.do_normalize ? processor.image_mean : std::vector<double>{},
                              .std = processor.do_normalize ? processor.image_std : std::vector<double>{},
                              .scale = scale}));
    }
    io::write_png(out, at::cat(strips));
    fmt::print("{}\n", out);
    return 0;
  });
}
