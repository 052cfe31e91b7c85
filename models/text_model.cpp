#include "winnow/models/text_model.h"

#include <algorithm>

#include "winnow/core/error.h"
#include "winnow/models/generation_config.h"

namespace winnow::models {

GeneratedSequence TextModel::generate(const std::string& prompt, const TokenCallback& callback) const {
  return generate_text(*language_model, prompt, options, callback);
}

TextModel load_text_model(const std::filesystem::path& path, const LoadOptions& load_options) {
  auto tokenizer = io::load_tokenizer(path);
  GenerationOptions options;
  if (std::filesystem::is_directory(path)) options = read_generation_config(path);
  options.tokenizer = tokenizer;
  if (const auto eos = tokenizer->special_ids().eos; eos && options.eos.empty()) options.eos = {*eos};
  auto network = load(path, load_options);
  auto* language_model = dynamic_cast<LanguageModel*>(network.get());
  WINNOW_CHECK_KIND(language_model != nullptr, ErrorKind::file, "{}: {} is no language model", path.string(),
                    network->architecture());
  try {
    check_vocabulary(*language_model, *tokenizer);
  } catch (const Error& error) {
    fail(ErrorKind::file, "{}: {}", path.string(), error.what());
  }
  return {.network = std::move(network),
          .language_model = language_model,
          .tokenizer = std::move(tokenizer),
          .options = std::move(options)};
}

}  // namespace winnow::models
