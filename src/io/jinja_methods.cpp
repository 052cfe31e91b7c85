// Methods of strings, lists and mappings, as Python has them.
#include <algorithm>
#include <map>

#include "jinja_tree.h"
#include "unicode.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

using StringMethod = Value (*)(const std::string&, const Arguments&);

const Value* argument(const Arguments& arguments, std::size_t index, std::string_view name = {}) {
  if (index < arguments.positional.size()) return &arguments.positional[index];
  return name.empty() ? nullptr : find(arguments.named, name);
}

const std::string& want_text(const Arguments& arguments, std::size_t index, const char* method) {
  const auto* value = argument(arguments, index);
  if (value == nullptr || !value->is_text()) throw Fault{fmt::format("{}: a string is wanted", method)};
  return value->text();
}

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// strip: characters of `chars` (blanks if there are none) go from the ends.
std::string strip(const std::string& text, const Arguments& arguments, bool left, bool right) {
  const auto* given = argument(arguments, 0);
  const bool blanks = given == nullptr || given->is<None>();
  const auto set = blanks ? std::vector<std::string>() : split_characters(given->is_text() ? given->text() : "");
  auto parts = split_characters(text);
  const auto goes = [&](const std::string& character) {
    if (!blanks) return std::find(set.begin(), set.end(), character) != set.end();
    return character.size() == 1 ? is_blank(character[0]) : character == "\xc2\xa0" || character == "\xe3\x80\x80";
  };
  std::size_t begin = 0, end = parts.size();
  while (left && begin < end && goes(parts[begin])) ++begin;
  while (right && end > begin && goes(parts[end - 1])) --end;
  std::string result;
  for (auto i = begin; i < end; ++i) result += parts[i];
  return result;
}

List split_blanks(const std::string& text, int64_t most) {
  List parts;
  std::size_t at = 0;
  for (;;) {
    while (at < text.size() && is_blank(text[at])) ++at;
    if (at == text.size()) return parts;
    auto end = at;
    if (static_cast<int64_t>(parts.size()) == most) {
      end = text.size();
      while (is_blank(text[end - 1])) --end;
      parts.emplace_back(text.substr(at, end - at));
      return parts;
    }
    while (end < text.size() && !is_blank(text[end])) ++end;
    parts.emplace_back(text.substr(at, end - at));
    at = end;
  }
}

Value split_text(const std::string& text, const Arguments& arguments) {
  const auto* separator = argument(arguments, 0, "sep");
  const auto* limit = argument(arguments, 1, "maxsplit");
  const auto most = limit == nullptr ? -1 : limit->integer();
  if (separator == nullptr || separator->is<None>()) return split_blanks(text, most);
  if (!separator->is_text() || separator->text().empty()) throw Fault{"split: a separator is wanted"};
  List parts;
  std::size_t at = 0;
  for (;;) {
    const auto next = static_cast<int64_t>(parts.size()) == most ? std::string::npos : text.find(separator->text(), at);
    if (next == std::string::npos) break;
    parts.emplace_back(text.substr(at, next - at));
    at = next + separator->text().size();
  }
  parts.emplace_back(text.substr(at));
  return parts;
}

Value rsplit_text(const std::string& text, const Arguments& arguments) {
  const auto& separator = want_text(arguments, 0, "rsplit");
  if (separator.empty()) throw Fault{"rsplit: a separator is wanted"};
  const auto* limit = argument(arguments, 1, "maxsplit");
  const auto most = limit == nullptr ? -1 : limit->integer();
  List parts;
  auto end = text.size();
  while (static_cast<int64_t>(parts.size()) != most && end >= separator.size()) {
    const auto found = text.rfind(separator, end - separator.size());
    if (found == std::string::npos) break;
    parts.emplace_back(text.substr(found + separator.size(), end - found - separator.size()));
    end = found;
  }
  parts.emplace_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value replace_text(const std::string& text, const Arguments& arguments) {
  const auto &from = want_text(arguments, 0, "replace"), &to = want_text(arguments, 1, "replace");
  const auto* limit = argument(arguments, 2);
  auto left = limit == nullptr || limit->is<None>() ? -1 : limit->integer();
  std::string result;
  if (from.empty()) throw Fault{"replace: the text to be replaced is empty"};
  std::size_t at = 0;
  for (auto next = text.find(from); next != std::string::npos && left != 0; next = text.find(from, at), --left) {
    append(result, std::string_view(text).substr(at, next - at));
    append(result, to);
    at = next + from.size();
  }
  return result + text.substr(at);
}

bool has_end(const std::string& text, const Arguments& arguments, bool front) {
  const auto* wanted = argument(arguments, 0);
  if (wanted == nullptr) throw Fault{"startswith and endswith want a string"};
  const auto test = [&](const Value& value) {
    if (!value.is_text()) throw Fault{"startswith and endswith want a string"};
    return front ? text.starts_with(value.text()) : text.ends_with(value.text());
  };
  if (!wanted->is_list()) return test(*wanted);
  return std::any_of(wanted->list().begin(), wanted->list().end(), test);
}

std::string map_case(const std::string& text, bool upper) {
  std::string result;
  for (const auto code : unicode::to_codes(text))
    unicode::append(result, upper ? unicode::upper(code) : unicode::lower(code));
  return result;
}

// Each letter behind no letter is upper case, the others are lower case.
std::string title(std::string text, bool first_only) {
  bool start = true;
  for (auto& c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter) c = map_case(std::string(1, c), start).front();
    start = !letter && !first_only && !(static_cast<unsigned char>(c) >= 0x80);
  }
  return text;
}

