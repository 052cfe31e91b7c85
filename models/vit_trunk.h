// What the models of the ViT family share: the names of the trunk's weights and one way through it.
#pragma once

#include <string>
#include <vector>

#include "winnow/attention/vit_encoder.h"
#include "winnow/models/vit.h"
#include "winnow/models/weight_map.h"

namespace winnow::models {

// The styles of the family's maps, in this order. "timm" are also the names of the official MAE, DeiT and DINOv2; their
// SwiGLU is called w12 and w3 in the last one. "transformers 5 files" differ for the decoder of ViT-MAE only.
inline const std::vector<std::string> kViTStyles = {"published", "transformers 5 modules", "timm",
                                                    "transformers 5 files", "official"};

enum class BlockNames { vit, dinov2 };

// Where a block stands in each style: "vit.encoder.layer.0.", "vit.layers.0.", "blocks.0.", "" (none).
struct BlockPlaces {
  std::string published, modules, timm, files = {};
};
void add_block_weights(WeightMap& map, const TransformerBlock& block, const BlockPlaces& at, BlockNames names);

// Every weight of a trunk whose published names begin with `base` ("vit.", "").
void add_trunk_weights(WeightMap& map, const VitEncoderImpl& encoder, const std::string& base, BlockNames names,
                       WeightNeed positions = WeightNeed::required);

// A linear layer under the names given without ".weight" and ".bias", one per style.
void add_linear_weights(WeightMap& map, const Linear& linear, const std::vector<std::string>& names);

// images without the pixels to the right and at the bottom that fill no whole patch.
at::Tensor whole_patches(const at::Tensor& images, int64_t patch);

// Through a trunk with the checks of `what` ("ViT"): last_hidden_state and hidden_states are filled.
VisionOutput run_trunk(const char* what, VitEncoderImpl& encoder, const VitTrunkConfig& config,
                       const at::Tensor& images, const VisionForward& how);

// dense and activation on the first token.
at::Tensor pool(Linear pooler, const std::string& activation, const at::Tensor& tokens);
// Refuses a pooler_act that pool() does not know.
void check_pooler_act(const char* what, const std::string& activation);

// A linear layer with weights N(0, deviation) and zero bias.
Linear make_head(int64_t in, int64_t out, uint64_t seed, double deviation = 0.02);

// What config.json says about a trunk: keys that are neither its own nor in `own` are refused by name.
void check_trunk_keys(const io::JsonObject& json, std::vector<std::string> own);
VitTrunkConfig read_trunk(const io::JsonObject& json, VitTrunkConfig defaults);
io::Json write_trunk(const VitTrunkConfig& trunk);

// The config of a trunk that exists. Throws winnow::Error (argument) where the members of a config cannot say it.
VitTrunkConfig trunk_config(const char* what, const VitEncoderOptions& options);

}  // namespace winnow::models
