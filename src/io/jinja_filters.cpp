// Filters and tests: x | trim, x is defined.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <map>

#include "jinja_tree.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

using Filter = Value (*)(const Value&, const Arguments&);
using Test = bool (*)(const Value&, const Arguments&);
using V = const Value&;
using A = const Arguments&;

const Value* argument(A arguments, std::size_t index, std::string_view name = {}) {
  if (index < arguments.positional.size()) return &arguments.positional[index];
  return name.empty() ? nullptr : find(arguments.named, name);
}

int64_t integer_or(A arguments, std::size_t index, std::string_view name, int64_t otherwise) {
  const auto* value = argument(arguments, index, name);
  if (value == nullptr || value->is<None>()) return otherwise;
  if (!value->is<int64_t>() && !value->is<bool>()) throw Fault{fmt::format("{} must be an integer", name)};
  return value->integer();
}

bool flag(A arguments, std::size_t index, std::string_view name) {
  const auto* value = argument(arguments, index, name);
  return value != nullptr && truth(*value);
}

// The member a.b of each item.
Value member(V item, std::string_view path) {
  Value value = item;
  for (const auto& part : split(path, '.')) {
    const auto* found = value.is_dict() ? find(value.dict(), part) : nullptr;
    value = found == nullptr ? Value(Undefined{part}) : Value(*found);
  }
  return value;
}

// What the filter of a string method does with the text of the value.
Value text_method(V value, std::string_view name, A arguments) {
  const auto function = method(to_text(value), name);
  return (*std::get<std::shared_ptr<const Function>>(function.data))(arguments);
}

Value length(V value, A) {
  if (value.is<Undefined>()) return int64_t{0};
  if (value.is_text()) return characters(value.text());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().size());
  if (value.is_list()) return static_cast<int64_t>(value.list().size());
  throw Fault{fmt::format("{} has no length", type_name(value))};
}

Value to_integer(V value, A arguments) {
  const auto* otherwise = argument(arguments, 0, "default");
  const Value fallback = otherwise == nullptr ? Value(int64_t{0}) : *otherwise;
  if (value.is<double>()) {
    const auto number = std::trunc(value.number());
    return std::abs(number) < 9e18 ? Value(static_cast<int64_t>(number)) : fallback;
  }
  if (value.is_number()) return value.integer();
  if (!value.is_text()) return fallback;
  const auto text = trim(value.text());
  int64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  return status == std::errc() && end == text.data() + text.size() ? Value(number) : fallback;
}

Value to_float(V value, A arguments) {
  const auto* otherwise = argument(arguments, 0, "default");
  if (value.is_number()) return value.number();
  if (value.is_text()) {
    const auto text = std::string(trim(value.text()));
    char* end = nullptr;
    const auto number = std::strtod(text.c_str(), &end);
    if (!text.empty() && end == text.c_str() + text.size()) return number;
  }
  return otherwise == nullptr ? Value(0.0) : *otherwise;
}

Value join_items(V value, A arguments) {
  const auto* separator = argument(arguments, 0, "d");
  const auto* attribute = argument(arguments, 1, "attribute");
  std::string result;
  bool first = true;
  for (const auto& item : to_list(value)) {
    if (!first && separator != nullptr) append(result, to_text(*separator));
    first = false;
    append(result, to_text(attribute == nullptr ? item : member(item, to_text(*attribute))));
  }
  return result;
}

Value json_text(V value, A arguments) {
  const auto* sort = find(arguments.named, "sort_keys");
  return to_json(value, integer_or(arguments, 0, "indent", -1), sort != nullptr && truth(*sort));
}

// Arguments of a filter or test inside another: map("join", ", ").
Arguments rest(A arguments, std::size_t from) {
  Arguments result{.named = arguments.named};
  for (auto i = from; i < arguments.positional.size(); ++i) result.positional.push_back(arguments.positional[i]);
  return result;
}

