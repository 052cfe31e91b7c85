#include "winnow/attention/transformer_block.h"

#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/random.h"
#include "winnow/tensor/masking.h"
#include "winnow/tensor/norm.h"

namespace winnow {

EnumNames<ResidualOrder> enum_names(ResidualOrder) {
  return {{"pre_norm", ResidualOrder::pre_norm},
          {"post_norm", ResidualOrder::post_norm},
          {"parallel", ResidualOrder::parallel},
          {"parallel_shared_norm", ResidualOrder::parallel_shared_norm}};
}

Fields<TransformerBlockOptions> TransformerBlockOptions::fields() {
  return Fields<TransformerBlockOptions>("TransformerBlock")
      .add("dim", &TransformerBlockOptions::dim, "width", at_least(1))
      .add("order", &TransformerBlockOptions::order, "where norms and residuals stand")
      .add("norm", &TransformerBlockOptions::norm, "layer or RMS normalisation")
      .add("eps", &TransformerBlockOptions::eps, "epsilon of the norms", at_least(0))
      .add("norm_bias", &TransformerBlockOptions::norm_bias, "whether layer norms have biases")
      .nest("attention", &TransformerBlockOptions::attention)
      .nest("mlp", &TransformerBlockOptions::mlp)
      .add("custom_mlp", &TransformerBlockOptions::custom_mlp, "whether another module takes the place of the Mlp")
      .add("cross_attention", &TransformerBlockOptions::cross_attention, "a second attention over a context")
      .nest("cross", &TransformerBlockOptions::cross)
      .add("layer_scale", &TransformerBlockOptions::layer_scale, "first value of LayerScale; 0: none", at_least(0))
      .add("drop_path", &TransformerBlockOptions::drop_path, "stochastic depth", in_range(0, 1, Ends::right_open))
      .add("dropout", &TransformerBlockOptions::dropout, "of the residual branches", in_range(0, 1, Ends::right_open))
      .add("seed", &TransformerBlockOptions::seed, "of dropout and stochastic depth");
}

namespace {

void fill_dim(const char* name, int64_t& nested, int64_t dim) {
  if (nested == 0) nested = dim;
  WINNOW_CHECK(nested == dim, "TransformerBlock: {} must be 0 or dim = {}, got {}", name, dim, nested);
}

bool is_parallel(ResidualOrder order) {
  return order == ResidualOrder::parallel || order == ResidualOrder::parallel_shared_norm;
}

}  // namespace

TransformerBlockImpl::TransformerBlockImpl(TransformerBlockOptions opts) : options(std::move(opts)) {
  auto& o = options;
  check(o);
  fill_dim("attention.dim", o.attention.dim, o.dim);
  fill_dim("mlp.dim", o.mlp.dim, o.dim);
  fill_dim("mlp.out", o.mlp.out, o.dim);
  WINNOW_CHECK(!o.attention.cross, "TransformerBlock: attention.cross must be false; use cross_attention");
  if (o.cross_attention) {
    WINNOW_CHECK(!is_parallel(o.order), "TransformerBlock: cross_attention must be false with order {}",
                 enum_name(o.order));
    fill_dim("cross.dim", o.cross.dim, o.dim);
    o.cross.cross = true;
  }
  reset();
}

void TransformerBlockImpl::reset() {
  const auto& o = options;
  uint64_t stream = 0;
  const auto norm = [&] { return Norm(NormOptions{.dim = o.dim, .kind = o.norm, .eps = o.eps, .bias = o.norm_bias}); };
  // The modules of one residual branch behind its sublayer, under the suffix of their names.
  const auto branch = [&](const std::string& suffix, Dropout& drop, LayerScale& scale, DropPath& path) {
    const auto seed = derive_seed(o.seed, ++stream);
    if (o.dropout > 0) drop = register_module("drop" + suffix, Dropout(DropOptions{.p = o.dropout, .seed = seed}));
    if (o.layer_scale > 0) {
      scale = register_module("ls" + suffix, LayerScale(LayerScaleOptions{.dim = o.dim, .init = o.layer_scale}));
    }
    if (o.drop_path > 0) {
      path = register_module("drop_path" + suffix, DropPath(DropOptions{.p = o.drop_path, .seed = seed + 1}));
    }
  };
  norm1 = register_module("norm1", norm());
  attn = register_module("attn", MultiHeadAttention(o.attention));
  branch("1", drop1, ls1, drop_path1);
  if (o.cross_attention) {
    norm_cross = register_module("norm_cross", norm());
    cross_attn = register_module("cross_attn", MultiHeadAttention(o.cross));
    branch("_cross", drop_cross, ls_cross, drop_path_cross);
  }
  if (o.order != ResidualOrder::parallel_shared_norm) norm2 = register_module("norm2", norm());
  if (!o.custom_mlp) {
    mlp = register_module("mlp", Mlp(o.mlp));
  } else if (const auto shared = std::exchange(feed_forward, nullptr)) {
    // Only a copy that is being made holds one here: that of the original.
    set_feed_forward(std::dynamic_pointer_cast<FeedForward>(shared->clone()));
  }
  branch("2", drop2, ls2, drop_path2);
}

std::shared_ptr<torch::nn::Module> TransformerBlockImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy = torch::nn::Cloneable<TransformerBlockImpl>::clone(device);
  const auto& custom = std::static_pointer_cast<TransformerBlockImpl>(copy)->feed_forward;
  if (custom && device) custom->to(*device);
  return copy;
}

