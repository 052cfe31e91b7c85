#include "winnow/train/param_groups.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>
#include <string>

#include "support/error.h"
#include "support/golden.h"

namespace winnow::train {
namespace {

using testing::golden::Case;

NamedParameter named(const std::string& name, at::IntArrayRef shape) {
  return {name, at::zeros(shape).requires_grad_()};
}

std::vector<NamedParameter> small_vit() {
  return {named("cls_token", {1, 1, 4}),
          named("pos_embed", {1, 5, 4}),
          named("patch_embed.proj.weight", {4, 3, 2, 2}),
          named("patch_embed.proj.bias", {4}),
          named("blocks.0.norm1.weight", {4}),
          named("blocks.0.attn.qkv.weight", {12, 4}),
          named("blocks.1.mlp.fc1.bias", {1, 8}),
          named("norm.weight", {4}),
          named("head.weight", {3, 4})};
}

TEST(ParamGroups, VectorsAndBiasesAreNotDecayed) {
  EXPECT_TRUE(is_undecayed(named("norm.weight", {4})));
  EXPECT_TRUE(is_undecayed(named("scale", {})));
  EXPECT_TRUE(is_undecayed(named("fc.bias", {1, 8})));
  EXPECT_FALSE(is_undecayed(named("fc.bias_table", {2, 8})));
  EXPECT_FALSE(is_undecayed(named("cls_token", {1, 1, 4})));
}

TEST(ParamGroups, WeightDecayGroupsDivideAllParametersInOrder) {
  const auto groups = weight_decay_groups(small_vit(), 0.05, {"pos_embed"});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].name, "decay");
  EXPECT_EQ(groups[0].weight_decay, 0.05);
  EXPECT_EQ(groups[1].name, "no_decay");
  EXPECT_EQ(groups[1].weight_decay, 0.0);
  std::vector<std::string> with;
  for (const auto& p : groups[0].params) with.push_back(p.name);
  EXPECT_EQ(with, (std::vector<std::string>{"cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight",
                                            "head.weight"}));
  EXPECT_EQ(groups[0].params.size() + groups[1].params.size(), small_vit().size());
}

TEST(ParamGroups, OfAModuleOnlyWhatIsTrained) {
  torch::nn::Sequential net(torch::nn::Linear(3, 2), torch::nn::Linear(2, 1));
  net->parameters()[0].requires_grad_(false);  // 0.weight
  const auto groups = weight_decay_groups(*net, 0.1);
  ASSERT_EQ(groups.size(), 2u);
  ASSERT_EQ(groups[0].params.size(), 1u);
  EXPECT_EQ(groups[0].params[0].name, "1.weight");
  EXPECT_EQ(groups[1].params.size(), 2u);
}

TEST(ParamGroups, LayersOfAVit) {
  EXPECT_EQ(vit_layer_id("cls_token", 12), 0);
  EXPECT_EQ(vit_layer_id("encoder.patch_embed.proj.weight", 12), 0);
  EXPECT_EQ(vit_layer_id("blocks.0.norm1.weight", 12), 1);
  EXPECT_EQ(vit_layer_id("vit.blocks.11.mlp.fc2.bias", 12), 12);
  EXPECT_EQ(vit_layer_id("fc_norm.weight", 12), 13);
  EXPECT_EQ(vit_layer_id("head.weight", 12), 13);
  EXPECT_ERROR(vit_layer_id("blocks.12.norm1.weight", 12), "the block of 'blocks.12.norm1.weight' must be in [0, 12)");
}

TEST(ParamGroups, LayerDecayIsAPowerOfTheDistanceToTheHead) {
  const auto groups = layer_decay_param_groups(small_vit(), 2, 0.05, 0.5);
  std::map<std::string, std::pair<double, double>> found;
  for (const auto& group : groups) {
    for (const auto& p : group.params) found[p.name] = {group.lr_scale, group.weight_decay};
  }
  EXPECT_EQ(found["cls_token"], std::make_pair(0.125, 0.05));
  EXPECT_EQ(found["patch_embed.proj.bias"], std::make_pair(0.125, 0.0));
  EXPECT_EQ(found["blocks.0.attn.qkv.weight"], std::make_pair(0.25, 0.05));
  EXPECT_EQ(found["blocks.1.mlp.fc1.bias"], std::make_pair(0.5, 0.0));
  EXPECT_EQ(found["norm.weight"], std::make_pair(1.0, 0.0));
  EXPECT_EQ(found["head.weight"], std::make_pair(1.0, 0.05));
  EXPECT_EQ(found.size(), small_vit().size());
  EXPECT_EQ(groups.front().name, "layer_0_decay");
}

TEST(ParamGroups, BadArgumentsAreNamed) {
  EXPECT_ERROR(weight_decay_groups(small_vit(), 0.1, {"pos_embd"}),
               "weight_decay_groups: no_decay_names must name parameters, got 'pos_embd'");
  EXPECT_ERROR(layer_decay_param_groups(small_vit(), 2, 0.1, 0), "decay must be in (0, 1], got 0");
  EXPECT_ERROR(layer_decay_param_groups(small_vit(), 0, 0.1, 0.5), "depth must be >= 1, got 0");
  EXPECT_ERROR(layer_decay_param_groups(small_vit(), 2, 0.1, 0.5, {}, [](const std::string&, int64_t) { return 4; }),
               "layer of 'cls_token' must be in [0, 3], got 4");
}

// The official code's factor and decay of every parameter; the network itself is tested with the masked autoencoder.
void compare_groups(const Case& c, const std::vector<ParamGroup>& groups, bool with_scale) {
  size_t count = 0;
  for (const auto& group : groups) {
    for (const auto& p : group.params) {
      if (with_scale) c.expect("out.lr_scale." + p.name, at::scalar_tensor(group.lr_scale, at::kDouble));
      c.expect("out.weight_decay." + p.name, at::scalar_tensor(group.weight_decay, at::kDouble));
      ++count;
    }
  }
  EXPECT_EQ(count, c.names("out.weight_decay.").size()) << c.path;
}

std::vector<NamedParameter> trained(const Case& c) {
  std::vector<NamedParameter> parameters;
  for (const auto& [name, value] : c.with_prefix("w.")) {
    if (c.has("out.weight_decay." + name)) parameters.push_back({name, value.clone().requires_grad_()});
  }
  return parameters;
}

TEST(ParamGroupsGolden, LayerDecayMatchesTheOfficialCode) {
  testing::golden::for_each("mae", "vit_finetune", [](const Case& c) {
    compare_groups(c,
                   layer_decay_param_groups(trained(c), c.option<int64_t>("depth"), c.option<double>("wd"),
                                            c.option<double>("layer_decay"), {"cls_token", "pos_embed"}),
                   /*with_scale=*/true);
  });
}

TEST(ParamGroupsGolden, WeightDecayMatchesTheOfficialCode) {
  testing::golden::for_each("mae", "mae_pretrain_steps", [](const Case& c) {
    compare_groups(c, weight_decay_groups(trained(c), c.option<double>("wd")), /*with_scale=*/false);
  });
}

}  // namespace
}  // namespace winnow::train
