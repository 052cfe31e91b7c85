#include "jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

// One more than the deepest of the items.
int nesting_of(int deepest) {
  if (deepest >= kMaxNesting) throw Fault{fmt::format("lists and mappings nested deeper than {}", kMaxNesting)};
  return deepest + 1;
}

// As Python writes floats: the shortest form that reads back the same, always with a point or an exponent.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const auto magnitude = std::abs(value);
  char buffer[64];
  const bool fixed = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(buffer, end);
  if (fixed && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string repr_of(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\r') {
      result += "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      if (c == '\\' || c == quote) result += '\\';
      result += c;
    }
  }
  return result + quote;
}

std::string write(const Value& value, bool top) {
  if (value.is<Undefined>()) return top ? "" : "Undefined";
  if (value.is<None>()) return "None";
  if (value.is<bool>()) return std::get<bool>(value.data) ? "True" : "False";
  if (value.is<int64_t>()) return std::to_string(value.integer());
  if (value.is<double>()) return float_text(value.number());
  if (value.is_text()) return top ? value.text() : repr_of(value.text());
  std::string result;
  if (value.is_list()) {
    for (const auto& item : value.list()) append(result, (result.empty() ? "" : ", ") + write(item, false));
    return "[" + result + "]";
  }
  if (value.is_dict()) {
    for (const auto& [key, item] : value.dict()) {
      append(result, (result.empty() ? "" : ", ") + repr_of(key) + ": " + write(item, false));
    }
    return "{" + result + "}";
  }
  return value.is<std::shared_ptr<Namespace>>() ? "<Namespace>" : "<function>";
}

class JsonWriter {
 public:
  JsonWriter(int64_t indent, bool sort) : indent_(indent), sort_(sort) {}

  void write(const Value& value, int depth = 0) {
    if (value.is<None>()) {
      out += "null";
    } else if (value.is<bool>()) {
      out += std::get<bool>(value.data) ? "true" : "false";
    } else if (value.is<int64_t>()) {
      out += std::to_string(value.integer());
    } else if (value.is<double>()) {
      number(value.number());
    } else if (value.is_text()) {
      string(value.text());
    } else if (value.is_list()) {
      array(value.list(), depth);
    } else if (value.is_dict()) {
      object(value.dict(), depth);
    } else {
      throw Fault{fmt::format("tojson: {} cannot be written as JSON", type_name(value))};
    }
  }

  std::string out;

 private:
  void number(double value) {
    if (std::isnan(value)) {
      out += "NaN";
    } else if (std::isinf(value)) {
      out += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out += float_text(value);
    }
  }
  void string(const std::string& text) { append(out, Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)); }
  void line(int depth) {
    if (indent_ < 0) return;
    out += '\n';
    append(out, std::string(static_cast<std::size_t>(std::min<int64_t>(indent_, 1000) * depth), ' '));
  }
  void separator(bool first, int depth) {
    if (!first) out += indent_ < 0 ? ", " : ",";
    line(depth + 1);
  }
  void array(const List& list, int depth) {
    out += '[';
    for (std::size_t i = 0; i < list.size(); ++i) {
      separator(i == 0, depth);
      write(list[i], depth + 1);
    }
    if (!list.empty()) line(depth);
    out += ']';
  }
  void object(const Dict& dict, int depth) {
    auto order = dict;
    if (sort_) {
      std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    out += '{';
    for (std::size_t i = 0; i < order.size(); ++i) {
      separator(i == 0, depth);
      string(order[i].first);
      out += ": ";
      write(order[i].second, depth + 1);
    }
    if (!order.empty()) line(depth);
    out += '}';
  }

  int64_t indent_;
  bool sort_;
};

}  // namespace

Value::Value(List value) {
  int deepest = 0;
  for (const auto& item : value) deepest = std::max(deepest, item.nesting);
  nesting = nesting_of(deepest);
  data = std::make_shared<const List>(std::move(value));
}

Value::Value(Dict value) {
  int deepest = 0;
  for (const auto& entry : value) deepest = std::max(deepest, entry.second.nesting);
  nesting = nesting_of(deepest);
  data = std::make_shared<const Dict>(std::move(value));
}

void append(std::string& out, std::string_view text) {
  if (text.size() > kMaxText || out.size() > kMaxText - text.size()) {
    throw Fault{fmt::format("more than {} bytes of text", kMaxText)};
  }
  out += text;
}

