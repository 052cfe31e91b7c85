#include "winnow/core/options.h"

#include <algorithm>
#include <cmath>

#include "options_text.h"
#include "winnow/core/text.h"

namespace winnow {

bool Range::contains(double value) const {
  if (std::isnan(value)) return false;
  if (low && (low_open ? value <= *low : value < *low)) return false;
  return !(high && (high_open ? value >= *high : value > *high));
}

bool Range::contains(std::string_view text) const {
  return choices.empty() || std::find(choices.begin(), choices.end(), text) != choices.end();
}

std::string Range::text() const {
  if (!choices.empty()) return fmt::format("one of {}", join(choices));
  if (low && high) return fmt::format("in {}{}, {}{}", low_open ? '(' : '[', *low, *high, high_open ? ')' : ']');
  if (low) return fmt::format("{} {}", low_open ? ">" : ">=", *low);
  if (high) return fmt::format("{} {}", high_open ? "<" : "<=", *high);
  return "";
}

Range in_range(double low, double high, Ends ends) {
  return {.low = low,
          .high = high,
          .low_open = ends == Ends::open || ends == Ends::left_open,
          .high_open = ends == Ends::open || ends == Ends::right_open,
          .choices = {}};
}

Range at_least(double low) {
  return {.low = low, .high = {}, .choices = {}};
}
Range above(double low) {
  return {.low = low, .high = {}, .low_open = true, .choices = {}};
}
Range at_most(double high) {
  return {.low = {}, .high = high, .choices = {}};
}
Range below(double high) {
  return {.low = {}, .high = high, .high_open = true, .choices = {}};
}
Range one_of(std::vector<std::string> choices) {
  return {.low = {}, .high = {}, .choices = std::move(choices)};
}

namespace detail {

template <>
const ValueType& value_type<bool>() {
  static const ValueType type{.kind = ValueKind::boolean};
  return type;
}
template <>
const ValueType& value_type<int64_t>() {
  static const ValueType type{.kind = ValueKind::int64};
  return type;
}
template <>
const ValueType& value_type<uint64_t>() {
  static const ValueType type{.kind = ValueKind::uint64};
  return type;
}
template <>
const ValueType& value_type<double>() {
  static const ValueType type{.kind = ValueKind::real};
  return type;
}
template <>
const ValueType& value_type<std::string>() {
  static const ValueType type{.kind = ValueKind::text};
  return type;
}

void add_field(Table& table, Field field) {
  const auto is_key_char = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  WINNOW_CHECK(!field.key.empty() && std::all_of(field.key.begin(), field.key.end(), is_key_char),
               "{}: a key must be of a-z, 0-9 and _, got \"{}\"", table.title, printable(field.key));
  for (const auto& other : table.fields) {
    WINNOW_CHECK(other.key != field.key, "{}: key {} is there twice", table.title, field.key);
  }
  table.fields.push_back(std::move(field));
}

std::string range_problem(const ValueType& type, const Range& range, const void* value) {
  switch (type.kind) {
    case ValueKind::int64:
      if (range.contains(static_cast<double>(*static_cast<const int64_t*>(value)))) return "";
      break;
    case ValueKind::uint64:
      if (range.contains(static_cast<double>(*static_cast<const uint64_t*>(value)))) return "";
      break;
    case ValueKind::real:
      if (range.contains(*static_cast<const double*>(value))) return "";
      break;
    case ValueKind::text:
      if (range.contains(std::string_view(*static_cast<const std::string*>(value)))) return "";
      break;
    case ValueKind::enumeration: {
      const auto number = type.get_enum(value);
      for (const auto& [name, candidate] : type.names) {
        if (candidate == number) return "";
      }
      break;
    }
    default: return "";
  }
  const auto wanted = range.text().empty() ? type_text(type) : range.text();
  return fmt::format("must be {}, got {}", wanted, flow_text(type, value, Notation::yaml));
}

namespace {

// Visits the scalars of a value; the first problem throws.
void check_value(const ValueType& type, const Range& range, void* value, const std::string& title,
                 const std::string& path) {
  switch (type.kind) {
    case ValueKind::structure:
      for (const auto& field : type.table().fields) {
        check_value(*field.type, *field.range, field.in(value), title, path + "." + field.key);
      }
      return;
    case ValueKind::list:
    case ValueKind::optional:
      for (int64_t i = 0; i < type.size(value); ++i) {
        const auto element = type.kind == ValueKind::list ? fmt::format("{}[{}]", path, i) : path;
        check_value(type.element(), range, type.at(value, i), title, element);
      }
      return;
    default: {
      const auto problem = range_problem(type, range, value);
      WINNOW_CHECK(problem.empty(), "{}: {} {}", title, path, problem);
    }
  }
}

void run_rules_within(const ValueType& type, void* value) {
  if (type.kind == ValueKind::structure) {
    for (const auto& field : type.table().fields) run_rules_within(*field.type, field.in(value));
    run_rules(type.table(), value);
  } else if (type.kind == ValueKind::list || type.kind == ValueKind::optional) {
    for (int64_t i = 0; i < type.size(value); ++i) run_rules_within(type.element(), type.at(value, i));
  }
}

}  // namespace

void run_rules(const Table& table, const void* object) {
  for (const auto& rule : table.rules) rule.call(rule.stored, object);
}

void check(const Table& table, const void* object) {
  auto* mutable_object = const_cast<void*>(object);  // only read: ValueType::at serves readers and writers
  for (const auto& field : table.fields) {
    check_value(*field.type, *field.range, field.in(mutable_object), table.title, field.key);
  }
  for (const auto& field : table.fields) run_rules_within(*field.type, field.in(mutable_object));
  run_rules(table, object);
}

}  // namespace detail
}  // namespace winnow
