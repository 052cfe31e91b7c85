// A small network of every decoder-only architecture, from a config.json in the spelling of published files.
#pragma once

#include <string>
#include <vector>

#include "winnow/io/json.h"
#include "winnow/models/causal_lm.h"

namespace winnow::testing {

// The config of a small network of that architecture, with `changes` put over it.
io::Json small_lm_json(const std::string& architecture, const io::Json& changes = io::Json::object());

// The network itself, with weights large enough that its logits differ clearly, in evaluation mode.
models::CausalLM small_lm(const std::string& architecture, const io::Json& changes = io::Json::object());

}  // namespace winnow::testing
