#include "options_text.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "winnow/core/text.h"

namespace winnow::detail {
namespace {

// Whether YAML reads the plain word as this very text and as nothing else.
bool is_plain_word(const std::string& text) {
  constexpr std::array<std::string_view, 9> kReserved = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/';
  };
  const auto is_inner = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-'; };
  if (text.empty() || !is_letter(text[0]) || !std::all_of(text.begin(), text.end(), is_inner)) return false;
  std::string lower = text;
  for (auto& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return std::find(kReserved.begin(), kReserved.end(), lower) == kReserved.end();
}

std::string quoted(const std::string& text, Notation notation) {
  return notation == Notation::yaml && is_plain_word(text) ? text : json_quote(text);
}

std::string real_text(double value, Notation notation) {
  if (std::isfinite(value)) return fmt::format("{}", value);
  const char* word = std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
  return notation == Notation::json ? fmt::format("\"{}\"", word) : word;
}

std::string enum_text(const ValueType& type, const void* value, Notation notation) {
  const auto number = type.get_enum(value);
  for (const auto& [name, candidate] : type.names) {
    if (candidate == number) return quoted(name, notation);
  }
  return fmt::format("{}", number);
}

std::string names_text(const ValueType& type) {
  std::string names;
  for (const auto& [name, value] : type.names) names += (names.empty() ? "" : ", ") + name;
  return names;
}

std::string structure_text(const Table& table, const void* object, Notation notation) {
  std::string result = "{";
  for (const auto& field : table.fields) {
    if (result.size() > 1) result += ", ";
    result += notation == Notation::json ? json_quote(field.key) : field.key;
    result += ": " + flow_text(*field.type, field.in(object), notation);
  }
  return result + "}";
}

void append_yaml(const Table& table, const void* object, const std::string& indent, std::string& out) {
  for (const auto& field : table.fields) {
    const auto* type = field.type;
    const auto* value = field.in(object);
    if (type->kind == ValueKind::optional && type->size(value) == 1) {
      value = type->at(const_cast<void*>(value), 0);
      type = &type->element();
    }
    out += indent + field.key + ":";
    if (type->kind == ValueKind::structure && !type->table().fields.empty()) {
      out += "\n";
      append_yaml(type->table(), value, indent + "  ", out);
    } else {
      out += " " + flow_text(*type, value, Notation::yaml) + "\n";
    }
  }
}

struct HelpRow {
  std::string key, value, help;
};

// Structures are opened into their fields, a list or an optional of structures by one default element.
void append_rows(const Table& table, const std::string& prefix, void* defaults, std::vector<HelpRow>& rows) {
  for (const auto& field : table.fields) {
    const auto* type = field.type;
    auto* value = field.in(defaults);
    auto key = prefix + field.key;
    while (type->kind == ValueKind::list || type->kind == ValueKind::optional) {
      const auto* inner = type;
      while (inner->kind == ValueKind::list || inner->kind == ValueKind::optional) inner = &inner->element();
      if (inner->kind != ValueKind::structure) break;
      if (type->kind == ValueKind::list) key += "[]";
      if (type->size(value) == 0) type->resize(value, 1);
      value = type->at(value, 0);
      type = &type->element();
    }
    if (type->kind == ValueKind::structure) {
      append_rows(type->table(), key + ".", value, rows);
      continue;
    }
    const auto required = !range_problem(*type, *field.range, value).empty();
    const auto note = fmt::format("({})", type_with_range(*type, *field.range));
    rows.push_back({key, required ? "required" : flow_text(*type, value, Notation::yaml),
                    field.help.empty() ? note : field.help + " " + note});
  }
}

}  // namespace

std::string type_text(const ValueType& type) {
  switch (type.kind) {
    case ValueKind::boolean: return "true or false";
    case ValueKind::int64: return "an integer";
    case ValueKind::uint64: return "an integer >= 0";
    case ValueKind::real: return "a number";
    case ValueKind::text: return "text";
    case ValueKind::enumeration: return "one of " + names_text(type);
    case ValueKind::structure: return "a mapping (key: value)";
    case ValueKind::list: return type.fixed_size < 0 ? "a list" : fmt::format("a list of {}", type.fixed_size);
    case ValueKind::optional: return type_text(type.element()) + " or null";
  }
  return "";
}

std::string type_with_range(const ValueType& type, const Range& range) {
  const auto bounds = range.text();
  const auto with = [&](const std::string& name) { return bounds.empty() ? name : name + " " + bounds; };
  switch (type.kind) {
    case ValueKind::boolean: return "true or false";
    case ValueKind::int64: return with("integer");
    case ValueKind::uint64: return bounds.empty() ? "integer >= 0" : with("integer");
    case ValueKind::real: return with("number");
    case ValueKind::text: return range.choices.empty() ? "text" : join(range.choices);
    case ValueKind::enumeration: return names_text(type);
    case ValueKind::structure: return "mapping";
    case ValueKind::list:
      return fmt::format("list of {}{}", type.fixed_size < 0 ? "" : fmt::format("{}: ", type.fixed_size),
                         type_with_range(type.element(), range));
    case ValueKind::optional: return type_with_range(type.element(), range) + " or null";
  }
  return "";
}

std::string flow_text(const ValueType& type, const void* value, Notation notation) {
  switch (type.kind) {
    case ValueKind::boolean: return *static_cast<const bool*>(value) ? "true" : "false";
    case ValueKind::int64: return fmt::format("{}", *static_cast<const int64_t*>(value));
    case ValueKind::uint64: return fmt::format("{}", *static_cast<const uint64_t*>(value));
    case ValueKind::real: return real_text(*static_cast<const double*>(value), notation);
    case ValueKind::text: return quoted(*static_cast<const std::string*>(value), notation);
    case ValueKind::enumeration: return enum_text(type, value, notation);
    case ValueKind::structure: return structure_text(type.table(), value, notation);
    case ValueKind::optional:
      return type.size(value) == 0 ? "null" : flow_text(type.element(), type.at(const_cast<void*>(value), 0), notation);
    case ValueKind::list: {
      std::string result = "[";
      for (int64_t i = 0; i < type.size(value); ++i) {
        if (i > 0) result += ", ";
        result += flow_text(type.element(), type.at(const_cast<void*>(value), i), notation);
      }
      return result + "]";
    }
  }
  return "";
}

std::string help(const Table& table, std::string_view section, void* defaults) {
  std::vector<HelpRow> rows;
  append_rows(table, section.empty() ? "" : std::string(section) + ".", defaults, rows);
  size_t key_width = 0, value_width = 0;
  for (const auto& row : rows) {
    key_width = std::max(key_width, std::min<size_t>(row.key.size(), 36));
    value_width = std::max(value_width, std::min<size_t>(row.value.size(), 16));
  }
  std::string text;
  for (const auto& row : rows) {
    text += fmt::format("  {:<{}}  {:<{}}  {}\n", row.key, key_width, row.value, value_width, row.help);
  }
  return text;
}

std::string to_yaml(const Table& table, const void* object) {
  std::string out;
  append_yaml(table, object, "", out);
  return out.empty() ? "{}\n" : out;
}

std::string to_json(const Table& table, const void* object) {
  return structure_text(table, object, Notation::json);
}

}  // namespace winnow::detail
