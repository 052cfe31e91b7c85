#include "winnow/mae/pictures.h"

#include <torch/types.h>

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"
#include "winnow/tensor/patches.h"

namespace winnow::mae {

at::Tensor predicted_pixels(const at::Tensor& pred, const at::Tensor& images, int64_t patch, bool norm_pix) {
  check_dim("predicted_pixels: images", images, 4);
  const auto target = patchify(images, patch);  // [B, L, p*p*C]
  check_shape("predicted_pixels: pred", pred, target.sizes());
  if (!norm_pix) return unpatchify(pred, patch, images.size(2), images.size(3));
  const auto mean = target.mean(-1, /*keepdim=*/true);
  const auto deviation = (target.var(-1, /*unbiased=*/true, /*keepdim=*/true) + 1e-6).sqrt();
  return unpatchify(pred * deviation + mean, patch, images.size(2), images.size(3));
}

at::Tensor picture_sheet(const at::Tensor& images, const MaeOutput& output, const SheetOptions& options) {
  constexpr double kGrey = 0.5;
  constexpr int64_t kGap = 2;  // white pixels around every picture
  const at::NoGradGuard no_grad;
  check_dim("picture_sheet: images", images, 4);
  const auto B = images.size(0), C = images.size(1), H = images.size(2), W = images.size(3);
  WINNOW_CHECK(C == 1 || C == 3, "picture_sheet: images must have 1 or 3 channels, got {}", C);
  WINNOW_CHECK(B >= 1, "picture_sheet: images must not be empty, got shape {}", images.sizes());
  WINNOW_CHECK(options.scale >= 1 && options.columns >= 1,
               "picture_sheet: scale and columns must be >= 1, got {} and {}", options.scale, options.columns);
  WINNOW_CHECK(options.mean.size() == options.std.size() && (options.mean.empty() || std::ssize(options.mean) == C),
               "picture_sheet: mean and std must have {} values each, got {} and {}", C, options.mean.size(),
               options.std.size());
  const auto p = options.patch;
  const auto predicted = predicted_pixels(output.pred.detach(), images, p, options.norm_pix);
  const auto hidden =
      unpatchify(output.mask.to(images.scalar_type()).unsqueeze(-1).expand({B, H / p * (W / p), p * p * C}), p, H, W);
  auto in_unit_range = [&](const at::Tensor& x) {  // undoes the normalisation of the images
    if (options.mean.empty()) return x;
    const auto like = x.options();
    return x * at::tensor(options.std, like).view({1, C, 1, 1}) + at::tensor(options.mean, like).view({1, C, 1, 1});
  };
  const auto original = in_unit_range(images);
  const auto rebuilt = in_unit_range(images * (1 - hidden) + predicted * hidden);
  const auto strip = at::stack({original, original * (1 - hidden) + kGrey * hidden, rebuilt}, 1);  // [B, 3, C, H, W]
  auto pixels = strip.clamp(0, 1).mul(255).round().to(at::kByte).cpu();
  pixels = pixels.repeat_interleave(options.scale, 3).repeat_interleave(options.scale, 4);
  const auto height = H * options.scale + kGap, width = W * options.scale + kGap;
  const auto columns = std::min(options.columns, B), rows = (B + columns - 1) / columns;
  auto sheet = at::full({rows * height + kGap, columns * 3 * width + kGap, C}, 255, at::kByte);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t i = 0; i < 3; ++i) {
      const auto top = (b / columns) * height + kGap, left = ((b % columns) * 3 + i) * width + kGap;
      sheet.slice(0, top, top + height - kGap)
          .slice(1, left, left + width - kGap)
          .copy_(pixels[b][i].permute({1, 2, 0}));
    }
  }
  return sheet;
}

}  // namespace winnow::mae
