#include "winnow/attention/multi_head_attention.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

#include "winnow/core/error.h"
#include "winnow/tensor/blocked_attention.h"
#include "winnow/tensor/masking.h"

namespace winnow {

EnumNames<QkvBias> enum_names(QkvBias) {
  return {{"all", QkvBias::all}, {"query_value", QkvBias::query_value}, {"none", QkvBias::none}};
}

EnumNames<QkNorm> enum_names(QkNorm) {
  return {{"none", QkNorm::none}, {"per_head", QkNorm::per_head}, {"whole_projection", QkNorm::whole_projection}};
}

Fields<AttentionOptions> AttentionOptions::fields() {
  return Fields<AttentionOptions>("MultiHeadAttention")
      .add("dim", &AttentionOptions::dim, "width; 0: that of the enclosing block", at_least(0))
      .add("heads", &AttentionOptions::heads, "query heads", at_least(1))
      .add("kv_heads", &AttentionOptions::kv_heads, "key and value heads, a divisor of heads; 0: heads", at_least(0))
      .add("head_dim", &AttentionOptions::head_dim, "width of a head; 0: dim / heads", at_least(0))
      .add("cross", &AttentionOptions::cross, "whether keys and values come from a context")
      .add("context_dim", &AttentionOptions::context_dim, "width of the context; 0: dim", at_least(0))
      .add("qkv_bias", &AttentionOptions::qkv_bias, "which of q, k, v have biases")
      .add("out_bias", &AttentionOptions::out_bias, "whether the output projection has a bias")
      .add("qk_norm", &AttentionOptions::qk_norm, "normalisation of q and k")
      .add("qk_norm_kind", &AttentionOptions::qk_norm_kind, "layer or RMS")
      .add("qk_norm_eps", &AttentionOptions::qk_norm_eps, "its epsilon", at_least(0))
      .add("clip_qkv", &AttentionOptions::clip_qkv, "q, k and v are clamped to [-clip, clip]", above(0))
      .add("scale", &AttentionOptions::scale, "factor of the scores; absent: head_dim^-0.5")
      .add("dropout", &AttentionOptions::dropout, "of the probabilities", in_range(0, 1, Ends::right_open))
      .add("seed", &AttentionOptions::seed, "of the dropout's generator");
}

MultiHeadAttentionImpl::MultiHeadAttentionImpl(AttentionOptions opts) : options(std::move(opts)) {
  auto& o = options;
  check(o);
  WINNOW_CHECK(o.dim >= 1, "MultiHeadAttention: dim must be >= 1, got {}", o.dim);
  if (o.kv_heads == 0) o.kv_heads = o.heads;
  WINNOW_CHECK(o.heads % o.kv_heads == 0, "MultiHeadAttention: kv_heads must divide heads = {}, got {}", o.heads,
               o.kv_heads);
  WINNOW_CHECK(o.head_dim > 0 || o.dim % o.heads == 0, "MultiHeadAttention: heads must divide dim = {}, got {}", o.dim,
               o.heads);
  if (o.head_dim == 0) o.head_dim = o.dim / o.heads;
  if (o.context_dim == 0) o.context_dim = o.dim;
  if (!o.scale) o.scale = 1.0 / std::sqrt(static_cast<double>(o.head_dim));
  reset();
}

void MultiHeadAttentionImpl::reset() {
  const auto& o = options;
  const auto width = o.heads * o.head_dim, kv_width = o.kv_heads * o.head_dim;
  const bool bias = o.qkv_bias == QkvBias::all;
  if (o.cross) {
    q = register_module("q", Linear(o.dim, width, bias));
    kv = register_module("kv", Linear(o.context_dim, 2 * kv_width, bias));
  } else {
    qkv = register_module("qkv", Linear(o.dim, width + 2 * kv_width, bias));
  }
  if (o.qkv_bias == QkvBias::query_value) {
    q_bias = register_parameter("q_bias", at::zeros({width}));
    v_bias = register_parameter("v_bias", at::zeros({kv_width}));
  }
  proj = register_module("proj", Linear(width, o.dim, o.out_bias));
  if (o.qk_norm != QkNorm::none) {
    const bool per_head = o.qk_norm == QkNorm::per_head;
    const auto norm = [&](int64_t heads) {
      return Norm(
          NormOptions{.dim = per_head ? o.head_dim : heads * o.head_dim, .kind = o.qk_norm_kind, .eps = o.qk_norm_eps});
    };
    q_norm = register_module("q_norm", norm(o.heads));
    k_norm = register_module("k_norm", norm(o.kv_heads));
  }
  if (o.dropout > 0) drop = register_module("drop", Dropout(DropOptions{.p = o.dropout, .seed = o.seed}));
}

AttentionArgs AttentionArgs::for_layer(int64_t index) const {
  auto copy = *this;
  copy.layer = index;
  return copy;
}

at::Tensor MultiHeadAttentionImpl::project_qkv(const at::Tensor& x) {
  if (!q_bias.defined()) return qkv->forward(x);
  return qkv->forward_with_bias(x, at::cat({q_bias, at::zeros_like(v_bias), v_bias}));
}

// Cuts [B, L, heads * d] into heads: [B, heads, L, d], a view unless normalised or clamped. `norm` may be empty.
at::Tensor MultiHeadAttentionImpl::cut_heads(const at::Tensor& flat, int64_t heads, Norm& norm) const {
  auto y = flat;
  if (norm && options.qk_norm == QkNorm::whole_projection) y = norm->forward(y);
  y = y.unflatten(2, {heads, options.head_dim});  // [B, L, heads, d]
  if (norm && options.qk_norm == QkNorm::per_head) y = norm->forward(y);
  if (options.clip_qkv) y = y.clamp(-*options.clip_qkv, *options.clip_qkv);
  return y.transpose(1, 2);
}

MultiHeadAttentionImpl::Heads MultiHeadAttentionImpl::self_heads(const at::Tensor& x) {
  const auto& o = options;
  const auto flat = project_qkv(x);  // [B, L, (H + 2 Hkv) d]
  if (o.heads == o.kv_heads && o.qk_norm == QkNorm::none && !o.clip_qkv) {
    // Cut along dimension 2, not 0: the gradients of the three are then put together by one copy.
    const auto three = flat.view({x.size(0), x.size(1), 3, o.heads, o.head_dim}).unbind(2);
    return {.q = three[0].transpose(1, 2), .k = three[1].transpose(1, 2), .v = three[2].transpose(1, 2)};
  }
  const auto width = o.heads * o.head_dim, kv_width = o.kv_heads * o.head_dim;
  const auto parts = flat.split_with_sizes({width, kv_width, kv_width}, 2);
  Norm no_norm{nullptr};
  return {.q = cut_heads(parts[0], o.heads, q_norm),
          .k = cut_heads(parts[1], o.kv_heads, k_norm),
          .v = cut_heads(parts[2], o.kv_heads, no_norm)};
}

MultiHeadAttentionImpl::Heads MultiHeadAttentionImpl::cross_heads(const at::Tensor& x, const AttentionArgs& args) {
  const auto& o = options;
  WINNOW_CHECK(!args.rotary.defined(), "MultiHeadAttention: rotary must be undefined for a cross-attention");
  const bool stored = args.cache && args.cache->length(args.layer) > 0;
  WINNOW_CHECK(stored != args.context.defined(),
               "MultiHeadAttention: context must be {} (the cache {} keys for layer {})",
               stored ? "undefined" : "defined", stored ? "holds" : "holds no", args.layer);
  Heads heads;
  heads.q = cut_heads(q->forward_with_bias(x, q_bias.defined() ? q_bias : q->bias), o.heads, q_norm);
  if (stored) {
    auto kept = args.cache->get(args.layer);
    heads.k = std::move(kept.keys);
    heads.v = std::move(kept.values);
    return heads;
  }
  WINNOW_CHECK(args.context.dim() == 3 && args.context.size(0) == x.size(0) && args.context.size(2) == o.context_dim,
               "MultiHeadAttention: context must have shape [{}, *, {}], got [{}]", x.size(0), o.context_dim,
               fmt::join(args.context.sizes(), ", "));
  const auto bias = v_bias.defined() ? at::cat({at::zeros_like(v_bias), v_bias}) : kv->bias;
  const auto both = kv->forward_with_bias(args.context, bias).chunk(2, 2);
  Norm no_norm{nullptr};
  heads.k = cut_heads(both[0], o.kv_heads, k_norm);
  heads.v = cut_heads(both[1], o.kv_heads, no_norm);
  if (args.cache) args.cache->append(args.layer, heads.k, heads.v);
  return heads;
}

at::Tensor MultiHeadAttentionImpl::attend(const Heads& heads, const AttentionArgs& args) {
  const auto& [q_, k_, v_] = heads;
  const auto queries = q_.size(2), keys = k_.size(2);
  const bool drops = drop && is_training();
  const auto whole_mask = [&] { return materialize_mask(args.mask, queries, keys, q_.device()); };
  if (args.capture) capture(heads, args.capture->any_pattern() ? whole_mask() : at::Tensor(), args);
  // A bias has to be one tensor with the mask: -inf where attention is forbidden.
  const auto mask = drops || args.bias.defined() ? ResolvedMask{.allowed = whole_mask(), .is_causal = false}
                                                 : resolve_mask(args.mask, queries, keys, q_.device());
  if (drops) {
    auto pattern = drop->forward(attention_pattern(q_, k_, mask.allowed, args.bias, *options.scale));
    const auto groups = k_.size(1);
    pattern = pattern.view({q_.size(0), groups, options.heads / groups * queries, keys});
    return at::matmul(pattern, v_).view({q_.size(0), options.heads, queries, v_.size(3)});
  }
  auto attn_mask = mask.allowed;
  if (args.bias.defined()) {
    attn_mask = args.bias.to(q_.scalar_type());
    if (mask.allowed.defined()) {
      attn_mask = attn_mask.masked_fill(mask.allowed.logical_not(), -std::numeric_limits<double>::infinity());
    }
  }
  if (!attn_mask.defined() && fits_blocked_attention(q_, k_, v_)) {
    return blocked_attention(q_, k_, v_, mask.is_causal, *options.scale);
  }
  return at::scaled_dot_product_attention(q_, k_, v_,
                                          attn_mask.defined() ? std::optional<at::Tensor>(attn_mask) : std::nullopt,
                                          /*dropout_p=*/0.0, mask.is_causal, options.scale,
                                          /*enable_gqa=*/options.heads != options.kv_heads);
}

void MultiHeadAttentionImpl::capture(const Heads& heads, const at::Tensor& allowed, const AttentionArgs& args) const {
  auto& wanted = *args.capture;
  if (wanted.want_values) wanted.v = heads.v;
  if (wanted.want_pattern) wanted.pattern = attention_pattern(heads.q, heads.k, allowed, args.bias, *options.scale);
  if (wanted.want_column_sums) {
    wanted.column_sums = attention_column_sums(heads.q, heads.k, allowed, args.bias, *options.scale);
  }
}

at::Tensor MultiHeadAttentionImpl::forward(const at::Tensor& x) {
  static const AttentionArgs kNone;
  return forward(x, kNone);
}

at::Tensor MultiHeadAttentionImpl::forward(const at::Tensor& x, const AttentionArgs& args) {
  WINNOW_CHECK(x.dim() == 3 && x.size(2) == options.dim, "MultiHeadAttention: x must have shape [*, *, {}], got [{}]",
               options.dim, fmt::join(x.sizes(), ", "));
  Heads heads;
  if (options.cross) {
    heads = cross_heads(x, args);
  } else {
    WINNOW_CHECK(!args.context.defined(), "MultiHeadAttention: context must be undefined unless options.cross is set");
    heads = self_heads(x);
    if (args.rotary.defined()) {
      heads.q = apply_rotary(heads.q, args.rotary);
      heads.k = apply_rotary(heads.k, args.rotary);
    }
    if (args.cache) {
      auto all = args.cache->append(args.layer, heads.k, heads.v);
      heads.k = std::move(all.keys);
      heads.v = std::move(all.values);
    }
  }
  const auto z = attend(heads, args);  // [B, H, Lq, d]
  if (args.capture && args.capture->want_heads) args.capture->z = z;
  auto joined = z.transpose(1, 2).reshape({x.size(0), x.size(1), options.heads * options.head_dim});
  if (args.outputs.defined()) joined = gather_tokens(joined, args.outputs);
  return hooked(proj->forward(joined));
}

}  // namespace winnow
