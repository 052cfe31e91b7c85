#include "winnow/tensor/masking.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "float_type.h"
#include "ops.h"
#include "winnow/core/error.h"
#include "winnow/kernels/gather_tokens.h"
#include "winnow/kernels/masking_permutation.h"
#include "winnow/kernels/restore_tokens.h"
#include "winnow/tensor/check.h"
#include "winnow/tensor/format.h"

namespace winnow {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Pair = std::tuple<at::Tensor, at::Tensor>;
using Triple = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// ---- gather_tokens

void check_ids(const char* function, const char* name, const at::Tensor& ids, const at::Tensor& x) {
  const auto what = fmt::format("{}: {}", function, name);
  check_dtype(what, ids, at::kLong);
  check_device(what, ids, x.device());
  check_shape(what, ids, {x.size(0), -1});
}

at::Tensor gather_tokens_op(const at::Tensor& x, const at::Tensor& ids) {
  check_dim("gather_tokens: x", x, 3);
  check_ids("gather_tokens", "ids", ids, x);
  check_indices("gather_tokens: ids", ids, x.size(1));
  const auto B = x.size(0), L = x.size(1), D = x.size(2), K = ids.size(1);
  auto out = at::empty({B, K, D}, x.options());
  if (ops::is_shape_only(out)) return out;
  const auto from = x.contiguous(), rows = ids.contiguous();
  const auto bytes = D * static_cast<int64_t>(x.element_size());
  if (x.is_cpu()) {
    at::parallel_for(0, B * K, kernels::kGatherTokensGrain, [&](int64_t begin, int64_t end) {
      kernels::cpu::gather_tokens(from.const_data_ptr(), rows.const_data_ptr<int64_t>(), L, K, bytes,
                                  out.mutable_data_ptr(), begin, end);
    });
    return out;
  }
  const c10::DeviceGuard guard(x.device());
  kernels::cuda::gather_tokens(from.const_data_ptr(), rows.const_data_ptr<int64_t>(), B, L, K, bytes,
                               out.mutable_data_ptr(), ops::stream_of(x));
  ops::check_launch("gather_tokens");
  return out;
}

at::Tensor gather_tokens_backward_op(const at::Tensor& grad, const at::Tensor& ids, int64_t length) {
  check_dim("gather_tokens_backward: grad", grad, 3);
  check_ids("gather_tokens_backward", "ids", ids, grad);
  const auto B = grad.size(0), K = grad.size(1), D = grad.size(2);
  const bool half = grad.is_floating_point() && grad.element_size() < 4;
  const auto from = (half ? grad.to(at::kFloat) : grad).contiguous();
  const auto rows = ids.contiguous();
  auto out = at::empty({B, length, D}, from.options());
  if (!ops::is_shape_only(out)) {
    ops::with_float_type("gather_tokens_backward: grad", from, [&](auto zero) {
      using T = decltype(zero);
      if (grad.is_cpu()) {
        at::parallel_for(0, B, 1, [&](int64_t begin, int64_t end) {
          kernels::cpu::gather_tokens_backward(from.const_data_ptr<T>(), rows.const_data_ptr<int64_t>(), length, K, D,
                                               out.mutable_data_ptr<T>(), begin, end);
        });
      } else {
        const c10::DeviceGuard guard(grad.device());
        kernels::cuda::gather_tokens_backward(from.const_data_ptr<T>(), rows.const_data_ptr<int64_t>(), B, length, K, D,
                                              out.mutable_data_ptr<T>(), ops::stream_of(grad));
        ops::check_launch("gather_tokens_backward");
      }
    });
  }
  return half ? out.to(grad.scalar_type()) : out;
}

struct GatherTokens : torch::autograd::Function<GatherTokens> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& ids) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<at::Tensor(const at::Tensor&, const at::Tensor&)>("winnow::gather_tokens");
    auto out = op.call(x, ids);
    ctx->save_for_backward({ids});
    ctx->saved_data["length"] = x.size(1);
    return out;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("gather_tokens");
    static const auto op =
        ops::find<at::Tensor(const at::Tensor&, const at::Tensor&, int64_t)>("winnow::gather_tokens_backward");
    return {op.call(grads[0], ctx->get_saved_variables()[0], ctx->saved_data["length"].toInt()), {}};
  }
};