const Value* find(const Dict& dict, std::string_view key) {
  for (const auto& [name, value] : dict) {
    if (name == key) return &value;
  }
  return nullptr;
}

void set(Dict& dict, std::string_view key, Value value) {
  for (auto& [name, old] : dict) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  dict.push_back({std::string(key), std::move(value)});
}

bool truth(const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return false;
  if (value.is_number()) return value.number() != 0;
  if (value.is_text()) return !value.text().empty();
  if (value.is_list()) return !value.list().empty();
  if (value.is_dict()) return !value.dict().empty();
  return true;
}

std::string to_text(const Value& value) {
  return write(value, true);
}
std::string to_repr(const Value& value) {
  return write(value, false);
}

std::string to_json(const Value& value, int64_t indent, bool sort) {
  JsonWriter writer(indent, sort);
  writer.write(value);
  return std::move(writer.out);
}

const char* type_name(const Value& value) {
  constexpr const char* kNames[] = {"undefined", "none",   "a boolean", "an integer",  "a float",
                                    "a string",  "a list", "a mapping", "a namespace", "a function"};
  return kNames[value.data.index()];
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.data.index() != b.data.index()) return false;
  if (a.is<Undefined>() || a.is<None>()) return true;
  if (a.is_text()) return a.text() == b.text();
  if (a.is_list()) return std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), equal);
  if (a.is_dict()) {
    if (a.dict().size() != b.dict().size()) return false;
    return std::all_of(a.dict().begin(), a.dict().end(), [&](const auto& entry) {
      const auto* other = find(b.dict(), entry.first);
      return other != nullptr && equal(entry.second, *other);
    });
  }
  if (const auto* space = std::get_if<std::shared_ptr<Namespace>>(&a.data)) {
    return *space == std::get<std::shared_ptr<Namespace>>(b.data);
  }
  return std::get<std::shared_ptr<const Function>>(a.data) == std::get<std::shared_ptr<const Function>>(b.data);
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  if (a.is_text() && b.is_text()) return a.text().compare(b.text());
  if (a.is_list() && b.is_list()) {
    const auto &x = a.list(), &y = b.list();
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return compare(x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
  }
  throw Fault{fmt::format("{} and {} have no order", type_name(a), type_name(b))};
}

bool contains(const Value& container, const Value& item) {
  if (container.is<Undefined>()) return false;
  if (container.is_text()) {
    if (!item.is_text()) throw Fault{fmt::format("'in' a string needs a string, got {}", type_name(item))};
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.is_dict()) return item.is_text() && find(container.dict(), item.text()) != nullptr;
  if (container.is_list()) {
    return std::any_of(container.list().begin(), container.list().end(),
                       [&](const Value& x) { return equal(x, item); });
  }
  throw Fault{fmt::format("'in' needs a string, a list or a mapping, got {}", type_name(container))};
}

List to_list(const Value& value) {
  if (value.is<Undefined>()) return {};
  if (value.is_list()) return value.list();
  List items;
  if (value.is_dict()) {
    for (const auto& entry : value.dict()) items.emplace_back(entry.first);
    return items;
  }
  if (value.is_text()) {
    for (auto& character : split_characters(value.text())) items.emplace_back(std::move(character));
    return items;
  }
  throw Fault{fmt::format("{} cannot be looped over", type_name(value))};
}

std::vector<std::string> split_characters(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty()) {
    const auto length = std::max<std::size_t>(utf8_length(text), 1);
    result.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return result;
}

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Value from_json(const nlohmann::ordered_json& json, int depth) {
  if (depth > kMaxNesting) throw Fault{fmt::format("lists and mappings nested deeper than {}", kMaxNesting)};
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::null: return None{};
    case nlohmann::ordered_json::value_t::boolean: return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
    case nlohmann::ordered_json::value_t::number_unsigned: return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_float: return json.get<double>();
    case nlohmann::ordered_json::value_t::string: return json.get<std::string>();
    case nlohmann::ordered_json::value_t::array: {
      List list;
      for (const auto& item : json) list.push_back(from_json(item, depth + 1));
      return list;
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) dict.push_back({key, from_json(item, depth + 1)});
      return dict;
    }
    default: return Undefined{};
  }
}

}  // namespace winnow::io::jinja
