// GGUF files of decoder-only language models as folders of Hugging Face.
#pragma once

#include <ATen/core/ScalarType.h>

#include <filesystem>
#include <memory>

#include "winnow/io/gguf.h"
#include "winnow/io/json.h"
#include "winnow/io/safetensors.h"
#include "winnow/models/pretrained.h"

namespace winnow::models {

// The config.json of the model: architectures "llama" (LlamaForCausalLM), "qwen2" and "qwen3". Throws
// Error(unsupported) naming an architecture or an option that has no place there (RoPE scaling by tables, experts),
// Error(file) for metadata that are missing or do not fit the tensors.
io::Json gguf_config(const io::GgufFile& file);

// The weights under the names of Hugging Face, dequantised: linear weights and embedding as float32 (F16 and BF16 as
// they are kept), rows of q and k of "llama" in the order of rotate-half RoPE again. Each tensor of the file must be
// one that the model has: another is an Error(file).
io::TensorMap gguf_weights(const io::GgufFile& file);

// The network, as load() of the converted folder gives it. models::load("x.gguf") calls this.
std::shared_ptr<Pretrained> load_gguf(const io::GgufFile& file, const LoadOptions& options = {});

// config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json (with the chat
// template) in `folder`, which is made if missing. `dtype`: the weights are written in it; undefined keeps theirs.
void convert_gguf(const io::GgufFile& file, const std::filesystem::path& folder,
                  at::ScalarType dtype = at::ScalarType::Undefined);

}  // namespace winnow::models