void TransformerBlockImpl::set_feed_forward(std::shared_ptr<FeedForward> other) {
  WINNOW_CHECK(options.custom_mlp, "TransformerBlock: set_feed_forward must only be called with custom_mlp");
  WINNOW_CHECK(other, "TransformerBlock: feed_forward must not be null");
  if (feed_forward) unregister_module("mlp");
  feed_forward = register_module("mlp", std::move(other));
}

at::Tensor TransformerBlockImpl::run_mlp(const at::Tensor& x) {
  if (mlp) return mlp->forward(x);
  WINNOW_CHECK(feed_forward, "TransformerBlock: custom_mlp must be given a module by set_feed_forward");
  return feed_forward->apply(x);
}

BlockArgs BlockArgs::for_layer(int64_t index) const {
  return {.self = self.for_layer(index), .cross = cross.for_layer(index)};
}

namespace {

at::Tensor finish(at::Tensor y, Dropout& drop, LayerScale& scale, DropPath& path) {
  if (drop) y = drop->forward(y);
  if (scale) y = scale->forward(y);
  if (path) y = path->forward(y);
  return y;
}

struct SumAndNorm {
  at::Tensor sum, normalized;
};

// The rows of x whose output is wanted.
at::Tensor wanted(const at::Tensor& x, const AttentionArgs& args) {
  return args.outputs.defined() ? gather_tokens(x, args.outputs) : x;
}

// x + y and its norm: in one pass where there is one and nobody observes the norm.
SumAndNorm add_then_norm(const at::Tensor& x, const at::Tensor& y, Norm& norm) {
  const bool fused = norm->options.kind == NormKind::layer && norm->bias.defined() && x.is_cpu() &&
                     x.scalar_type() == at::kFloat && y.scalar_type() == at::kFloat &&
                     norm->weight.scalar_type() == at::kFloat && !hooks_active();
  if (fused) {
    auto both = add_layer_norm(x, y, norm->weight, norm->bias, norm->options.eps);
    return {.sum = std::move(both.sum), .normalized = std::move(both.normalized)};
  }
  auto sum = x + y;
  auto normalized = norm->forward(sum);
  return {.sum = std::move(sum), .normalized = std::move(normalized)};
}

}  // namespace

at::Tensor TransformerBlockImpl::forward_pre_norm(const at::Tensor& x, const BlockArgs& args) {
  const auto attended = finish(attn->forward(norm1->forward(x), args.self), drop1, ls1, drop_path1);
  auto state = add_then_norm(wanted(x, args.self), attended, cross_attn ? norm_cross : norm2);
  if (cross_attn) {
    const auto crossed =
        finish(cross_attn->forward(state.normalized, args.cross), drop_cross, ls_cross, drop_path_cross);
    state = add_then_norm(state.sum, crossed, norm2);
  }
  return state.sum + finish(run_mlp(state.normalized), drop2, ls2, drop_path2);
}

at::Tensor TransformerBlockImpl::forward_post_norm(const at::Tensor& x, const BlockArgs& args) {
  auto y = add_then_norm(wanted(x, args.self), finish(attn->forward(x, args.self), drop1, ls1, drop_path1), norm1)
               .normalized;
  if (cross_attn) {
    const auto crossed = finish(cross_attn->forward(y, args.cross), drop_cross, ls_cross, drop_path_cross);
    y = add_then_norm(y, crossed, norm_cross).normalized;
  }
  return add_then_norm(y, finish(run_mlp(y), drop2, ls2, drop_path2), norm2).normalized;
}

at::Tensor TransformerBlockImpl::forward_parallel(const at::Tensor& x, const AttentionArgs& args) {
  const auto normalized = norm1->forward(x);
  const auto attended = finish(attn->forward(normalized, args), drop1, ls1, drop_path1);
  const auto kept = wanted(x, args);
  const auto input = norm2 ? norm2->forward(kept) : wanted(normalized, args);
  return kept + attended + finish(run_mlp(input), drop2, ls2, drop_path2);
}

at::Tensor TransformerBlockImpl::forward(const at::Tensor& x) {
  static const BlockArgs kNone;
  return forward(x, kNone);
}

at::Tensor TransformerBlockImpl::forward(const at::Tensor& x, const BlockArgs& args) {
  WINNOW_CHECK(x.dim() == 3 && x.size(2) == options.dim, "TransformerBlock: x must have shape [*, *, {}], got [{}]",
               options.dim, fmt::join(x.sizes(), ", "));
  WINNOW_CHECK(cross_attn || !args.cross.context.defined(),
               "TransformerBlock: cross.context must be undefined without cross_attention");
  if (is_parallel(options.order)) return hooked(forward_parallel(x, args.self));
  return hooked(options.order == ResidualOrder::post_norm ? forward_post_norm(x, args) : forward_pre_norm(x, args));
}

TransformerBlockOptions vit_block_options(int64_t dim, int64_t heads, double mlp_ratio) {
  TransformerBlockOptions options;
  options.dim = dim;
  options.attention.heads = heads;
  options.mlp.hidden = static_cast<int64_t>(static_cast<double>(dim) * mlp_ratio);
  return options;
}

}  // namespace winnow