int64_t find_text(const std::string& text, const Arguments& arguments, bool last) {
  const auto& wanted = want_text(arguments, 0, "find");
  const auto found = last ? text.rfind(wanted) : text.find(wanted);
  return found == std::string::npos ? -1 : characters(std::string_view(text).substr(0, found));
}

Value count_text(const std::string& text, const Arguments& arguments) {
  const auto& wanted = want_text(arguments, 0, "count");
  if (wanted.empty()) return characters(text) + 1;
  int64_t count = 0;
  for (auto at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + wanted.size())) ++count;
  return count;
}

template <bool (*Test)(char)>
Value every(const std::string& text, const Arguments&) {
  return !text.empty() && std::all_of(text.begin(), text.end(), Test);
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

Value join_text(const std::string& text, const Arguments& arguments) {
  const auto* items = argument(arguments, 0);
  std::string result;
  bool first = true;
  for (const auto& item : items == nullptr ? List() : to_list(*items)) {
    if (!item.is_text()) throw Fault{fmt::format("join: strings are wanted, got {}", type_name(item))};
    if (!first) append(result, text);
    append(result, item.text());
    first = false;
  }
  return result;
}

Value remove_end(const std::string& text, const Arguments& arguments, bool front) {
  const auto& end = want_text(arguments, 0, "removeprefix and removesuffix");
  if (front) return text.starts_with(end) ? text.substr(end.size()) : text;
  return text.ends_with(end) ? text.substr(0, text.size() - end.size()) : text;
}

Value split_lines(const std::string& text, const Arguments&) {
  List lines;
  for (const auto& line : split(text, '\n'))
    lines.emplace_back(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line);
  if (text.empty() || text.ends_with('\n')) lines.pop_back();
  return lines;
}

const std::map<std::string_view, StringMethod>& string_methods() {
  using S = const std::string&;
  using A = const Arguments&;
  static const std::map<std::string_view, StringMethod> table = {
      {"strip", [](S s, A a) -> Value { return strip(s, a, true, true); }},
      {"lstrip", [](S s, A a) -> Value { return strip(s, a, true, false); }},
      {"rstrip", [](S s, A a) -> Value { return strip(s, a, false, true); }},
      {"split", split_text},
      {"rsplit", rsplit_text},
      {"splitlines", split_lines},
      {"replace", replace_text},
      {"startswith", [](S s, A a) -> Value { return has_end(s, a, true); }},
      {"endswith", [](S s, A a) -> Value { return has_end(s, a, false); }},
      {"upper", [](S s, A) -> Value { return map_case(s, true); }},
      {"lower", [](S s, A) -> Value { return map_case(s, false); }},
      {"title", [](S s, A) -> Value { return title(s, false); }},
      {"capitalize", [](S s, A) -> Value { return title(s, true); }},
      {"find", [](S s, A a) -> Value { return find_text(s, a, false); }},
      {"rfind", [](S s, A a) -> Value { return find_text(s, a, true); }},
      {"count", count_text},
      {"join", join_text},
      {"removeprefix", [](S s, A a) -> Value { return remove_end(s, a, true); }},
      {"removesuffix", [](S s, A a) -> Value { return remove_end(s, a, false); }},
      {"isdigit", every<is_digit>},
      {"isalpha", every<is_alpha>},
      {"isspace", every<is_blank>},
  };
  return table;
}

Value items_of(const Dict& dict, bool keys, bool values) {
  List items;
  for (const auto& [key, value] : dict) {
    if (keys && values) {
      items.emplace_back(List{key, value});
    } else {
      items.push_back(keys ? Value(key) : value);
    }
  }
  return items;
}

// Shared pointers keep the value alive as long as the method.
Value dict_method(const std::shared_ptr<const Dict>& dict, std::string_view name) {
  if (name == "items") return Function([dict](const Arguments&) { return items_of(*dict, true, true); });
  if (name == "keys") return Function([dict](const Arguments&) { return items_of(*dict, true, false); });
  if (name == "values") return Function([dict](const Arguments&) { return items_of(*dict, false, true); });
  if (name == "get") {
    return Function([dict](const Arguments& arguments) -> Value {
      const auto& key = want_text(arguments, 0, "get");
      if (const auto* value = find(*dict, key)) return *value;
      const auto* otherwise = argument(arguments, 1);
      return otherwise == nullptr ? Value(None{}) : *otherwise;
    });
  }
  return {};
}

Value list_method(const std::shared_ptr<const List>& list, std::string_view name) {
  if (name == "count") {
    return Function([list](const Arguments& arguments) -> Value {
      const auto* wanted = argument(arguments, 0);
      if (wanted == nullptr) throw Fault{"count: a value is wanted"};
      return int64_t{
          std::count_if(list->begin(), list->end(), [&](const Value& item) { return equal(item, *wanted); })};
    });
  }
  if (name == "index") {
    return Function([list](const Arguments& arguments) -> Value {
      const auto* wanted = argument(arguments, 0);
      for (std::size_t i = 0; wanted != nullptr && i < list->size(); ++i) {
        if (equal((*list)[i], *wanted)) return static_cast<int64_t>(i);
      }
      throw Fault{"index: the value is not in the list"};
    });
  }
  return {};
}

}  // namespace

Value method(const Value& value, std::string_view name) {
  if (value.is_dict()) return dict_method(std::get<std::shared_ptr<const Dict>>(value.data), name);
  if (value.is_list()) return list_method(std::get<std::shared_ptr<const List>>(value.data), name);
  if (!value.is_text()) return {};
  const auto found = string_methods().find(name);
  if (found == string_methods().end()) return {};
  return Function(
      [text = value.text(), run = found->second](const Arguments& arguments) { return run(text, arguments); });
}

}  // namespace winnow::io::jinja