at::Tensor gather_tokens_autograd(const at::Tensor& x, const at::Tensor& ids) {
  return GatherTokens::apply(x, ids);
}

// ---- restore_tokens

// Reads the data, so on CUDA only under debug checks, like check_indices.
void check_permutation(const char* what, const at::Tensor& ids) {
  if (ids.is_meta() || (!ids.is_cpu() && !debug_checks())) return;
  const auto rows = ids.to(at::kCPU).contiguous();
  const auto* id = rows.const_data_ptr<int64_t>();
  const auto L = rows.size(1);
  std::vector<int64_t> seen_in(static_cast<size_t>(L), -1);
  for (int64_t i = 0; i < rows.numel(); ++i) {
    WINNOW_CHECK(id[i] >= 0 && id[i] < L, "{} must be in [0, {}), got {}", what, L, id[i]);
    auto& seen = seen_in[static_cast<size_t>(id[i])];
    WINNOW_CHECK(seen != i / L, "{} must be a permutation in each row, got {} twice in row {}", what, id[i], i / L);
    seen = i / L;
  }
}

at::Tensor restore_tokens_op(const at::Tensor& kept, const at::Tensor& ids_restore, const at::Tensor& mask_token,
                             const std::optional<at::Tensor>& positions, int64_t prefix) {
  check_dim("restore_tokens: kept", kept, 3);
  check_ids("restore_tokens", "ids_restore", ids_restore, kept);
  const auto B = kept.size(0), D = kept.size(2), L = ids_restore.size(1), K = kept.size(1) - prefix;
  WINNOW_CHECK(prefix >= 0 && K >= 0, "restore_tokens: prefix must be in [0, {}], got {}", kept.size(1), prefix);
  WINNOW_CHECK(K <= L, "restore_tokens: kept must hold at most {} tokens after the prefix, got {}", L, K);
  check_like("restore_tokens: mask_token", mask_token, kept);
  check_shape("restore_tokens: mask_token", mask_token, {D});
  const bool add = positions && positions->defined();
  if (add) {
    check_like("restore_tokens: positions", *positions, kept);
    check_shape("restore_tokens: positions", *positions, {prefix + L, D});
  }
  check_permutation("restore_tokens: ids_restore", ids_restore);
  auto out = at::empty({B, prefix + L, D}, kept.options());
  if (ops::is_shape_only(out)) return out;
  const auto tokens = kept.contiguous(), ids = ids_restore.contiguous(), fill = mask_token.contiguous();
  const auto rows = add ? positions->contiguous() : at::Tensor();
  ops::with_float_type("restore_tokens: kept", kept, [&](auto zero) {
    using T = decltype(zero);
    const kernels::RestoreTokens<T> args{ids.const_data_ptr<int64_t>(), L, K, prefix, D};
    const T* position = add ? rows.const_data_ptr<T>() : nullptr;
    if (kept.is_cpu()) {
      at::parallel_for(0, B, kernels::kRestoreTokensGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::restore_tokens(args, tokens.const_data_ptr<T>(), fill.const_data_ptr<T>(), position,
                                     out.mutable_data_ptr<T>(), begin, end);
      });
    } else {
      const c10::DeviceGuard guard(kept.device());
      kernels::cuda::restore_tokens(args, tokens.const_data_ptr<T>(), fill.const_data_ptr<T>(), position,
                                    out.mutable_data_ptr<T>(), B, ops::stream_of(kept));
      ops::check_launch("restore_tokens");
    }
  });
  return out;
}