Value map_items(V value, A arguments) {
  List result;
  const auto* attribute = find(arguments.named, "attribute");
  const auto* otherwise = find(arguments.named, "default");
  const auto name = attribute == nullptr && !arguments.positional.empty() ? to_text(arguments.positional[0]) : "";
  if (attribute == nullptr && !is_filter(name))
    throw Fault{fmt::format("map: the filter {} is not known", printable(name, 40))};
  for (const auto& item : to_list(value)) {
    if (attribute == nullptr) {
      result.push_back(apply_filter(name, item, rest(arguments, 1)));
      continue;
    }
    auto found = member(item, to_text(*attribute));
    result.push_back(found.is<Undefined>() && otherwise != nullptr ? *otherwise : std::move(found));
  }
  return result;
}

// select, reject, selectattr and rejectattr.
Value choose(V value, A arguments, bool by_attribute, bool wanted) {
  const std::size_t first = by_attribute ? 1 : 0;
  if (arguments.positional.size() < first) throw Fault{"an attribute is wanted"};
  const auto test = arguments.positional.size() > first ? to_text(arguments.positional[first]) : "";
  if (!test.empty() && !is_test(test)) throw Fault{fmt::format("the test {} is not known", printable(test, 40))};
  List result;
  for (const auto& item : to_list(value)) {
    const auto subject = by_attribute ? member(item, to_text(arguments.positional[0])) : item;
    const bool holds = test.empty() ? truth(subject) : apply_test(test, subject, rest(arguments, first + 1));
    if (holds == wanted) result.push_back(item);
  }
  return result;
}

// Text without regard to case, other values as they are.
Value folded(V value, bool case_sensitive) {
  return value.is_text() && !case_sensitive ? text_method(value, "lower", {}) : value;
}

Value sort_items(V value, A arguments) {
  auto items = to_list(value);
  const bool reverse = flag(arguments, 0, "reverse"), sensitive = flag(arguments, 1, "case_sensitive");
  const auto* attribute = argument(arguments, 2, "attribute");
  const auto key = [&](V item) {
    return folded(attribute == nullptr || attribute->is<None>() ? item : member(item, to_text(*attribute)), sensitive);
  };
  std::vector<std::pair<Value, Value>> order;
  for (auto& item : items) order.emplace_back(key(item), item);
  for (std::size_t i = 1; i < order.size(); ++i)
    compare(order[i - 1].first, order[i].first);  // a Fault if there is none
  std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    return reverse ? compare(b.first, a.first) < 0 : compare(a.first, b.first) < 0;
  });
  List result;
  for (auto& [name, item] : order) result.push_back(std::move(item));
  return result;
}

Value unique_items(V value, A arguments) {
  const bool sensitive = flag(arguments, 0, "case_sensitive");
  List seen, result;
  for (const auto& item : to_list(value)) {
    const auto key = folded(item, sensitive);
    if (contains(seen, key)) continue;
    seen.push_back(key);
    result.push_back(item);
  }
  return result;
}

Value dict_items(V value, A) {
  if (value.is<Undefined>()) return List{};
  if (!value.is_dict()) throw Fault{fmt::format("items: a mapping is wanted, got {}", type_name(value))};
  List result;
  for (const auto& [key, item] : value.dict()) result.emplace_back(List{key, item});
  return result;
}

Value dict_sorted(V value, A arguments) {
  auto items = dict_items(value, {}).list();
  const bool sensitive = flag(arguments, 0, "case_sensitive"), reverse = flag(arguments, 2, "reverse");
  const auto* by = argument(arguments, 1, "by");
  const std::size_t part = by != nullptr && to_text(*by) == "value" ? 1 : 0;
  const auto less = [&](V a, V b) {
    return compare(folded(a.list()[part], sensitive), folded(b.list()[part], sensitive)) < 0;
  };
  std::stable_sort(items.begin(), items.end(), [&](V a, V b) { return reverse ? less(b, a) : less(a, b); });
  return items;
}

Value reversed(V value, A) {
  auto items = to_list(value);
  std::reverse(items.begin(), items.end());
  if (!value.is_text()) return items;
  return join_items(items, {});
}

