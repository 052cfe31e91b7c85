#include "winnow/tensor/patches.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>

#include "float_type.h"
#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/gather_tokens.h"
#include "winnow/kernels/masked_patch_loss.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using MaybeTensor = std::optional<at::Tensor>;

void check_images(const char* function, const at::Tensor& images, int64_t patch) {
  check_dim(fmt::format("{}: images", function), images, 4);
  WINNOW_CHECK(patch >= 1, "{}: patch must be >= 1, got {}", function, patch);
  WINNOW_CHECK(images.size(2) % patch == 0 && images.size(3) % patch == 0,
               "{}: images must have height and width divisible by patch = {}, got {} x {}", function, patch,
               images.size(2), images.size(3));
}

int64_t patch_count(const at::Tensor& images, int64_t patch) {
  return (images.size(2) / patch) * (images.size(3) / patch);
}

// ---- gather_patches

at::Tensor gather_patches_op(const at::Tensor& images, int64_t patch, const at::Tensor& ids) {
  check_images("gather_patches", images, patch);
  check_dtype("gather_patches: ids", ids, at::kLong);
  check_device("gather_patches: ids", ids, images.device());
  const auto B = images.size(0), C = images.size(1);
  check_shape("gather_patches: ids", ids, {B, -1});
  check_indices("gather_patches: ids", ids, patch_count(images, patch));
  const auto K = ids.size(1);
  auto out = at::empty({B, K, C * patch * patch}, images.options());
  if (ops::is_shape_only(out)) return out;
  const auto image = images.contiguous(), rows = ids.contiguous();
  const kernels::GatherPatches args{image.const_data_ptr(),
                                    rows.const_data_ptr<int64_t>(),
                                    K,
                                    C,
                                    images.size(2),
                                    images.size(3),
                                    patch,
                                    static_cast<int64_t>(images.element_size())};
  if (images.is_cpu()) {
    at::parallel_for(0, B * K, kernels::kGatherPatchesGrain, [&](int64_t begin, int64_t end) {
      kernels::cpu::gather_patches(args, out.mutable_data_ptr(), begin, end);
    });
    return out;
  }
  const c10::DeviceGuard guard(images.device());
  kernels::cuda::gather_patches(args, B, out.mutable_data_ptr(), ops::stream_of(images));
  ops::check_launch("gather_patches");
  return out;
}

// ---- masked_patch_loss

bool given(const MaybeTensor& x) {
  return x && x->defined();
}

void check_loss(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& weight, const MaybeTensor& ids,
                int64_t patch) {
  check_images("masked_patch_loss", images, patch);
  check_like("masked_patch_loss: images", images, pred);
  check_like("masked_patch_loss: mask", weight, pred);
  const auto B = images.size(0), L = patch_count(images, patch);
  if (given(ids)) {
    check_dtype("masked_patch_loss: ids", *ids, at::kLong);
    check_device("masked_patch_loss: ids", *ids, images.device());
    check_shape("masked_patch_loss: ids", *ids, {B, -1});
    check_indices("masked_patch_loss: ids", *ids, L);
  }
  const auto count = given(ids) ? ids->size(1) : L;
  check_shape("masked_patch_loss: pred", pred, {B, count, patch * patch * images.size(1)});
  check_shape("masked_patch_loss: mask", weight, {B, count});
}

// The patch number of each prediction within the batch, [B, R]; undefined where they are in order.
at::Tensor patch_numbers(const MaybeTensor& ids, const at::Tensor& images, int64_t patch) {
  if (!given(ids)) return {};
  const auto first = at::arange(images.size(0), ids->options()).unsqueeze(1) * patch_count(images, patch);
  return (*ids + first).contiguous();
}

template <typename T>
kernels::MaskedPatchLoss<T> loss_arguments(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& weight,
                                           const at::Tensor& numbers, int64_t patch, bool norm_pix) {
  return {images.const_data_ptr<T>(),
          pred.const_data_ptr<T>(),
          weight.const_data_ptr<T>(),
          images.size(1),
          images.size(2),
          images.size(3),
          patch,
          norm_pix,
          numbers.defined() ? numbers.const_data_ptr<int64_t>() : nullptr};
}

// The sum of the weights, and on the CPU the proof that they are weights.
double checked_total(const at::Tensor& weight) {
  const auto total = weight.sum(at::kDouble).item<double>();
  WINNOW_CHECK(std::isfinite(total) && weight.ge(0).all().item<bool>(),
               "masked_patch_loss: mask must hold finite weights >= 0, got another");
  WINNOW_CHECK(total > 0, "masked_patch_loss: mask must count at least one patch, got none");
  return total;
}

