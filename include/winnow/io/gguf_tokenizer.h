// The tokenizer inside a GGUF file, as the files of a Hugging Face folder.
#pragma once

#include <memory>

#include "winnow/io/gguf.h"
#include "winnow/io/json.h"
#include "winnow/io/tokenizer.h"

namespace winnow::io {

// The content of a tokenizer.json that encodes as the file's metadata say: "gpt2" (byte-level BPE with the pre-split
// that tokenizer.ggml.pre names) and "llama" (SentencePiece BPE with byte fallback). Throws Error(unsupported) for
// another model or pre-split, Error(file) for metadata that are missing or do not fit each other.
Json gguf_tokenizer_json(const GgufFile& file);

// The content of tokenizer_config.json: class, special tokens, chat_template, the longest input.
Json gguf_tokenizer_config(const GgufFile& file);

// What the file's tokenizer.ggml.*_token_id name; nothing where the file has no tokenizer.
SpecialIds gguf_special_ids(const GgufFile& file);

// All of it as a tokenizer.
std::shared_ptr<const Tokenizer> load_gguf_tokenizer(const GgufFile& file);

}  // namespace winnow::io
