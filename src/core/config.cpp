#include "winnow/core/config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "options_text.h"
#include "winnow/core/file.h"
#include "winnow/core/text.h"
#include "yaml_tree.h"

namespace winnow {

using detail::fail_at;
using detail::YamlNode;
using detail::YamlSource;
using Kind = YamlNode::Kind;

struct Config::State {
  std::shared_ptr<const YamlSource> source;
  YamlNode root;
};

namespace {

std::string path_of(const std::string& prefix, std::string_view key) {
  return prefix.empty() ? printable(key, 80) : fmt::format("{}.{}", prefix, printable(key, 80));
}

void note_known(YamlNode& map, std::string_view key) {
  if (std::find(map.known.begin(), map.known.end(), key) == map.known.end()) map.known.emplace_back(key);
}

// Walks a dotted path, noting each key as asked for; null if something on the way is absent. A value where a section
// is needed is an error.
YamlNode* walk(YamlNode& root, std::string_view path) {
  auto* node = &root;
  if (path.empty()) return node;
  std::string so_far;
  for (const auto& key : split(path, '.')) {
    if (node->kind == Kind::null) {
      note_known(*node, key);
      return nullptr;
    }
    if (node->kind != Kind::map) {
      fail_at(*node, fmt::format("{} must be a mapping (key: value), got {}", so_far.empty() ? "the top level" : so_far,
                                 describe(*node)));
    }
    note_known(*node, key);
    auto* next = node->find(key);
    if (next == nullptr) return nullptr;
    next->read = true;
    so_far = path_of(so_far, key);
    node = next;
  }
  return node;
}

// The digits of a number without the underscores that may stand between two digits; "" if they stand elsewhere.
std::string strip_underscores(const std::string& text) {
  std::string digits;
  const auto is_digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits += text[i];
    } else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) {
      return "";
    }
  }
  return digits;
}

template <typename N>
bool parse_number(const YamlNode& node, N& value) {
  if (node.kind != Kind::scalar || node.quoted) return false;
  auto text = strip_underscores(node.text);
  const auto sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? text.substr(0, 1) : "";
  auto digits = text.substr(sign.size());
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return false;
  if (std::is_floating_point_v<N> && (digits == ".inf" || digits == ".nan")) digits = digits.substr(1);
  if (sign == "-") digits = "-" + digits;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size();
}

[[noreturn]] void fail_type(const YamlNode& node, const std::string& path, const detail::ValueType& type) {
  const auto note = node.kind == Kind::scalar && node.quoted ? " in quotes" : "";
  fail_at(node, fmt::format("{} must be {}, got {}{}", path, type_text(type), describe(node), note));
}

void read_structure(YamlNode* node, const YamlSource& origin, const detail::Table& table, void* object,
                    const std::string& path);

void read_scalar(YamlNode& node, const detail::ValueType& type, void* value, const std::string& path) {
  using detail::ValueKind;
  const auto is_word = node.kind == Kind::scalar;
  auto ok = true;
  switch (type.kind) {
    case ValueKind::boolean:
      ok = is_word && !node.quoted && (node.text == "true" || node.text == "false");
      if (ok) *static_cast<bool*>(value) = node.text == "true";
      break;
    case ValueKind::int64: ok = parse_number(node, *static_cast<int64_t*>(value)); break;
    case ValueKind::uint64: ok = parse_number(node, *static_cast<uint64_t*>(value)); break;
    case ValueKind::real: ok = parse_number(node, *static_cast<double*>(value)); break;
    case ValueKind::text:
      ok = is_word;
      if (ok) *static_cast<std::string*>(value) = node.text;
      break;
    default: {
      if (!is_word) fail_type(node, path, type);
      std::vector<std::string> names;
      for (const auto& [name, number] : type.names) {
        if (name == node.text) return type.set_enum(value, number);
        names.push_back(name);
      }
      fail_at(node, fmt::format("{} must be {}, got {}{}", path, type_text(type), describe(node),
                                did_you_mean(node.text, names)));
    }
  }
  if (!ok) fail_type(node, path, type);
}

