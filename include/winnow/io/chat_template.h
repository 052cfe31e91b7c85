// Chat templates: the Jinja programs in tokenizer_config.json that turn a conversation into the text a model was
// trained on.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "winnow/io/json.h"

namespace winnow::io {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

// One template, run by an interpreter of the part of Jinja that published templates use: for (else, loop variables,
// inline if, unpacking), if, set (blocks, namespaces), macro, break and continue, filter chains, tests, slices, method
// calls of strings, lists and mappings, raise_exception, strftime_now, trim_blocks and lstrip_blocks as transformers
// sets them. What it does not do (include, import, block, extends, call, ...) is refused when the template is read, by
// name and line. Thread safe: all members are const.
class ChatTemplate {
 public:
  // `variables` are strings that templates use by name, in JSON: {"bos_token": "<s>", "eos_token": "</s>"}. Throws
  // Error(file) naming `name` and the line for a template that is not valid or too deep, Error(unsupported) for a part
  // of Jinja that is not done here.
  explicit ChatTemplate(std::string_view text, Json variables = Json::object(), std::string name = "chat template");

  // From the content of tokenizer_config.json: chat_template is a string, or a list of {"name", "template"} of which
  // the one called `variant` is taken ("default" unless told). Special tokens may be strings or {"content"} objects.
  // nullopt if there is no chat_template.
  static std::optional<ChatTemplate> from_config(const JsonObject& config, const std::string& variant = "default");
  // From a folder: chat_template.jinja, or the one in tokenizer_config.json (which also gives the special tokens), or
  // chat_template.json; a .gguf file: from its metadata. Throws Error(file) if there is none.
  static ChatTemplate from_folder(const std::filesystem::path& path, const std::string& variant = "default");

  // The text of the conversation, to be encoded without adding special tokens (the template writes them itself).
  // add_generation_prompt: end with the start of an assistant's turn. Throws Error(argument) with the template's own
  // words where it calls raise_exception (roles in a wrong order, ...), Error(file) where the template fails: an
  // undefined value used, an unknown filter, a wrong type, more than 16 MiB of text or 10 million steps.
  [[nodiscard]] std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt = true) const;

  // The same for messages with further keys (tool_calls, content in parts), tools and any other variables:
  // render({{"messages", [...]}, {"tools", [...]}, {"add_generation_prompt", true}}). The order of keys is kept.
  [[nodiscard]] std::string render(const nlohmann::ordered_json& variables) const;

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  struct Program;
  std::string text_, name_;
  Json variables_;
  std::shared_ptr<const Program> program_;
};

}  // namespace winnow::io
