#include "jinja_operators.h"

#include <algorithm>
#include <cmath>

#include "jinja_tree.h"
#include "winnow/core/text.h"

namespace winnow::io::jinja {
namespace {

[[noreturn]] void no_meaning(std::string_view op, const Value& left, const Value& right) {
  for (const auto* value : {&left, &right}) {
    if (const auto* undefined = std::get_if<Undefined>(&value->data)) {
      throw Fault{fmt::format("{} is undefined", undefined->name)};
    }
  }
  throw Fault{fmt::format("{} has no meaning for {} and {}", op, type_name(left), type_name(right))};
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) throw Fault{"an integer past 64 bits"};
    if (result == 0 || result == 1) break;
  }
  return exponent % 2 == 0 && base == -1 ? 1 : result;
}

// As in Python: // and % round down.
Value integers(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &result);
  if (op == "-") overflow = __builtin_sub_overflow(a, b, &result);
  if (op == "*") overflow = __builtin_mul_overflow(a, b, &result);
  if (op == "/" || op == "//" || op == "%") {
    if (b == 0) throw Fault{"division by zero"};
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (b == -1) {
      overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
    } else {
      const auto remainder = a % b;
      const bool down = remainder != 0 && (remainder < 0) != (b < 0);
      result = op == "//" ? a / b - (down ? 1 : 0) : remainder + (down ? b : 0);
    }
  }
  if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    result = a == -1 ? (b % 2 == 0 ? 1 : -1) : power(a, b);
  }
  if (overflow) throw Fault{"an integer past 64 bits"};
  return result;
}

Value floats(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) throw Fault{"division by zero"};
  if (op == "/") return a / b;
  const auto down = std::floor(a / b);
  return op == "//" ? Value(down) : Value(a - down * b);
}

std::string joined(std::string a, std::string_view b) {
  append(a, b);
  return a;
}

Value repeated(const Value& text, const Value& times) {
  const auto count = std::max<int64_t>(times.integer(), 0);
  if (count > 0 && text.text().size() > kMaxText / static_cast<std::size_t>(count)) {
    throw Fault{fmt::format("more than {} bytes of text", kMaxText)};
  }
  std::string result;
  for (int64_t i = 0; i < count && !text.text().empty(); ++i) result += text.text();
  return result;
}

Value joined_lists(const List& a, const List& b) {
  if (a.size() + b.size() > kMaxList) throw Fault{fmt::format("a list of more than {} items", kMaxList)};
  auto result = a;
  result.insert(result.end(), b.begin(), b.end());
  return result;
}

// Python's bounds of a slice over `size` items.
int64_t bound(const Value& value, int64_t size, int64_t otherwise, bool forward) {
  if (value.is<None>()) return otherwise;
  auto at = value.integer();
  if (at < 0) at = at < -size ? -1 : at + size;
  return std::clamp<int64_t>(at, forward ? 0 : -1, forward ? size : size - 1);
}

template <typename Item>
std::vector<Item> slice_items(const std::vector<Item>& items, const Value& begin, const Value& end, const Value& by) {
  const auto step = by.is<None>() ? 1 : by.integer();
  const auto size = static_cast<int64_t>(items.size());
  if (step == 0 || step == INT64_MIN) throw Fault{"a slice with a step of 0"};
  const bool forward = step > 0;
  const auto first = bound(begin, size, forward ? 0 : size - 1, forward);
  const auto last = bound(end, size, forward ? size : -1, forward);
  std::vector<Item> result;
  for (auto i = first; forward ? i < last : i > last;) {
    result.push_back(items[static_cast<std::size_t>(i)]);
    if (forward ? step >= last - i : -step >= i - last) break;
    i += step;
  }
  return result;
}

Value item_at(const Value& value, int64_t index, const std::string& shown) {
  const bool text = value.is_text();
  const auto parts = text ? split_characters(value.text()) : std::vector<std::string>();
  const auto size = static_cast<int64_t>(text ? parts.size() : value.list().size());
  if (index < -size || index >= size) return Undefined{shown};
  const auto place = static_cast<std::size_t>(index < 0 ? index + size : index);
  return text ? Value(parts[place]) : value.list()[place];
}

}  // namespace

Value binary(std::string_view op, const Value& left, const Value& right) {
  if (op == "~") return joined(to_text(left), to_text(right));
  if (left.is_number() && right.is_number()) {
    if (left.is<double>() || right.is<double>()) return floats(op, left.number(), right.number());
    return integers(op, left.integer(), right.integer());
  }
  if (op == "+" && left.is_text() && right.is_text()) return joined(left.text(), right.text());
  if (op == "+" && left.is_list() && right.is_list()) return joined_lists(left.list(), right.list());
  if (op == "*" && left.is_text() && right.is<int64_t>()) return repeated(left, right);
  if (op == "*" && right.is_text() && left.is<int64_t>()) return repeated(right, left);
  no_meaning(op, left, right);
}

Value negate(std::string_view op, const Value& value) {
  if (op == "not") return !truth(value);
  if (!value.is_number()) no_meaning(op, value, value);
  if (op == "+") return value;
  return value.is<double>() ? Value(-value.number()) : integers("-", 0, value.integer());
}

bool holds(std::string_view op, const Value& left, const Value& right) {
  if (op == "==") return equal(left, right);
  if (op == "!=") return !equal(left, right);
  if (op == "in") return contains(right, left);
  if (op == "not in") return !contains(right, left);
  if (left.is<Undefined>() || right.is<Undefined>()) no_meaning(op, left, right);
  const auto order = compare(left, right);
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

Value attribute(const Value& value, const std::string& name) {
  if (const auto* undefined = std::get_if<Undefined>(&value.data)) {
    throw Fault{fmt::format("{} is undefined", undefined->name)};
  }
  if (const auto* space = std::get_if<std::shared_ptr<Namespace>>(&value.data)) {
    const auto* found = find((*space)->members, name);
    return found == nullptr ? Value(Undefined{name}) : *found;
  }
  auto function = method(value, name);
  if (!function.is<Undefined>()) return function;
  const auto* found = value.is_dict() ? find(value.dict(), name) : nullptr;
  return found == nullptr ? Value(Undefined{name}) : *found;
}

Value subscript(const Value& value, const Value& index) {
  if (value.is_dict() && index.is_text()) {
    const auto* found = find(value.dict(), index.text());
    if (found != nullptr) return *found;
    auto function = method(value, index.text());
    return function.is<Undefined>() ? Value(Undefined{index.text()}) : function;
  }
  if (index.is_text()) return attribute(value, index.text());
  if ((value.is_list() || value.is_text()) && index.is<int64_t>()) {
    return item_at(value, index.integer(), fmt::format("item {}", index.integer()));
  }
  if (value.is<Undefined>()) throw Fault{fmt::format("{} is undefined", std::get<Undefined>(value.data).name)};
  return Undefined{printable(to_text(index), 40)};
}

Value slice(const Value& value, const Value& begin, const Value& end, const Value& by) {
  if (value.is_list()) return slice_items(value.list(), begin, end, by);
  if (!value.is_text()) throw Fault{fmt::format("{} cannot be sliced", type_name(value))};
  std::string text;
  for (const auto& character : slice_items(split_characters(value.text()), begin, end, by)) text += character;
  return text;
}

}  // namespace winnow::io::jinja
