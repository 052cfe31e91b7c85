#include "winnow/io/chat_template.h"

#include <utility>

#include "jinja_run.h"
#include "jinja_tree.h"
#include "unicode.h"
#include "winnow/core/error.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "winnow/io/gguf.h"
#include "winnow/io/gguf_tokenizer.h"

namespace winnow::io {
namespace {

constexpr std::size_t kMaxTemplate = std::size_t{1} << 20;

// The strings that templates use by name: "bos_token" and the like.
Json special_tokens(const JsonObject& config) {
  auto variables = Json::object();
  for (const auto& [key, value] : config.value().items()) {
    if (!key.ends_with("_token")) continue;
    if (value.is_string()) variables[key] = value;
    if (value.is_object() && value.contains("content") && value["content"].is_string())
      variables[key] = value["content"];
  }
  return variables;
}

// The text of chat_template, which may be a list of named ones.
std::string template_text(const JsonObject& config, const std::string& variant) {
  const auto& value = config.raw("chat_template");
  if (value.is_string()) return value.get<std::string>();
  WINNOW_CHECK_KIND(value.is_array(), ErrorKind::file, "{}: {} must be a string or a list, got {}", config.file(),
                    config.where("chat_template"), value.type_name());
  std::vector<std::string> names;
  for (const auto& item : value) {
    const JsonObject entry(item, config.file(), config.where("chat_template"));
    names.push_back(entry.get<std::string>("name"));
    if (names.back() == variant) return entry.get<std::string>("template");
  }
  fail(ErrorKind::file, "{}: there is no chat template called {}; there are {}", config.file(), printable(variant, 60),
       printable(join(names), 200));
}

}  // namespace

struct ChatTemplate::Program {
  std::vector<jinja::NodePtr> statements;
};

ChatTemplate::ChatTemplate(std::string_view text, Json variables, std::string name)
    : text_(text), name_(std::move(name)), variables_(std::move(variables)) {
  WINNOW_CHECK_KIND(text.size() <= kMaxTemplate, ErrorKind::file, "{}: {} bytes, the limit is {}", name_, text.size(),
                    kMaxTemplate);
  WINNOW_CHECK_KIND(unicode::find_invalid(text) == std::string_view::npos, ErrorKind::file,
                    "{}: the template is not UTF-8", name_);
  for (const auto& [key, value] : variables_.items()) {
    WINNOW_CHECK(value.is_string(), "ChatTemplate: the variable {} must be a string, got {}", printable(key, 60),
                 value.type_name());
  }
  program_ = std::make_shared<Program>(Program{jinja::parse(text_, name_)});
}

std::optional<ChatTemplate> ChatTemplate::from_config(const JsonObject& config, const std::string& variant) {
  if (!config.has("chat_template")) return std::nullopt;
  return ChatTemplate(template_text(config, variant), special_tokens(config), config.file() + ": chat_template");
}

ChatTemplate ChatTemplate::from_folder(const std::filesystem::path& path, const std::string& variant) {
  if (is_gguf(path)) {
    const JsonObject config(gguf_tokenizer_config(GgufFile(path)), path.string());
    if (auto found = from_config(config, variant)) return *std::move(found);
    fail(ErrorKind::file, "{}: the file has no chat template (tokenizer.chat_template)", path.string());
  }
  const auto config_path = path / "tokenizer_config.json";
  auto variables = Json::object();
  std::optional<ChatTemplate> found;
  if (std::filesystem::exists(config_path)) {
    const auto config = JsonObject::read(config_path);
    variables = special_tokens(config);
    found = from_config(config, variant);
  }
  const auto own = path / "chat_template.jinja";
  if (std::filesystem::exists(own)) return ChatTemplate(winnow::read_file(own.string()), variables, own.string());
  if (found) return *std::move(found);
  const auto json = path / "chat_template.json";
  if (std::filesystem::exists(json)) {
    const auto config = JsonObject::read(json);
    return ChatTemplate(template_text(config, variant), variables, json.string());
  }
  fail(ErrorKind::file, "{}: there is no chat template: no chat_template.jinja and none in tokenizer_config.json",
       path.string());
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  return render({{"messages", list}, {"add_generation_prompt", add_generation_prompt}});
}

std::string ChatTemplate::render(const nlohmann::ordered_json& variables) const {
  jinja::Dict scope;
  try {
    for (const auto& [key, value] : variables_.items()) jinja::set(scope, key, value.get<std::string>());
    for (const auto& [key, value] : variables.items()) jinja::set(scope, key, jinja::from_json(value));
  } catch (const jinja::Fault& fault) {
    fail(ErrorKind::argument, "ChatTemplate: {}", fault.text);
  }
  return jinja::run(program_->statements, std::move(scope), name_);
}

}  // namespace winnow::io
