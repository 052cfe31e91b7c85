// Operators of templates on values. Each throws Fault where it has no meaning.
#pragma once

#include <string>
#include <string_view>

#include "jinja_value.h"

namespace winnow::io::jinja {

inline constexpr std::size_t kMaxList = 1'000'000;

Value binary(std::string_view op, const Value& left, const Value& right);  // + - ~ * / // % **
Value negate(std::string_view op, const Value& value);                     // - + not
bool holds(std::string_view op, const Value& left, const Value& right);    // == != < <= > >= in, not in
Value attribute(const Value& value, const std::string& name);              // value.name
Value subscript(const Value& value, const Value& index);                   // value[index]
Value slice(const Value& value, const Value& begin, const Value& end, const Value& by);

}  // namespace winnow::io::jinja