Value indented(V value, A arguments) {
  const auto* width = argument(arguments, 0, "width");
  const auto by =
      width != nullptr && width->is_text()
          ? width->text()
          : std::string(static_cast<std::size_t>(std::clamp<int64_t>(integer_or(arguments, 0, "width", 4), 0, 1000)),
                        ' ');
  const bool first = flag(arguments, 1, "first"), blank = flag(arguments, 2, "blank");
  const auto lines = split(to_text(value), '\n');
  std::string result;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) append(result, "\n");
    if (i == 0 ? first : blank || !lines[i].empty()) append(result, by);
    append(result, lines[i]);
  }
  return result;
}

Value escaped(V value, A) {
  std::string result;
  for (const char c : to_text(value)) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&#34;"; break;
      case '\'': result += "&#39;"; break;
      default: result += c;
    }
  }
  return result;
}

Value end_item(V value, bool first) {
  const auto items = to_list(value);
  if (items.empty()) return Undefined{"an item of an empty list"};
  return first ? items.front() : items.back();
}

Value extreme(V value, bool largest) {
  const auto items = to_list(value);
  if (items.empty()) return Undefined{"an item of an empty list"};
  const auto less = [](V a, V b) { return compare(a, b) < 0; };
  return largest ? *std::max_element(items.begin(), items.end(), less)
                 : *std::min_element(items.begin(), items.end(), less);
}

Value total(V value, A arguments) {
  const auto* attribute = argument(arguments, 0, "attribute");
  double sum = 0;
  bool whole = true;
  for (const auto& item : to_list(value)) {
    const auto number = attribute == nullptr ? item : member(item, to_text(*attribute));
    if (!number.is_number()) throw Fault{fmt::format("sum: numbers are wanted, got {}", type_name(number))};
    whole = whole && !number.is<double>();
    sum += number.number();
  }
  return whole && std::abs(sum) < 9e18 ? Value(static_cast<int64_t>(sum)) : Value(sum);
}

Value rounded(V value, A arguments) {
  const auto scale = std::pow(10.0, static_cast<double>(integer_or(arguments, 0, "precision", 0)));
  return std::nearbyint(value.number() * scale) / scale;
}

Value negative(V value) {
  if (value.is<double>()) return -value.number();
  if (value.integer() == INT64_MIN) throw Fault{"an integer past 64 bits"};
  return -value.integer();
}

Value default_value(V value, A arguments) {
  const auto* otherwise = argument(arguments, 0, "default_value");
  const bool missing = value.is<Undefined>() || (flag(arguments, 1, "boolean") && !truth(value));
  return !missing ? value : otherwise == nullptr ? Value("") : *otherwise;
}

const std::map<std::string_view, Filter>& filters() {
  static const std::map<std::string_view, Filter> table = {
      {"abs", [](V v, A) -> Value { return v.number() < 0 ? negative(v) : v; }},
      {"capitalize", [](V v, A a) { return text_method(v, "capitalize", a); }},
      {"count", length},
      {"d", default_value},
      {"default", default_value},
      {"dictsort", dict_sorted},
      {"e", escaped},
      {"escape", escaped},
      {"first", [](V v, A) { return end_item(v, true); }},
      {"float", to_float},
      {"indent", indented},
      {"int", to_integer},
      {"items", dict_items},
      {"join", join_items},
      {"last", [](V v, A) { return end_item(v, false); }},
      {"length", length},
      {"list", [](V v, A) -> Value { return to_list(v); }},
      {"lower", [](V v, A a) { return text_method(v, "lower", a); }},
      {"map", map_items},
      {"max", [](V v, A) { return extreme(v, true); }},
      {"min", [](V v, A) { return extreme(v, false); }},
      {"reject", [](V v, A a) { return choose(v, a, false, false); }},
      {"rejectattr", [](V v, A a) { return choose(v, a, true, false); }},
      {"replace", [](V v, A a) { return text_method(v, "replace", a); }},
      {"reverse", reversed},
      {"round", rounded},
      {"safe", [](V v, A) { return v; }},
      {"select", [](V v, A a) { return choose(v, a, false, true); }},
      {"selectattr", [](V v, A a) { return choose(v, a, true, true); }},
      {"sort", sort_items},
      {"string", [](V v, A) -> Value { return to_text(v); }},
      {"sum", total},
      {"title", [](V v, A a) { return text_method(v, "title", a); }},
      {"tojson", json_text},
      {"trim", [](V v, A a) { return text_method(v, "strip", a); }},
      {"unique", unique_items},
      {"upper", [](V v, A a) { return text_method(v, "upper", a); }},
  };
  return table;
}

