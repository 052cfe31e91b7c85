// Usual ways to divide a module's parameters into optimiser groups.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "winnow/train/optimizer.h"

namespace torch::nn {
class Module;
}

namespace winnow::train {

// The parameters that require a gradient, by name, in the module's order.
std::vector<NamedParameter> trainable_parameters(const torch::nn::Module& module);

// True if the parameter takes no weight decay by the usual rule: at most one dimension, or a name that ends in ".bias".
// A class token of shape [1, 1, D] is therefore decayed.
bool is_undecayed(const NamedParameter& parameter);

// Two groups, "decay" and "no_decay" (an empty one is left out), by is_undecayed. `no_decay_names`: further exact names
// without decay. Throws winnow::Error if such a name is no parameter.
std::vector<ParamGroup> weight_decay_groups(const std::vector<NamedParameter>& parameters, double weight_decay,
                                            const std::vector<std::string>& no_decay_names = {});
std::vector<ParamGroup> weight_decay_groups(const torch::nn::Module& module, double weight_decay,
                                            const std::vector<std::string>& no_decay_names = {});

// The layer of a ViT parameter: 0 for cls_token, mask_token, pos_embed, register tokens and patch_embed.*, i + 1 for
// blocks.i.*, depth + 1 for the rest (norm, fc_norm, head). A prefix such as "encoder." or "vit." before these is
// allowed.
int64_t vit_layer_id(const std::string& name, int64_t depth);

// Layer-wise rates: lr_scale = decay^(depth + 1 - id), groups by (id, decayed or not), named "layer_<id>_decay" and
// "layer_<id>_no_decay". decay in (0, 1]. `layer_id` maps a name to [0, depth + 1]; the default is vit_layer_id.
// Source: BEiT and MAE fine-tuning (arXiv 2106.08254, 2111.06377).
std::vector<ParamGroup> layer_decay_param_groups(
    const std::vector<NamedParameter>& parameters, int64_t depth, double weight_decay, double decay,
    const std::vector<std::string>& no_decay_names = {},
    const std::function<int64_t(const std::string& name, int64_t depth)>& layer_id = vit_layer_id);
std::vector<ParamGroup> layer_decay_param_groups(
    const torch::nn::Module& module, int64_t depth, double weight_decay, double decay,
    const std::vector<std::string>& no_decay_names = {},
    const std::function<int64_t(const std::string& name, int64_t depth)>& layer_id = vit_layer_id);

}  // namespace winnow::train
