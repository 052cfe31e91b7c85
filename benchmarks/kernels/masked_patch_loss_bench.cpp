// The fused masked patch loss, forward and backward, beside patchify, normalise, square and average in LibTorch.
#include <torch/torch.h>

#include "bench.h"
#include "winnow/tensor/generator.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/patches.h"

using namespace winnow;

namespace {

at::Tensor composed(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& mask, bool norm_pix,
                    int64_t p) {
  auto target = patchify(images, p);
  if (norm_pix) {
    const auto [variance, mean] = at::var_mean(target, at::IntArrayRef{-1}, /*unbiased=*/true, /*keepdim=*/true);
    target = (target - mean) / (variance + 1e-6).sqrt();
  }
  return ((pred - target).square().mean(-1) * mask).sum() / mask.sum();
}

void compare(bench::Report& report, const std::string& name, at::IntArrayRef shape, int64_t p, bool norm_pix) {
  const auto images = at::randn(shape, make_generator(1));
  const auto L = (shape[2] / p) * (shape[3] / p);
  const auto pred = at::randn({shape[0], L, p * p * shape[1]}, make_generator(2)).requires_grad_();
  const auto mask = masking_permutation(at::rand({shape[0], L}, make_generator(3)), L / 4).mask;
  const auto gradient = [pred](const at::Tensor& loss) { bench::keep(torch::autograd::grad({loss}, {pred})); };
  report.compare(
      name, {"winnow", [=] { gradient(masked_patch_loss(pred, images, mask, {.patch = p, .norm_pix = norm_pix})); }},
      {"LibTorch", [=] { gradient(composed(pred, images, mask, norm_pix, p)); }}, {.target = 1.2});
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run("masked_patch_loss", argc, argv, [](bench::Report& report) {
    compare(report, "8 x 3 x 224 x 224, p 16, norm_pix", {8, 3, 224, 224}, 16, true);
    compare(report, "8 x 3 x 224 x 224, p 16", {8, 3, 224, 224}, 16, false);
    compare(report, "64 x 1 x 28 x 28, p 7", {64, 1, 28, 28}, 7, false);
  });
}
