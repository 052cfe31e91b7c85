// generation_config.json: how a published model wants to be decoded.
#pragma once

#include <filesystem>

#include "winnow/io/json.h"
#include "winnow/models/generation.h"

namespace winnow::models {

// The options of a generation_config.json, or of the folder that holds one; a folder without one gives those of its
// config.json (eos_token_id, decoder_start_token_id, forced tokens). Keys that are absent keep transformers' defaults:
// no sampling, and top_k 50 where sampling is asked for.
//
// Every key is either done, or without effect on the tokens (caches, compilation, what is returned, assistants, which
// change only the speed) and passed over, or refused: Error (unsupported) names a key whose value asks for what is not
// done here, and any key that is not known, with the nearest known one. Error (file): a wrong type or range.
GenerationOptions read_generation_config(const std::filesystem::path& path);
GenerationOptions parse_generation_config(const io::JsonObject& config);

}  // namespace winnow::models
