#include "reference.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

namespace winnow::testing {
namespace {

double keys(double t) {
  constexpr double a = -0.75;
  t = std::abs(t);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0.0;
}

}  // namespace

at::Tensor cubic_resize(const at::Tensor& x, int64_t length) {
  const auto N = x.size(0);
  auto weights = at::zeros({length, N}, at::kDouble);
  auto w = weights.accessor<double, 2>();
  for (int64_t i = 0; i < length; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * static_cast<double>(N) / static_cast<double>(length) - 0.5;
    const auto first = static_cast<int64_t>(std::floor(centre)) - 1;
    for (int64_t j = first; j < first + 4; ++j) {
      w[i][std::clamp<int64_t>(j, 0, N - 1)] += keys(centre - static_cast<double>(j));
    }
  }
  return weights.to(x.scalar_type()).mm(x);
}

at::Tensor cubic_resize_grid(const at::Tensor& x, int64_t rows, int64_t columns, int64_t to_rows, int64_t to_columns) {
  const auto D = x.size(1);
  const auto wide = cubic_resize(x.view({rows, columns, D}).transpose(0, 1).reshape({columns, rows * D}), to_columns);
  const auto tall = wide.view({to_columns, rows, D}).transpose(0, 1).reshape({rows, to_columns * D});
  return cubic_resize(tall, to_rows).view({to_rows * to_columns, D});
}

at::Tensor ReferenceViT::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw std::runtime_error("reference: no tensor " + name);
  return found->second;
}

at::Tensor ReferenceViT::dense(const std::string& name, const at::Tensor& x) const {
  const auto y = at::matmul(x, tensor(name + ".weight").t());
  return tensors_.contains(name + ".bias") ? y + tensor(name + ".bias") : y;
}

at::Tensor ReferenceViT::activation(const std::string& name, const at::Tensor& x) const {
  if (name == "gelu") return 0.5 * x * (1 + (x / std::numbers::sqrt2).erf());
  if (name == "gelu_new") return 0.5 * x * (1 + (std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x.pow(3))).tanh());
  if (name == "quick_gelu") return x / (1 + (-1.702 * x).exp());
  if (name == "silu") return x / (1 + (-x).exp());
  if (name == "relu") return x * (x > 0);
  if (name == "tanh") return 1 - 2 / ((2 * x).exp() + 1);
  throw std::runtime_error("reference: no activation " + name);
}

at::Tensor ReferenceViT::norm(const std::string& name, const at::Tensor& x) const {
  const auto centred = x - x.mean(-1, true);
  const auto variance = (centred * centred).mean(-1, true);
  const auto eps = config_.at("layer_norm_eps").get<double>();
  return centred / (variance + eps).sqrt() * tensor(name + ".weight") + tensor(name + ".bias");
}

at::Tensor ReferenceViT::block(const std::string& name, const at::Tensor& x, int64_t heads) const {
  const bool dinov2 = config_.at("model_type") == "dinov2";
  const auto act = config_.at("hidden_act").get<std::string>();
  const auto apart = [&](const std::string& which, const at::Tensor& y) {
    const auto z = dense(name + "attention.attention." + which, y);  // [B, N, D]
    return z.view({z.size(0), z.size(1), heads, -1}).transpose(1, 2);
  };
  const auto y = norm(name + (dinov2 ? "norm1" : "layernorm_before"), x);
  const auto q = apart("query", y), k = apart("key", y), v = apart("value", y);
  const auto scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  const auto mixed = at::matmul(scores.softmax(-1), v).transpose(1, 2).reshape(x.sizes());
  auto attended = dense(name + "attention.output.dense", mixed);
  if (dinov2) attended = attended * tensor(name + "layer_scale1.lambda1");
  const auto middle = x + attended;
  const auto z = norm(name + (dinov2 ? "norm2" : "layernorm_after"), middle);
  if (!dinov2) {
    return middle + dense(name + "output.dense", activation(act, dense(name + "intermediate.dense", z)));
  }
  at::Tensor mlp;
  if (config_.value("use_swiglu_ffn", false)) {
    const auto both = dense(name + "mlp.weights_in", z);
    const auto half = both.size(-1) / 2;
    mlp = dense(name + "mlp.weights_out", activation("silu", both.slice(-1, 0, half)) * both.slice(-1, half, 2 * half));
  } else {
    mlp = dense(name + "mlp.fc2", activation(act, dense(name + "mlp.fc1", z)));
  }
  return middle + mlp * tensor(name + "layer_scale2.lambda1");
}

