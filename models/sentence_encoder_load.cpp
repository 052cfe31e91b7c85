// The folders of sentence-transformers.
#include <algorithm>
#include <utility>

#include "winnow/core/error.h"
#include "winnow/core/text.h"
#include "winnow/models/sentence_encoder.h"

namespace winnow::models {
namespace {

namespace fs = std::filesystem;
using io::JsonObject;

struct ModuleEntry {
  std::string type;  // last part of the class name: "Pooling"
  fs::path folder;
};

std::vector<ModuleEntry> read_modules(const fs::path& file) {
  const auto json = io::read_json(file);
  WINNOW_CHECK_KIND(json.is_array(), ErrorKind::file, "{}: must be a list of modules", file.string());
  std::vector<ModuleEntry> modules;
  for (size_t i = 0; i < json.size(); ++i) {
    const JsonObject entry(json[i], file.string(), std::to_string(i));
    const auto type = split(entry.get<std::string>("type"), '.').back();
    modules.push_back({.type = type, .folder = file.parent_path() / entry.get<std::string>("path")});
  }
  return modules;
}

// A Transformer, then a Pooling, then nothing or a Normalize.
void check_modules(const std::vector<ModuleEntry>& modules, const std::string& file) {
  static const std::vector<std::string> known = {"Transformer", "Pooling", "Normalize"};
  for (size_t i = 0; i < modules.size(); ++i) {
    WINNOW_CHECK_KIND(i < known.size() && modules[i].type == known[i], ErrorKind::unsupported,
                      "{}: module {} is a {}, but only Transformer, Pooling and Normalize in this order are supported",
                      file, i, modules[i].type);
  }
  WINNOW_CHECK_KIND(modules.size() >= 2, ErrorKind::unsupported, "{}: there must be a Transformer and a Pooling", file);
}

// Older files switch each way of pooling on or off, newer ones name it.
SentencePooling read_pooling(const JsonObject& json, int64_t width, bool prompts) {
  const std::vector<std::pair<std::string, SentencePooling>> ways = {{"cls", SentencePooling::cls},
                                                                     {"mean", SentencePooling::mean},
                                                                     {"mean_sqrt_len", SentencePooling::mean_sqrt_len},
                                                                     {"max", SentencePooling::max},
                                                                     {"last", SentencePooling::last}};
  const std::vector<std::pair<std::string, std::string>> switches = {
      {"pooling_mode_cls_token", "cls"},
      {"pooling_mode_mean_tokens", "mean"},
      {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"},
      {"pooling_mode_max_tokens", "max"},
      {"pooling_mode_lasttoken", "last"},
      {"pooling_mode_weightedmean_tokens", "weightedmean"}};
  std::vector<std::string> chosen;
  for (const auto& [key, name] : switches) {
    if (json.get_or<bool>(key, false)) chosen.push_back(name);
  }
  if (json.has("pooling_mode")) {
    chosen = json.raw("pooling_mode").is_array() ? json.get<std::vector<std::string>>("pooling_mode")
                                                 : std::vector{json.get<std::string>("pooling_mode")};
    if (chosen == std::vector<std::string>{"lasttoken"}) chosen = {"last"};
  }
  if (chosen.empty()) chosen = {"mean"};
  const auto way =
      std::find_if(ways.begin(), ways.end(), [&](const auto& known) { return known.first == chosen.front(); });
  WINNOW_CHECK_KIND(chosen.size() == 1 && way != ways.end(), ErrorKind::unsupported,
                    "{}: the pooling {} is not supported; one of cls, mean, mean_sqrt_len, max, last is", json.file(),
                    join(chosen, " + "));
  for (const auto* key : {"word_embedding_dimension", "embedding_dimension"}) {
    const auto found = json.get_or<int64_t>(key, width);
    WINNOW_CHECK_KIND(found == width, ErrorKind::file, "{}: {} must be {}, the width of the network, got {}",
                      json.file(), key, width, found);
  }
  WINNOW_CHECK_KIND(json.get_or<bool>("include_prompt", true) || !prompts, ErrorKind::unsupported,
                    "{}: include_prompt = false is not supported", json.file());
  return way->second;
}

void read_prompts(const fs::path& file, SentenceEncoderOptions& options) {
  if (!fs::exists(file)) return;
  const auto json = JsonObject::read(file);
  if (json.has("prompts")) {
    const auto prompts = json.object("prompts");
    for (const auto& [name, text] : prompts.value().items()) options.prompts[name] = prompts.get<std::string>(name);
  }
  options.default_prompt = json.get_or<std::string>("default_prompt_name", "");
  WINNOW_CHECK_KIND(options.default_prompt.empty() || options.prompts.contains(options.default_prompt), ErrorKind::file,
                    "{}: default_prompt_name must name one of the prompts, got {}", file.string(),
                    options.default_prompt);
}

// What the Transformer's own file says.
void read_limits(const fs::path& folder, SentenceEncoderOptions& options) {
  const auto file = folder / "sentence_bert_config.json";
  if (!fs::exists(file)) return;
  const auto json = JsonObject::read(file);
  options.max_tokens = json.get_or<int64_t>("max_seq_length", 0);
  WINNOW_CHECK_KIND(options.max_tokens >= 0, ErrorKind::file, "{}: max_seq_length must be >= 0, got {}", file.string(),
                    options.max_tokens);
  WINNOW_CHECK_KIND(!json.get_or<bool>("do_lower_case", false), ErrorKind::unsupported,
                    "{}: do_lower_case = true is not supported; the tokenizer's own files say so", file.string());
}

}  // namespace

SentenceEncoder SentenceEncoder::load(const fs::path& folder, const LoadOptions& options) {
  SentenceEncoderOptions result;
  const auto list = folder / "modules.json";
  if (!fs::exists(list)) {
    return {load_as<Bert>(folder, options), io::load_tokenizer(folder), result};
  }
  const auto modules = read_modules(list);
  check_modules(modules, list.string());
  auto model = load_as<Bert>(modules[0].folder, options);
  read_limits(modules[0].folder, result);
  read_prompts(folder / "config_sentence_transformers.json", result);
  result.pooling = read_pooling(JsonObject::read(modules[1].folder / "config.json"), model->config.hidden_size,
                                !result.prompts.empty());
  result.normalize = modules.size() == 3;
  return {std::move(model), io::load_tokenizer(modules[0].folder), std::move(result)};
}

}  // namespace winnow::models
