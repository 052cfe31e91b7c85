// The architectures that load() knows. Each family exports one table of makers; a new family is one line here and one
// in registry.cpp, both sorted by name.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/pretrained.h"

namespace winnow::models {

// Makes the network that config.json describes; its weights are drawn or left as they are, load() reads them
// afterwards. `weights` tells what the file holds where config.json does not (a pooler).
using Maker = std::shared_ptr<Pretrained> (*)(const io::JsonObject& config, const io::Checkpoint& weights);
// Name in config.json's "architectures" -> maker.
using Makers = std::map<std::string, Maker>;

Makers bert_makers();
Makers causal_lm_makers();
Makers clip_makers();
Makers deit_makers();
Makers dinov2_makers();
Makers mamba_makers();
Makers t5_makers();
Makers videomae_makers();
Makers vit_makers();
Makers vit_mae_makers();
Makers whisper_makers();

// All of the above together.
const Makers& all_makers();

}  // namespace winnow::models