at::Tensor ReferenceViT::patches(const std::string& base, const at::Tensor& images) const {
  const auto weight = tensor(base + "embeddings.patch_embeddings.projection.weight");  // [D, C, p, p]
  const auto p = weight.size(2);
  std::vector<at::Tensor> tokens;
  for (int64_t y = 0; y + p <= images.size(2); y += p) {
    for (int64_t x = 0; x + p <= images.size(3); x += p) {
      const auto patch = images.slice(2, y, y + p).slice(3, x, x + p).flatten(1);
      tokens.push_back(at::matmul(patch, weight.flatten(1).t()));
    }
  }
  return at::stack(tokens, 1) + tensor(base + "embeddings.patch_embeddings.projection.bias");
}

at::Tensor ReferenceViT::embeddings(const std::string& base, const at::Tensor& images, const at::Tensor& masked) const {
  auto x = patches(base, images);
  const auto B = x.size(0), D = x.size(2), p = config_.at("patch_size").get<int64_t>();
  const auto place = base + "embeddings.";
  if (masked.defined()) {
    const auto m = masked.to(x.scalar_type()).unsqueeze(-1);
    x = x * (1 - m) + tensor(place + "mask_token") * m;
  }
  std::vector<at::Tensor> sequence{tensor(place + "cls_token").expand({B, 1, D})};
  if (tensors_.contains(place + "distillation_token")) {
    sequence.push_back(tensor(place + "distillation_token").expand({B, 1, D}));
  }
  const auto prefix = static_cast<int64_t>(sequence.size());
  sequence.push_back(x);
  const auto table = tensor(place + "position_embeddings")[0];
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(table.size(0) - prefix))));
  const auto rows = images.size(2) / p, columns = images.size(3) / p;
  const auto grid = rows == side && columns == side
                        ? table.slice(0, prefix)
                        : cubic_resize_grid(table.slice(0, prefix), side, side, rows, columns);
  return at::cat(sequence, 1) + at::cat({table.slice(0, 0, prefix), grid});
}

at::Tensor ReferenceViT::encode(const std::string& base, at::Tensor x) const {
  const auto depth = config_.at("num_hidden_layers").get<int64_t>();
  for (int64_t i = 0; i < depth; ++i) {
    x = block(base + "encoder.layer." + std::to_string(i) + ".", x, config_.at("num_attention_heads").get<int64_t>());
  }
  return norm(base + "layernorm", x);
}

ReferenceViT::Mae ReferenceViT::mae(const at::Tensor& images, const at::Tensor& noise) const {
  const auto all = embeddings("vit.", images);  // [B, 1 + L, D]
  const auto B = all.size(0), L = all.size(1) - 1, p = config_.at("patch_size").get<int64_t>();
  const auto keep = static_cast<int64_t>(static_cast<double>(L) * (1 - config_.at("mask_ratio").get<double>()));
  const auto order = std::get<1>(noise.sort(1));
  std::vector<at::Tensor> latents, logits;
  auto total = at::zeros({}, images.options());
  for (int64_t b = 0; b < B; ++b) {
    const auto kept = order[b].slice(0, 0, keep);
    const auto tokens = at::cat({all[b].slice(0, 0, 1), all[b].slice(0, 1).index_select(0, kept)});
    const auto latent = encode("vit.", tokens.unsqueeze(0));  // [1, 1 + K, D]
    latents.push_back(latent);
    const auto y = dense("decoder.decoder_embed", latent)[0];
    auto full = tensor("decoder.mask_token").view({1, -1}).repeat({1 + L, 1});
    full = full.index_copy(0, at::cat({at::zeros({1}, at::kLong), kept + 1}), y);
    const auto table = tensor("decoder.decoder_pos_embed")[0];
    auto x = (full + at::cat({table.slice(0, 0, 1), cubic_resize(table.slice(0, 1), L)})).unsqueeze(0);
    for (int64_t i = 0; i < config_.at("decoder_num_hidden_layers").get<int64_t>(); ++i) {
      x = block("decoder.decoder_layers." + std::to_string(i) + ".", x,
                config_.at("decoder_num_attention_heads").get<int64_t>());
    }
    const auto pred = dense("decoder.decoder_pred", norm("decoder.decoder_norm", x))[0].slice(0, 1);  // [L, p*p*C]
    logits.push_back(pred.unsqueeze(0));
    const auto columns = images.size(3) / p;
    for (int64_t l = 0; l < L; ++l) {
      if ((kept == l).any().item<bool>()) continue;
      const auto y0 = l / columns * p, x0 = l % columns * p;
      auto target = images[b].slice(1, y0, y0 + p).slice(2, x0, x0 + p).permute({1, 2, 0}).reshape({-1});
      if (config_.at("norm_pix_loss").get<bool>()) {
        const auto n = static_cast<double>(target.numel());
        const auto centred = target - target.mean();
        target = centred / ((centred * centred).sum() / (n - 1) + 1e-6).sqrt();
      }
      total = total + (pred[l] - target).square().mean();
    }
  }
  return {.loss = total / static_cast<double>(B * (L - keep)), .logits = at::cat(logits), .latent = at::cat(latents)};
}

}  // namespace winnow::testing