V want(A arguments) {
  if (arguments.positional.empty()) throw Fault{"a test wants a value to compare with"};
  return arguments.positional[0];
}

int64_t whole(V value) {
  if (!value.is<int64_t>()) throw Fault{fmt::format("an integer is wanted, got {}", type_name(value))};
  return value.integer();
}

const std::map<std::string_view, Test>& tests() {
  static const std::map<std::string_view, Test> table = {
      {"defined", [](V v, A) { return !v.is<Undefined>(); }},
      {"undefined", [](V v, A) { return v.is<Undefined>(); }},
      {"none", [](V v, A) { return v.is<None>(); }},
      {"string", [](V v, A) { return v.is_text(); }},
      {"mapping", [](V v, A) { return v.is_dict(); }},
      {"sequence", [](V v, A) { return v.is_list() || v.is_dict() || v.is_text(); }},
      {"iterable", [](V v, A) { return v.is_list() || v.is_dict() || v.is_text() || v.is<Undefined>(); }},
      {"number", [](V v, A) { return v.is_number(); }},
      {"integer", [](V v, A) { return v.is<int64_t>(); }},
      {"float", [](V v, A) { return v.is<double>(); }},
      {"boolean", [](V v, A) { return v.is<bool>(); }},
      {"true", [](V v, A) { return v.is<bool>() && truth(v); }},
      {"false", [](V v, A) { return v.is<bool>() && !truth(v); }},
      {"callable", [](V v, A) { return v.is<std::shared_ptr<const Function>>(); }},
      {"odd", [](V v, A) { return whole(v) % 2 != 0; }},
      {"even", [](V v, A) { return whole(v) % 2 == 0; }},
      {"divisibleby",
       [](V v, A a) {
         const auto by = whole(want(a));
         if (by == 0 || by == -1) return by != 0;
         return whole(v) % by == 0;
       }},
      {"equalto", [](V v, A a) { return equal(v, want(a)); }},
      {"eq", [](V v, A a) { return equal(v, want(a)); }},
      {"sameas", [](V v, A a) { return v.data.index() == want(a).data.index() && equal(v, want(a)); }},
      {"ne", [](V v, A a) { return !equal(v, want(a)); }},
      {"lt", [](V v, A a) { return compare(v, want(a)) < 0; }},
      {"le", [](V v, A a) { return compare(v, want(a)) <= 0; }},
      {"gt", [](V v, A a) { return compare(v, want(a)) > 0; }},
      {"ge", [](V v, A a) { return compare(v, want(a)) >= 0; }},
      {"in", [](V v, A a) { return contains(want(a), v); }},
      {"lower", [](V v, A) { return v.is_text() && equal(text_method(v, "lower", {}), v); }},
      {"upper", [](V v, A) { return v.is_text() && equal(text_method(v, "upper", {}), v); }},
  };
  return table;
}

}  // namespace

bool is_filter(std::string_view name) {
  return filters().contains(name);
}
bool is_test(std::string_view name) {
  return tests().contains(name);
}
Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments) {
  return filters().at(name)(input, arguments);
}
bool apply_test(std::string_view name, const Value& input, const Arguments& arguments) {
  return tests().at(name)(input, arguments);
}

}  // namespace winnow::io::jinja
