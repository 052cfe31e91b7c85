// The one sentence about pickle files.
#pragma once

#include <filesystem>
#include <string>

#include "winnow/io/bytes.h"

namespace winnow::io {

// Throws the sentence that says how to convert if the name (.pt .pth .bin .ckpt .pkl) or the first bytes (a zip
// archive, a pickle) say that this is not safetensors but a file of Python's pickle.
void refuse_pickle(const std::string& name, Bytes start);
// By the name alone.
void refuse_pickle_name(const std::string& name);

}  // namespace winnow::io
