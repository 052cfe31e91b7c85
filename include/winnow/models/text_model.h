// A language model with its tokenizer and the settings it was published with: all that text generation needs.
//
//   auto model = models::load_text_model("folder or .gguf file");
//   model.options.max_new_tokens = 50;
//   const auto answer = model.generate("The capital of France is");
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "winnow/io/tokenizer.h"
#include "winnow/models/generation.h"
#include "winnow/models/pretrained.h"

namespace winnow::models {

struct TextModel {
  std::shared_ptr<Pretrained> network;  // in evaluation mode
  LanguageModel* language_model;        // the same object
  std::shared_ptr<const io::Tokenizer> tokenizer;
  GenerationOptions options;  // of generation_config.json, with the tokenizer and at least its end token

  // generate_text() with these options.
  GeneratedSequence generate(const std::string& prompt, const TokenCallback& callback = {}) const;
};

// From a folder (config.json, weights, tokenizer files, generation_config.json where there is one) or a .gguf file.
// Throws as load(), load_tokenizer() and read_generation_config() do; Error (file) if the network is no language model
// or has fewer tokens than the tokenizer.
TextModel load_text_model(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace winnow::models