void read_value(YamlNode& node, const detail::ValueType& type, const Range& range, void* value,
                const std::string& path) {
  using detail::ValueKind;
  switch (type.kind) {
    case ValueKind::structure:
      if (node.kind != Kind::map && node.kind != Kind::null) fail_type(node, path, type);
      return read_structure(&node, *node.source, type.table(), value, path);
    case ValueKind::optional:
      if (node.kind == Kind::null) return type.resize(value, 0);
      if (type.size(value) == 0) type.resize(value, 1);
      return read_value(node, type.element(), range, type.at(value, 0), path);
    case ValueKind::list: {
      const auto count = static_cast<int64_t>(node.items.size());
      if (node.kind != Kind::list || (type.fixed_size >= 0 && count != type.fixed_size)) fail_type(node, path, type);
      type.resize(value, count);
      for (int64_t i = 0; i < count; ++i) {
        auto& item = node.items[static_cast<size_t>(i)];
        item.read = true;
        read_value(item, type.element(), range, type.at(value, i), fmt::format("{}[{}]", path, i));
      }
      return;
    }
    default: {
      read_scalar(node, type, value, path);
      const auto problem = range_problem(type, range, value);
      if (problem.empty()) return;
      const auto hint = node.kind == Kind::scalar ? did_you_mean(node.text, range.choices) : "";
      fail_at(node, fmt::format("{} {}{}", path, problem, hint));
    }
  }
}

// An absent key whose field has no valid default. Names a key nearby that may be a misspelling of it.
[[noreturn]] void fail_missing(YamlNode* node, const YamlSource& origin, const detail::Field& field,
                               const std::string& prefix) {
  const auto path = path_of(prefix, field.key);
  auto message = fmt::format("{} must be given ({})", path, type_with_range(*field.type, *field.range));
  for (size_t i = 0; node != nullptr && i < node->keys.size(); ++i) {
    const std::vector<std::string> wanted = {field.key};
    if (!node->items[i].read && nearest(node->keys[i], wanted)) {
      message += fmt::format("; is it meant by {}?", path_of(prefix, node->keys[i]));
      break;
    }
  }
  if (origin.name.empty()) throw UsageError(fmt::format("{}: use --set {}=VALUE or --config FILE", message, path));
  fail_at(origin, node == nullptr || origin.command_line ? 0 : node->line, message);
}

bool any_from_command_line(const YamlNode& node) {
  return node.source->command_line || std::any_of(node.items.begin(), node.items.end(), any_from_command_line);
}

// node is null, or a map or null node: absent and empty sections are the same.
void read_structure(YamlNode* node, const YamlSource& origin, const detail::Table& table, void* object,
                    const std::string& path) {
  std::vector<std::pair<YamlNode*, const detail::Field*>> present;
  for (const auto& field : table.fields) {
    if (node != nullptr) note_known(*node, field.key);
    auto* child = node == nullptr ? nullptr : node->find(field.key);
    if (child != nullptr) child->read = true;
    present.emplace_back(child, &field);
  }
  for (const auto& [child, field] : present) {
    auto* value = field->in(object);
    const auto field_path = path_of(path, field->key);
    if (child != nullptr) {
      read_value(*child, *field->type, *field->range, value, field_path);
    } else if (field->type->kind == detail::ValueKind::structure) {
      read_structure(nullptr, origin, field->type->table(), value, field_path);
    } else if (!range_problem(*field->type, *field->range, value).empty()) {
      fail_missing(node, origin, *field, path);
    }
  }
  try {
    run_rules(table, object);
  } catch (const Error& e) {
    const auto message = path.empty() ? std::string(e.what()) : fmt::format("{}: {}", path, e.what());
    if (origin.name.empty() || (node != nullptr && any_from_command_line(*node))) throw UsageError(message);
    fail_at(origin, node == nullptr ? 0 : node->line, message);
  }
}

