#include "winnow/io/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "support/error.h"
#include "support/temporary_folder.h"

namespace winnow::testing {
namespace {

using io::ChatTemplate;
using io::Json;
using nlohmann::ordered_json;

std::string render(const std::string& text, const ordered_json& variables = ordered_json::object()) {
  return ChatTemplate(text).render(variables);
}

TEST(ChatTemplateGolden, EveryRowOfJinja2) {
  const auto folder = std::filesystem::path(WINNOW_SOURCE_DIR) / "tests/golden/chat_templates";
  const auto templates = io::read_json(folder / "templates.json")["templates"];
  std::ifstream file(folder / "cases.json");
  const auto cases = ordered_json::parse(file);  // the order of keys matters to tojson
  const Json tokens = cases["tokens"];
  ASSERT_GT(cases["cases"].size(), 200U);
  for (const auto& row : cases["cases"]) {
    const auto name = row.value("template", std::string());
    const auto text = name.empty() ? row["expression"].get<std::string>() : templates[name].get<std::string>();
    SCOPED_TRACE(name.empty() ? text : name + row["variables"].dump());
    if (row.contains("error")) {
      EXPECT_ERROR((void)ChatTemplate(text, tokens, name).render(row["variables"]), "");
      continue;
    }
    EXPECT_EQ(ChatTemplate(text, tokens, name).render(row["variables"]), row["text"].get<std::string>());
  }
}

TEST(ChatTemplate, MessagesAndTheStartOfAnAnswer) {
  const ChatTemplate chat(
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% "
      "endif %}");
  EXPECT_EQ(chat.render({{.role = "user", .content = "a"}, {.role = "assistant", .content = "b"}}),
            "<user>a<assistant>b<assistant>");
  EXPECT_EQ(chat.render({{.role = "user", .content = "a"}}, /*add_generation_prompt=*/false), "<user>a");
}

TEST(ChatTemplate, TheTemplatesOwnWordsAreAnArgumentError) {
  EXPECT_ERROR_KIND(render("{{ raise_exception('roles must ' ~ 'alternate') }}"), ErrorKind::argument,
                    "chat template: roles must alternate");
}

TEST(ChatTemplate, WhatIsNotDoneIsNamedWithItsLine) {
  const auto refused = [](const char* text, const char* message) {
    EXPECT_ERROR_KIND(ChatTemplate{text}, ErrorKind::unsupported, message);
  };
  refused("a\n{% include 'x' %}", "chat template: line 2: the tag include is not done");
  refused("{% block a %}{% endblock %}", "line 1: the tag block is not done");
  refused("{% call f() %}{% endcall %}", "the tag call is not done");
  refused("{{ x | frobnicate }}", "the filter frobnicate is not known");
  refused("{{ x is frobnicated }}", "the test frobnicated is not known");
  refused("{{ f(*x) }}", "lists of arguments (*) are not done");
  refused("{% for a in b recursive %}{% endfor %}", "recursive loops are not done");
}

TEST(ChatTemplate, BrokenTemplatesAreOneErrorThatNamesTheLine) {
  const auto refused = [](const std::string& text, const char* message) {
    EXPECT_ERROR_KIND(ChatTemplate{text}, ErrorKind::file, message);
  };
  refused("a\n\n{{ x", "chat template: line 3: a {{ tag has no end }}");
  refused("{% if x %}a", "endif or else or elif is missing (opened on line 1)");
  refused("{% endif %}", "unexpected tag \"endif\"");
  refused("{# a", "a comment has no end #}");
  refused("{% raw %} a", "raw has no endraw");
  refused("{{ 'a }}", "a string has no end");
  refused("{{ 1 + }}", "wanted an expression, got the end of the tag");
  refused("{{ a b }}", "wanted }}, got \"b\"");
  refused("{{ a ] }}", "unexpected ]");
  refused("{% break %}", "break stands in no loop");
  refused("{% frob %}", "unexpected tag \"frob\"");
  refused("\xff", "the template is not UTF-8");
  refused("{{ " + std::string(1000, '(') + "1" + std::string(1000, ')') + " }}", "expressions nested deeper than 200");
  std::string sum = "1", blocks;
  for (int i = 0; i < 5000; ++i) sum += "+1";
  for (int i = 0; i < 1000; ++i) blocks += "{% if x %}";
  refused("{{ " + sum + " }}", "an expression of more than 500 operators");
  refused(blocks, "blocks nested deeper than 100");
}

TEST(ChatTemplate, FailuresWhileRunningNameTheLine) {
  const auto fails = [](const char* text, const char* message) {
    EXPECT_ERROR_KIND(render(text), ErrorKind::file, message);
  };
  fails("\n{{ x.y }}", "chat template: line 2: x is undefined");
  fails("{{ x() }}", "x is undefined");
  fails("{{ 1 + 'a' }}", "+ has no meaning for an integer and a string");
  fails("{{ 1 / 0 }}", "division by zero");
  fails("{{ 9223372036854775807 + 1 }}", "an integer past 64 bits");
  fails("{{ 1 < 'a' }}", "an integer and a string have no order");
  fails("{% for i in 3 %}{% endfor %}", "an integer cannot be looped over");
  fails("{% for a, b in [[1]] %}{% endfor %}", "2 names for 1 values");
  fails("{% set a.b = 1 %}", "a must be a namespace to set b");
  fails("{{ 'a'.split(',', 'x') }}", "an argument of a wrong type");
}

TEST(ChatTemplate, EndlessWorkIsStopped) {
  const auto fails = [](const char* text, const char* message) {
    EXPECT_ERROR_KIND(render(text), ErrorKind::file, message);
  };
  fails("{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}", "more than 10000000 steps");
  fails("{{ 'abcdefgh' * 100000000 }}", "more than 16777216 bytes of text");
  fails("{% set ns = namespace(x='abcdefgh') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "more than 16777216 bytes of text");
  fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "macros call each other deeper than 50");
  fails("{% set ns = namespace(x=1) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "lists and mappings nested deeper than 100");
  EXPECT_EQ(render("{% set a = namespace() %}{% set a.self = a %}{{ a.self.self is defined }}"), "True");
}

TEST(ChatTemplate, ConfigsHoldOneTemplateOrSeveralByName) {
  const io::JsonObject one({{"bos_token", "<s>"},
                            {"eos_token", {{"content", "</s>"}}},
                            {"chat_template", "{{ bos_token }}{{ eos_token }}{{ messages[0].content }}"}},
                           "tokenizer_config.json");
  EXPECT_EQ(ChatTemplate::from_config(one)->render({{.role = "user", .content = "x"}}), "<s></s>x");
  const io::JsonObject two(
      {{"chat_template", {{{"name", "default"}, {"template", "d"}}, {{"name", "tool_use"}, {"template", "t"}}}}},
      "tokenizer_config.json");
  EXPECT_EQ(ChatTemplate::from_config(two)->render(ordered_json::object()), "d");
  EXPECT_EQ(ChatTemplate::from_config(two, "tool_use")->render(ordered_json::object()), "t");
  EXPECT_ERROR((void)ChatTemplate::from_config(two, "rag"),
               "tokenizer_config.json: there is no chat template called rag; there are default, tool_use");
  EXPECT_FALSE(ChatTemplate::from_config(io::JsonObject(Json::object(), "c")).has_value());
}

TEST(ChatTemplate, FoldersHoldItInOneOfThreePlaces) {
  const TemporaryFolder folder;
  EXPECT_ERROR(ChatTemplate::from_folder(folder.path()), "there is no chat template");
  io::write_json(folder / "chat_template.json", {{"chat_template", "three"}});
  EXPECT_EQ(ChatTemplate::from_folder(folder.path()).text(), "three");
  io::write_json(folder / "tokenizer_config.json", {{"eos_token", "</s>"}, {"chat_template", "two"}});
  EXPECT_EQ(ChatTemplate::from_folder(folder.path()).text(), "two");
  std::ofstream(folder / "chat_template.jinja") << "one{{ eos_token }}";
  EXPECT_EQ(ChatTemplate::from_folder(folder.path()).render(ordered_json::object()), "one</s>");
}

TEST(ChatTemplate, SmolLM2BringsItsSystemPrompt) {
  const auto path = std::filesystem::path(WINNOW_SOURCE_DIR) / "data/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "run: ./dev data smollm2";
  EXPECT_EQ(ChatTemplate::from_folder(path).render({{.role = "user", .content = "Hi"}}),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace winnow::testing
