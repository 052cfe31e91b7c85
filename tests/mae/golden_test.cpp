// What the official MAE code computed, tensor by tensor (tests/golden/methods/mae/README.md).

#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/types.h>

#include <string>

#include "support/golden.h"
#include "support/tensor_near.h"
#include "winnow/io/load_state.h"
#include "winnow/mae/masked_autoencoder.h"
#include "winnow/mae/masking.h"
#include "winnow/mae/probe.h"
#include "winnow/tensor/patches.h"
#include "winnow/train/lars.h"
#include "winnow/train/optimizer.h"
#include "winnow/train/param_groups.h"
#include "winnow/train/schedule.h"

namespace winnow::mae {
namespace {

using testing::golden::Case;
using testing::golden::for_each;

MaskedAutoencoderViT network(const Case& c) {
  const auto p = c.option<int64_t>("p"), grid = c.option<int64_t>("grid"), d = c.option<int64_t>("d");
  const auto dd = c.option<int64_t>("dd"), mlp = c.option<int64_t>("mlp");
  MaskedAutoencoderViT model(MaskedAutoencoderViTOptions{.encoder = {.image_height = p * grid,
                                                                     .image_width = p * grid,
                                                                     .channels = 3,
                                                                     .patch = p,
                                                                     .dim = d,
                                                                     .depth = c.option<int64_t>("depth"),
                                                                     .heads = c.option<int64_t>("heads"),
                                                                     .mlp_dim = mlp * d},
                                                         .decoder = {.dim = dd,
                                                                     .depth = c.option<int64_t>("ddepth"),
                                                                     .heads = c.option<int64_t>("dheads"),
                                                                     .mlp_dim = mlp * dd},
                                                         .masking = {.ratio = c.option<double>("ratio")},
                                                         .norm_pix = c.option<bool>("norm_pix")});
  io::load_state(io::state_of(*model), c.with_prefix("w."), c.path.string());
  return model;
}

TEST(MaeGolden, ForwardAndGradientsEqualTheOfficialCode) {
  for_each("mae", "mae_forward", [](const Case& c) {
    auto model = network(c);
    const auto images = c["in.imgs"];
    const auto out = model->forward(images, c["in.noise"]);
    c.expect("out.ids_keep", out.ids_keep);
    c.expect("out.ids_restore", out.ids_restore);
    c.expect("out.mask", out.mask);
    c.expect("out.latent", out.latent);
    c.expect("out.pred", out.pred);
    c.expect("out.loss", out.loss);
    const auto p = c.option<int64_t>("p");
    c.expect("out.target", patchify(images, p));
    c.expect("out.unpatchified_pred", unpatchify(out.pred, p));
    out.loss.backward();
    for (const auto& name : c.names("grad.")) {
      c.expect(name, model->named_parameters()[name.substr(5)].grad());
    }
    for (const auto& parameter : model->named_parameters()) {  // the fixed tables get none, all others one
      EXPECT_EQ(parameter.value().grad().defined(), c.has("grad." + parameter.key())) << parameter.key();
    }
  });
}

TEST(MaeGolden, ForwardInDoublePrecisionMeetsTheSameNumbers) {
  for_each("mae", "mae_forward", [](const Case& c) {
    auto model = network(c);
    model->to(at::kDouble);
    const auto out = model->forward(c["in.imgs"].to(at::kDouble), c["in.noise"]);
    c.expect("out.latent", out.latent);
    c.expect("out.pred", out.pred);
    c.expect("out.loss", out.loss);
  });
}

TEST(MaeGolden, RandomMaskingAndKeptCounts) {
  for_each("mae", "mae_masking", [](const Case& c) {
    for (size_t i = 0; i < c.options()["cases"].size(); ++i) {
      const auto n = std::to_string(i);
      const auto out = random_masking(c["in.x" + n], c["in.noise" + n], c["in.ratio" + n].item<double>());
      c.expect("out.kept" + n, out.kept);
      c.expect("out.mask" + n, out.mask.mask);
      c.expect("out.ids_restore" + n, out.mask.ids_restore);
    }
    const auto lengths = c["in.lengths"], ratios = c["in.ratios"];
    auto counts = at::empty_like(lengths);
    for (int64_t i = 0; i < lengths.size(0); ++i) {
      counts[i] = kept_count(lengths[i].item<int64_t>(), ratios[i].item<double>());
    }
    c.expect("out.kept_count", counts);
  });
}

TEST(MaeGolden, LinearProbeStepsWithLars) {
  for_each("mae", "linear_probe", [](const Case& c) {
    LinearProbe probe(LinearProbeOptions{.dim = c.option<int64_t>("d"), .classes = c.option<int64_t>("classes")});
    const auto start = c.with_prefix("w.");
    io::load_state({{"weight", probe->head->weight}, {"bias", probe->head->bias}}, start, c.path.string());
    train::Lars lars({{.name = "head",
                       .params = {{"weight", probe->head->weight}, {"bias", probe->head->bias}},
                       .weight_decay = c.option<double>("wd")}},
                     {.momentum = c.option<double>("momentum")});
    for (int64_t i = 0; i < c.option<int64_t>("steps"); ++i) {
      const auto n = std::to_string(i);
      lars.zero_grad();
      const auto logits = probe->forward(c["in.features" + n]);
      const auto loss = at::cross_entropy_loss(logits, c["in.labels" + n]);
      loss.backward();
      c.expect("out.logits" + n, logits);
      c.expect("out.loss" + n, loss);
      c.expect("grad.weight" + n, probe->head->weight.grad());
      c.expect("grad.bias" + n, probe->head->bias.grad());
      lars.step(c.option<double>("lr"));
      c.expect("out.weight" + n, probe->head->weight);
      c.expect("out.bias" + n, probe->head->bias);
      c.expect("out.running_mean" + n, probe->norm->running_mean);
      c.expect("out.running_var" + n, probe->norm->running_var);
    }
    probe->eval();
    c.expect("out.eval_logits", probe->forward(c["in.features0"]));
  });
}

// In float32 the gradient of a key's bias, which is exactly zero (a constant added to all scores of a query), is
// rounding alone, and Adam divides by its size: there the official numbers are those of its own rounding. In float64
// the gradient is too small to count, and every row must agree.
at::Tensor without_key_bias(const std::string& name, const at::Tensor& x) {
  if (!name.ends_with("attn.qkv.bias")) return x;
  const auto D = x.size(0) / 3;
  return at::cat({x.slice(0, 0, D), at::zeros({D}, x.options()), x.slice(0, 2 * D)});
}

void replay_pretraining(at::ScalarType dtype) {
  for_each("mae", "mae_pretrain_steps", [dtype](const Case& c) {
    auto model = network(c);
    model->to(dtype);
    auto groups = train::weight_decay_groups(*model, c.option<double>("wd"));
    for (const auto& group : groups) {
      for (const auto& parameter : group.params) c.expect("out.weight_decay." + parameter.name, group.weight_decay);
    }
    train::FusedAdamW adamw(std::move(groups), {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8});
    const train::WarmupCosine lr{.lr = c.option<double>("lr"),
                                 .min_lr = 0,
                                 .warmup = c.option<double>("warm"),
                                 .total = c.option<double>("epochs")};
    const auto wanted_lr = c["out.lr"];
    for (int64_t i = 0; i < c.option<int64_t>("steps"); ++i) {
      const auto n = std::to_string(i);
      const auto rate = lr(static_cast<double>(i) / static_cast<double>(c.option<int64_t>("steps_per_epoch")));
      EXPECT_NEAR(rate, wanted_lr[i].item<double>(), 1e-12);
      adamw.zero_grad();
      const auto out = model->forward(c["in.imgs" + n].to(dtype), c["in.noise" + n]);
      c.expect("out.loss" + n, out.loss, {.rtol = 1e-4, .atol = 0});
      out.loss.backward();
      adamw.step(rate);
    }
    for (const auto& name : c.names("out.final.")) {
      const auto got = model->named_parameters()[name.substr(10)].detach();
      EXPECT_TENSOR_NEAR(without_key_bias(name, got), without_key_bias(name, c[name]), 2e-4) << name;
    }
  });
}

TEST(MaeGolden, PretrainingStepsWithAdamWAndTheEpochSchedule) {
  replay_pretraining(at::kFloat);
}
TEST(MaeGolden, PretrainingStepsInDoublePrecision) {
  replay_pretraining(at::kDouble);
}

}  // namespace
}  // namespace winnow::mae