// The first key of the tree that nothing read.
void check_all_read(const YamlNode& node, const std::string& path) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    const auto& item = node.items[i];
    if (node.kind == Kind::list) {
      check_all_read(item, fmt::format("{}[{}]", path, i));
      continue;
    }
    if (item.read) {
      check_all_read(item, path_of(path, node.keys[i]));
      continue;
    }
    auto message = fmt::format("{}: unknown key", path_of(path, node.keys[i]));
    if (const auto meant = nearest(node.keys[i], node.known)) {
      message += fmt::format("; did you mean {}?", path_of(path, *meant));
    } else if (!node.known.empty() && node.known.size() <= 12) {
      message += fmt::format("; known here: {}", join(node.known));
    }
    fail_at(item, message);
  }
}

bool is_path(std::string_view path) {
  const auto parts = split(path, '.');
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
  });
}

}  // namespace

Config::Config() : state_(std::make_unique<State>()) {
  state_->source = std::make_shared<const YamlSource>();
  state_->root.source = state_->source;
}
Config::Config(std::unique_ptr<State> state) : state_(std::move(state)) {}
Config::Config(const Config& other) : state_(std::make_unique<State>(*other.state_)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config other) noexcept {
  state_.swap(other.state_);
  return *this;
}
Config::~Config() = default;

Config Config::load(const std::string& path) {
  return parse(read_file(path, detail::kMaxYamlBytes), path);
}

Config Config::parse(std::string_view text, std::string name) {
  auto state = std::make_unique<State>();
  state->source = std::make_shared<const YamlSource>(YamlSource{.name = printable(name)});
  state->root = detail::parse_yaml(text, state->source);
  if (state->root.kind != Kind::map && state->root.kind != Kind::null) {
    fail_at(state->root, fmt::format("the top level must be a mapping (key: value), got {}", describe(state->root)));
  }
  return Config(std::move(state));
}

void Config::set(std::string_view assignment) {
  const auto equals = assignment.find('=');
  const auto path = trim(assignment.substr(0, equals));
  const auto source = std::make_shared<const YamlSource>(
      YamlSource{.name = fmt::format("--set {}", printable(assignment, 120)), .command_line = true});
  if (equals == std::string_view::npos || !is_path(path))
    fail_at(*source, 0, "must be KEY=VALUE, as in train.lr=0.001");
  if (split(path, '.').size() > detail::kMaxYamlDepth) fail_at(*source, 0, "the key is nested too deep");
  auto value = detail::parse_yaml(assignment.substr(equals + 1), source);
  auto* node = &state_->root;
  std::string so_far;
  for (const auto& key : split(path, '.')) {
    if (node->kind == Kind::null) node->kind = Kind::map;
    if (node->kind != Kind::map) {
      fail_at(*source, 0, fmt::format("{} is a value, not a section", so_far));
    }
    so_far = path_of(so_far, key);
    auto* next = node->find(key);
    if (next == nullptr) {
      node->keys.push_back(key);
      YamlNode section;
      section.source = source;
      node->items.push_back(std::move(section));
      next = &node->items.back();
    }
    node = next;
  }
  *node = std::move(value);
}

void Config::read_table(std::string_view section, const detail::Table& table, void* object) {
  auto* node = walk(state_->root, section);
  const auto path = std::string(section);
  if (node != nullptr && node->kind != Kind::map && node->kind != Kind::null) {
    fail_at(*node, fmt::format("{} must be a mapping (key: value), got {}", path, describe(*node)));
  }
  const auto& origin = node != nullptr && node != &state_->root ? *node->source : *state_->source;
  read_structure(node, origin, table, object, path);
}

bool Config::has(std::string_view path) const {
  auto* node = &state_->root;
  for (const auto& key : split(path, '.')) {
    if (node->kind != Kind::map) return false;
    node = node->find(key);
    if (node == nullptr) return false;
  }
  return true;
}

std::string Config::text(std::string_view path, std::string_view fallback) {
  const auto* node = walk(state_->root, path);
  if (node == nullptr) return std::string(fallback);
  if (node->kind != Kind::scalar) fail_at(*node, fmt::format("{} must be text, got {}", path, describe(*node)));
  return node->text;
}

void Config::finish() const {
  check_all_read(state_->root, "");
}

const std::string& Config::name() const {
  static const std::string command_line = "command line";
  return state_->source->name.empty() ? command_line : state_->source->name;
}

}  // namespace winnow