Pair restore_tokens_backward_op(const at::Tensor& grad, const at::Tensor& ids_restore, int64_t kept, int64_t prefix) {
  check_dim("restore_tokens_backward: grad", grad, 3);
  check_ids("restore_tokens_backward", "ids_restore", ids_restore, grad);
  const auto B = grad.size(0), D = grad.size(2), L = ids_restore.size(1);
  WINNOW_CHECK(prefix >= 0 && kept >= 0 && kept <= L && grad.size(1) == prefix + L,
               "restore_tokens_backward: grad must have {} rows, got {}", prefix + L, grad.size(1));
  const auto from = grad.contiguous(), ids = ids_restore.contiguous();
  auto grad_tokens = at::empty({B, prefix + kept, D}, grad.options());
  auto grad_mask = at::empty({B, D}, grad.options());
  if (grad.is_meta()) return {grad_tokens, at::empty({D}, grad.options())};
  if (grad_mask.numel() == 0) return {grad_tokens, at::zeros({D}, grad.options())};
  ops::with_float_type("restore_tokens_backward: grad", grad, [&](auto zero) {
    using T = decltype(zero);
    const kernels::RestoreTokens<T> args{ids.const_data_ptr<int64_t>(), L, kept, prefix, D};
    if (grad.is_cpu()) {
      at::parallel_for(0, B, kernels::kRestoreTokensGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::restore_tokens_backward(args, from.const_data_ptr<T>(), grad_tokens.mutable_data_ptr<T>(),
                                              grad_mask.mutable_data_ptr<T>(), begin, end);
      });
    } else {
      const c10::DeviceGuard guard(grad.device());
      kernels::cuda::restore_tokens_backward(args, from.const_data_ptr<T>(), grad_tokens.mutable_data_ptr<T>(),
                                             grad_mask.mutable_data_ptr<T>(), B, ops::stream_of(grad));
      ops::check_launch("restore_tokens_backward");
    }
  });
  return {grad_tokens, grad_mask.sum(0)};
}

using RestoreSignature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                    const std::optional<at::Tensor>&, int64_t);

struct RestoreTokens : torch::autograd::Function<RestoreTokens> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& kept, const at::Tensor& ids_restore,
                            const at::Tensor& mask_token, const std::optional<at::Tensor>& positions, int64_t prefix) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = ops::find<RestoreSignature>("winnow::restore_tokens");
    auto out = op.call(kept, ids_restore, mask_token, positions, prefix);
    ctx->save_for_backward({ids_restore});
    ctx->saved_data["kept"] = kept.size(1) - prefix;
    ctx->saved_data["prefix"] = prefix;
    ctx->saved_data["positions"] = positions && positions->defined() && positions->requires_grad();
    return out;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    ops::refuse_double_backward("restore_tokens");
    static const auto op =
        ops::find<Pair(const at::Tensor&, const at::Tensor&, int64_t, int64_t)>("winnow::restore_tokens_backward");
    auto [tokens, mask] = op.call(grads[0], ctx->get_saved_variables()[0], ctx->saved_data["kept"].toInt(),
                                  ctx->saved_data["prefix"].toInt());
    const auto positions = ctx->saved_data["positions"].toBool() ? grads[0].sum(0) : at::Tensor();
    return {tokens, {}, mask, positions, {}};
  }
};

at::Tensor restore_tokens_autograd(const at::Tensor& kept, const at::Tensor& ids_restore, const at::Tensor& mask_token,
                                   const std::optional<at::Tensor>& positions, int64_t prefix) {
  return RestoreTokens::apply(kept, ids_restore, mask_token, positions, prefix);
}

// ---- masking_permutation

