// The classifier of MAE fine-tuning against the official code: both poolings, all gradients.

#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>

#include "support/golden.h"
#include "winnow/data/mixup.h"
#include "winnow/io/load_state.h"
#include "winnow/models/vit.h"

namespace winnow::models {
namespace {

using testing::golden::Case;

// Official names to ours: fc_norm and head stand at the root, the rest in the trunk.
std::string ours(const std::string& name) {
  return name.starts_with("head.") || name.starts_with("fc_norm.") ? name : "encoder." + name;
}

TEST(VitFineTuneGolden, FeaturesLogitsLossAndGradients) {
  testing::golden::for_each("mae", "vit_finetune", [](const Case& c) {
    const auto p = c.option<int64_t>("p"), grid = c.option<int64_t>("grid"), d = c.option<int64_t>("d");
    const auto classes = c.option<int64_t>("classes");
    const bool pooled = c.option<bool>("global_pool");
    ViT model(ViTConfig{.trunk = {.image_height = p * grid,
                                  .image_width = p * grid,
                                  .patch_size = p,
                                  .hidden_size = d,
                                  .num_hidden_layers = c.option<int64_t>("depth"),
                                  .num_attention_heads = c.option<int64_t>("heads"),
                                  .intermediate_size = c.option<int64_t>("mlp") * d,
                                  .layer_norm_eps = 1e-6},
                        .head = pooled ? ViTHead::mean_pool : ViTHead::classifier,
                        .labels = default_labels(classes)});
    io::TensorMap weights;
    for (const auto& [name, tensor] : c.with_prefix("w.")) weights.emplace(ours(name), tensor);
    io::load_state(io::state_of(*model), weights, c.path.string());

    const auto out = model->forward(c["in.imgs"]);
    const auto tokens = out.last_hidden_state;
    const auto features = pooled ? model->fc_norm->forward(tokens.slice(1, 1).mean(1)) : tokens.select(1, 0);
    c.expect("out.features", features);
    c.expect("out.logits", out.logits);
    const auto targets = data::soft_targets(c["in.labels"], classes, c.option<double>("smoothing"));
    const auto loss = at::cross_entropy_loss(out.logits, targets);
    c.expect("out.loss", loss);
    loss.backward();
    const auto parameters = model->named_parameters();
    for (const auto& name : c.names("grad.")) c.expect(name, parameters[ours(name.substr(5))].grad());
  });
}

}  // namespace
}  // namespace winnow::models
