// What the files beside a tokenizer say: which tokens are special, and older vocabularies in a form of their own.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "winnow/io/json.h"
#include "winnow/io/tokenizer.h"

namespace winnow::io {

// The value of a JSON file in a folder; an empty object where there is no such file.
JsonObject read_json_beside(const std::filesystem::path& folder, const std::string& file);

// The special ids that tokenizer_config.json and special_tokens_map.json (by token) and config.json (by id) in the
// folder name. `tokenizer` looks tokens up.
SpecialIds read_special_ids(const std::filesystem::path& folder, const Tokenizer& tokenizer);

// vocab.json + merges.txt of GPT-2 and RoBERTa, and vocab.txt of BERT, as the content of a tokenizer.json.
Json tokenizer_json_of_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges);
Json tokenizer_json_of_vocab_txt(const std::filesystem::path& vocab);

}  // namespace winnow::io