Triple masking_permutation_op(const at::Tensor& noise, int64_t keep) {
  check_dim("masking_permutation: noise", noise, 2);
  const auto B = noise.size(0), L = noise.size(1);
  WINNOW_CHECK(keep >= 0 && keep <= L, "masking_permutation: keep must be in [0, {}], got {}", L, keep);
  WINNOW_CHECK(L < (int64_t{1} << 32), "masking_permutation: noise must have fewer than 2^32 columns, got {}", L);
  auto shuffle = at::empty({B, L}, noise.options().dtype(at::kLong));
  auto restore = at::empty_like(shuffle);
  auto mask = at::empty({B, L}, noise.options().dtype(at::kFloat));
  if (ops::is_shape_only(mask)) return {shuffle, restore, mask};
  if (noise.is_cpu() || debug_checks()) {
    WINNOW_CHECK(!noise.isnan().any().item<bool>(), "masking_permutation: noise must hold no NaN, got one");
  }
  const auto rows = noise.contiguous();
  const kernels::MaskingPermutation out{shuffle.mutable_data_ptr<int64_t>(), restore.mutable_data_ptr<int64_t>(),
                                        mask.mutable_data_ptr<float>()};
  ops::with_float_type("masking_permutation: noise", noise, [&](auto zero) {
    using T = decltype(zero);
    const T* values = rows.const_data_ptr<T>();
    if (noise.is_cpu()) {
      at::parallel_for(0, B, kernels::kMaskingPermutationGrain, [&](int64_t begin, int64_t end) {
        kernels::cpu::masking_permutation(values, L, keep, out, begin, end);
      });
    } else {
      const c10::DeviceGuard guard(noise.device());
      kernels::cuda::masking_permutation(values, B, L, keep, out, ops::stream_of(noise));
      ops::check_launch("masking_permutation");
    }
  });
  return {shuffle, restore, mask};
}

}  // namespace

WINNOW_IMPLEMENT(gather_tokens, gather_tokens_op)
WINNOW_IMPLEMENT(gather_tokens_backward, gather_tokens_backward_op)
WINNOW_IMPLEMENT(restore_tokens, restore_tokens_op)
WINNOW_IMPLEMENT(restore_tokens_backward, restore_tokens_backward_op)
WINNOW_IMPLEMENT(masking_permutation, masking_permutation_op)
TORCH_LIBRARY_IMPL(winnow, Autograd, library) {
  library.impl("gather_tokens", &gather_tokens_autograd);
  library.impl("restore_tokens", &restore_tokens_autograd);
}

at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& ids) {
  check_defined("gather_tokens: x", x);
  check_defined("gather_tokens: ids", ids);
  static const auto op = ops::find<at::Tensor(const at::Tensor&, const at::Tensor&)>("winnow::gather_tokens");
  return op.call(x, ids);
}

at::Tensor restore_tokens(const at::Tensor& kept, const at::Tensor& ids_restore, const at::Tensor& mask_token,
                          const at::Tensor& positions, int64_t prefix) {
  check_floating("restore_tokens: kept", kept);
  check_defined("restore_tokens: ids_restore", ids_restore);
  check_like("restore_tokens: mask_token", mask_token, kept);
  check_dim("restore_tokens: kept", kept, 3);
  WINNOW_CHECK(mask_token.numel() == kept.size(2), "restore_tokens: mask_token must have {} elements, got shape {}",
               kept.size(2), mask_token.sizes());
  std::optional<at::Tensor> rows;
  if (positions.defined()) {
    check_like("restore_tokens: positions", positions, kept);
    rows = ops::widened(positions.dim() == 3 && positions.size(0) == 1 ? positions[0] : positions);
  }
  static const auto op = ops::find<RestoreSignature>("winnow::restore_tokens");
  auto out = op.call(ops::widened(kept), ids_restore, ops::widened(mask_token.reshape({-1})), rows, prefix);
  return out.scalar_type() == kept.scalar_type() ? out : out.to(kept.scalar_type());
}

MaskingPermutation masking_permutation(const at::Tensor& noise, int64_t keep) {
  check_floating("masking_permutation: noise", noise);
  static const auto op = ops::find<Triple(const at::Tensor&, int64_t)>("winnow::masking_permutation");
  auto [shuffle, restore, mask] = op.call(ops::widened(noise.detach()), keep);
  return {.ids_keep = shuffle.narrow(1, 0, keep).contiguous(),
          .ids_restore = restore,
          .mask = mask,
          .ids_shuffle = shuffle};
}

}  // namespace winnow