// The loss and each patch's mean and 1 / deviation, like weight, for the backward pass.
Triple masked_patch_loss_op(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& weight,
                            const MaybeTensor& ids, int64_t patch, bool norm_pix) {
  check_loss(pred, images, weight, ids, patch);
  auto loss = at::empty({}, pred.options());
  auto mean = at::empty(weight.sizes(), pred.options()), inverse = at::empty_like(mean);
  if (pred.is_meta()) return {loss, mean, inverse};
  const double total = pred.is_cpu() || debug_checks() ? checked_total(weight) : 0.0;
  const auto p = pred.contiguous(), image = images.contiguous(), w = weight.contiguous();
  const auto numbers = patch_numbers(ids, images, patch);
  auto each = at::empty_like(mean);
  ops::with_float_type("masked_patch_loss: pred", pred, [&](auto zero) {
    using T = decltype(zero);
    const auto args = loss_arguments<T>(p, image, w, numbers, patch, norm_pix);
    T *to = each.mutable_data_ptr<T>(), *m = mean.mutable_data_ptr<T>(), *s = inverse.mutable_data_ptr<T>();
    if (pred.is_cpu()) {
      at::parallel_for(0, w.numel(), kernels::kMaskedPatchLossGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::masked_patch_loss(args, to, m, s, begin, end);
      });
      double sum = 0;  // in order of the patches: the same for any number of threads
      for (int64_t i = 0; i < w.numel(); ++i) {
        if (args.weight[i] != T{0}) sum += static_cast<double>(args.weight[i]) * static_cast<double>(to[i]);
      }
      loss.fill_(sum / total);
    } else if (w.numel() > 0) {
      const c10::DeviceGuard guard(pred.device());
      kernels::cuda::masked_patch_loss(args, to, m, s, w.numel(), ops::stream_of(pred));
      ops::check_launch("masked_patch_loss");
      loss.copy_((each * w).sum() / w.sum());
    }
  });
  return {loss, mean, inverse};
}

// scale: the loss's gradient divided by the sum of the weights, a scalar tensor.
at::Tensor masked_patch_loss_backward_op(const at::Tensor& scale, const at::Tensor& pred, const at::Tensor& images,
                                         const at::Tensor& weight, const MaybeTensor& ids, const at::Tensor& mean,
                                         const at::Tensor& inverse, int64_t patch) {
  check_loss(pred, images, weight, ids, patch);
  check_shape("masked_patch_loss_backward: scale", scale, {});
  for (const auto& x : {scale, mean, inverse}) check_like("masked_patch_loss_backward: argument", x, pred);
  check_shape("masked_patch_loss_backward: mean", mean, weight.sizes());
  check_shape("masked_patch_loss_backward: inverse_deviation", inverse, weight.sizes());
  auto out = at::empty(pred.sizes(), pred.options());
  if (ops::is_shape_only(out)) return out;
  const auto p = pred.contiguous(), image = images.contiguous(), w = weight.contiguous();
  const auto m = mean.contiguous(), s = inverse.contiguous(), numbers = patch_numbers(ids, images, patch);
  ops::with_float_type("masked_patch_loss_backward: pred", pred, [&](auto zero) {
    using T = decltype(zero);
    const auto args = loss_arguments<T>(p, image, w, numbers, patch, /*norm_pix=*/false);
    const T *means = m.const_data_ptr<T>(), *inverses = s.const_data_ptr<T>();
    if (pred.is_cpu()) {
      const T factor = scale.item<T>();
      at::parallel_for(0, w.numel(), kernels::kMaskedPatchLossGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::masked_patch_loss_backward(args, means, inverses, factor, out.mutable_data_ptr<T>(), begin, end);
      });
    } else {
      const c10::DeviceGuard guard(pred.device());
      kernels::cuda::masked_patch_loss_backward(args, means, inverses, scale.const_data_ptr<T>(),
                                                out.mutable_data_ptr<T>(), w.numel(), ops::stream_of(pred));
      ops::check_launch("masked_patch_loss_backward");
    }
  });
  return out;
}

using LossSignature = Triple(const at::Tensor&, const at::Tensor&, const at::Tensor&, const MaybeTensor&, int64_t,
                             bool);
using LossBackwardSignature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                         const MaybeTensor&, const at::Tensor&, const at::Tensor&, int64_t);

struct MaskedPatchLoss : torch::autograd::Function<MaskedPatchLoss> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& pred, const at::Tensor& images,
                               const at::Tensor& weight, const MaybeTensor& ids, int64_t patch, bool norm_pix) {
    WINNOW_CHECK_KIND(!images.requires_grad() && !weight.requires_grad(), ErrorKind::unsupported,
                      "masked_patch_loss: {} must not require a gradient, only pred has one",
                      images.requires_grad() ? "images" : "mask");
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<LossSignature>("winnow::masked_patch_loss");
    auto [loss, mean, inverse] = op.call(pred, images, weight, ids, patch, norm_pix);
    ctx->save_for_backward({pred, images, weight, mean, inverse, given(ids) ? *ids : at::Tensor()});
    ctx->saved_data["patch"] = patch;
    ctx->mark_non_differentiable({mean, inverse});
    return {loss, mean, inverse};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("masked_patch_loss");
    static const auto op = ops::find<LossBackwardSignature>("winnow::masked_patch_loss_backward");
    const auto saved = ctx->get_saved_variables();
    const auto scale = (grads[0] / saved[2].sum(at::kDouble)).to(saved[0].scalar_type());
    const auto ids = saved[5].defined() ? MaybeTensor(saved[5]) : std::nullopt;
    const auto grad =
        op.call(scale, saved[0], saved[1], saved[2], ids, saved[3], saved[4], ctx->saved_data["patch"].toInt());
    return {grad, {}, {}, {}, {}, {}};
  }
};

