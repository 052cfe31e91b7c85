// What masking saves: the encoder on the kept quarter of the patches against the encoder on all of them. ViT-Ti/16 at
// 224 pixels (L = 196), batch 8, forward; the ideal by multiply-adds is 0.236 (50 against 197 tokens and fewer patch
// embeddings). Target: at most 0.24 of the time on one thread, that is a ratio of 4.17. Two minutes.
#include <ATen/ATen.h>

#include "bench.h"
#include "winnow/mae/masked_autoencoder.h"
#include "winnow/tensor/count.h"
#include "winnow/tensor/generator.h"

namespace {

using namespace winnow;  // NOLINT: a program

void compare(bench::Report& report, const std::string& name, const VitEncoderOptions& options, int64_t batch,
             double target) {
  VitEncoder encoder(options);
  encoder->eval();
  const auto images =
      at::randn({batch, options.channels, options.image_height, options.image_width}, make_generator(1));
  const auto mask =
      mae::draw_mask({.ratio = 0.75}, batch, encoder->grid_height(), encoder->grid_width(), make_generator(2));
  const auto masked = [&] { encoder->encode(encoder->embed_kept(images, mask.ids_keep)); };
  const auto full = [&] { encoder->encode(encoder->embed(images)); };
  const auto multiply_adds = [](const auto& work) {
    OpCounter counter;
    work();
    return static_cast<double>(counter.counts().multiply_adds);
  };
  const at::NoGradGuard no_grad;
  report.note(name + ": multiply-adds, masked / full", multiply_adds(masked) / multiply_adds(full));
  const auto result =
      report.compare(name, {.label = "masked, 25 % kept", .work = masked}, {.label = "full", .work = full},
                     {.target = target, .rounds = 21, .min_seconds = 0.2});
  report.note(name + ": time, masked / full, one thread", 1.0 / result.ratio);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("mae_encoder", argc, argv, [](bench::Report& report) {
    compare(report, "ViT-Ti/16, L 196, batch 8", {.patch = 16, .dim = 192, .depth = 12, .heads = 3}, 8, 1 / 0.24);
    compare(report, "3 x 64, L 196, batch 64", {.channels = 1, .patch = 16, .dim = 64, .depth = 3, .heads = 4}, 64,
            1 / 0.4);
  });
}