Triple masked_patch_loss_autograd(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& weight,
                                  const MaybeTensor& ids, int64_t patch, bool norm_pix) {
  const auto out = MaskedPatchLoss::apply(pred, images, weight, ids, patch, norm_pix);
  return {out[0], out[1], out[2]};
}

at::Tensor gather_patches_autograd(const at::Tensor& images, int64_t patch, const at::Tensor& ids) {
  WINNOW_CHECK_KIND(!(images.requires_grad() && at::GradMode::is_enabled()), ErrorKind::unsupported,
                    "gather_patches: images must not require a gradient");
  const at::AutoDispatchBelowADInplaceOrView below;
  static const auto op = ops::find<at::Tensor(const at::Tensor&, int64_t, const at::Tensor&)>("winnow::gather_patches");
  return op.call(images, patch, ids);
}

}  // namespace

WINNOW_IMPLEMENT(gather_patches, gather_patches_op)
WINNOW_IMPLEMENT(masked_patch_loss, masked_patch_loss_op)
WINNOW_IMPLEMENT(masked_patch_loss_backward, masked_patch_loss_backward_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("gather_patches", &gather_patches_autograd);
  library.impl("masked_patch_loss", &masked_patch_loss_autograd);
}

at::Tensor patchify(const at::Tensor& images, int64_t patch) {
  check_images("patchify", images, patch);
  const auto B = images.size(0), C = images.size(1), h = images.size(2) / patch, w = images.size(3) / patch;
  return images.reshape({B, C, h, patch, w, patch}).permute({0, 2, 4, 3, 5, 1}).reshape({B, h * w, patch * patch * C});
}

at::Tensor unpatchify(const at::Tensor& patches, int64_t patch, int64_t height, int64_t width) {
  check_dim("unpatchify: patches", patches, 3);
  WINNOW_CHECK(patch >= 1, "unpatchify: patch must be >= 1, got {}", patch);
  WINNOW_CHECK(height >= 0 && width >= 0 && height % patch == 0 && width % patch == 0,
               "unpatchify: height and width must be divisible by patch = {}, got {} x {}", patch, height, width);
  const auto B = patches.size(0), h = height / patch, w = width / patch;
  WINNOW_CHECK(patches.size(1) == h * w && patches.size(2) % (patch * patch) == 0,
               "unpatchify: patches must have shape [*, {}, C*{}], got {}", h * w, patch * patch, patches.sizes());
  const auto C = patches.size(2) / (patch * patch);
  return patches.reshape({B, h, w, patch, patch, C}).permute({0, 5, 1, 3, 2, 4}).reshape({B, C, height, width});
}

at::Tensor unpatchify(const at::Tensor& patches, int64_t patch) {
  check_dim("unpatchify: patches", patches, 3);
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(patches.size(1)))));
  WINNOW_CHECK(side * side == patches.size(1),
               "unpatchify: patches must be a square number for a square image, got {} (give height and width)",
               patches.size(1));
  return unpatchify(patches, patch, side * patch, side * patch);
}

at::Tensor gather_patches(const at::Tensor& images, int64_t patch, const at::Tensor& ids) {
  check_defined("gather_patches: images", images);
  check_defined("gather_patches: ids", ids);
  static const auto op = ops::find<at::Tensor(const at::Tensor&, int64_t, const at::Tensor&)>("winnow::gather_patches");
  return op.call(images, patch, ids);
}

at::Tensor patch_targets(const at::Tensor& images, const MaskedPatchLossOptions& opts) {
  check_images("patch_targets", images, opts.patch);
  const auto target = patchify(images, opts.patch);
  if (!opts.norm_pix) return target;
  const auto wide = ops::widened(target);
  const auto mean = wide.mean(-1, /*keepdim=*/true);
  const auto variance =
      wide.size(-1) > 1 ? wide.var(at::IntArrayRef{-1}, /*unbiased=*/true, /*keepdim=*/true) : at::zeros_like(mean);
  return ((wide - mean) / (variance + 1e-6).sqrt()).to(images.scalar_type());
}

at::Tensor masked_patch_loss(const at::Tensor& pred, const at::Tensor& images, const at::Tensor& mask,
                             const MaskedPatchLossOptions& opts, const at::Tensor& ids) {
  check_floating("masked_patch_loss: pred", pred);
  check_floating("masked_patch_loss: images", images);
  check_defined("masked_patch_loss: mask", mask);
  const auto dtype = pred.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  static const auto op = ops::find<LossSignature>("winnow::masked_patch_loss");
  return std::get<0>(op.call(pred.to(dtype), images.to(dtype), mask.to(dtype),
                             ids.defined() ? MaybeTensor(ids) : std::nullopt, opts.patch, opts.norm_pix));
}

}  // namespace winnow
